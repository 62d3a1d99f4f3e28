import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { type Harness, startHarness } from './harness.ts'
import { runTask } from './tick.ts'
import { startWorker } from './worker.ts'

let h: Harness
beforeAll(async () => {
  h = await startHarness()
})
afterAll(() => h.stop())
beforeEach(() => fetch(`${h.practice.url}/_script`, { method: 'DELETE' }))

async function claimOne(): Promise<Awaited<ReturnType<typeof h.database.claim>>[number]> {
  const [lease] = await h.database.claim({
    worker: 'test',
    queues: ['default'],
    tasks: 1,
    leaseSeconds: 90,
  })
  if (!lease) throw new Error('nothing to claim')
  return lease
}

const always = (): boolean => true

test('one model call: steps, call, spend and output are one commit', async () => {
  const id = await h.enqueue(await h.agent({}), { question: 'Which day is it?' })
  expect(await runTask(await claimOne(), h.context, always)).toBe('completed')
  const task = await h.task(id)
  expect(task).toMatchObject({ status: 'completed', step_count: 1, attempt: 1, lease_until: null })
  const calls = await h.sql`select * from nightshift.llm_calls where task_id = ${id}`
  expect(calls).toHaveLength(1)
  expect(calls[0]).toMatchObject({
    provider: 'practice',
    model: 'practice-mid',
    step_seq: 1,
    error: null,
  })
  expect(JSON.stringify(calls[0]?.prompt)).toContain('Which day is it?')
  expect((calls[0]?.input_tokens ?? 0) > 0 && (calls[0]?.output_tokens ?? 0) > 0).toBe(true)
})

test('a risky tool waits for a person without a worker and goes on after the decision', async () => {
  await h.tool('pay', { risk: 'high', effects: 'external' })
  const agent = await h.agent({ tools: ['pay'] }, 'payer')
  const id = await h.enqueue(agent, { bill: 7 })
  await h.script([
    { match: { nth: 1 }, respond: { tool_calls: [{ name: 'pay', arguments: { amount: 7 } }] } },
    { match: { nth: 2 }, respond: { text: 'paid' } },
  ])
  expect(await runTask(await claimOne(), h.context, always)).toBe('awaiting_approval')
  const [card] = await h.sql`select * from nightshift.cards where task_id = ${id}`
  expect(card).toMatchObject({
    status: 'open',
    risk: 'high',
    action: { tool: 'pay', args: { amount: 7 } },
  })
  expect(
    await h.database.claim({ worker: 'test', queues: ['default'], tasks: 1, leaseSeconds: 90 }),
  ).toEqual([])
  await h.sql`select nightshift.decide(${card?.id}, 'approve', ${card?.digest})`
  expect(await runTask(await claimOne(), h.context, always)).toBe('completed')
  const steps =
    await h.sql`select kind, action, output from nightshift.steps where task_id = ${id} order by seq`
  expect(steps.map((step) => step.kind)).toEqual([
    'model_call',
    'ask',
    'decision',
    'tool_call',
    'model_call',
  ])
  expect(steps[3]?.output).toEqual({ recorded: { amount: 7 } })
})

test('the worker gives a task back at a checkpoint when time is up, and nothing is paid twice', async () => {
  await h.tool('note', {})
  const agent = await h.agent({ tools: ['note'] }, 'noter')
  const id = await h.enqueue(agent)
  await h.script([
    { match: { nth: 1 }, respond: { tool_calls: [{ name: 'note', arguments: {} }] } },
    { match: { nth: 2 }, respond: { text: 'done' } },
  ])
  expect(await runTask(await claimOne(), h.context, () => false)).toBe('pending')
  expect(await runTask(await claimOne(), h.context, always)).toBe('completed')
  expect(await h.task(id)).toMatchObject({ attempt: 1, step_count: 3 })
  const [{ count } = { count: 0 }] =
    await h.sql`select count(*)::int from nightshift.llm_calls where task_id = ${id}`
  expect(count).toBe(2)
})

test.each([
  [{ status: 429, headers: { 'retry-after': '7' } }, 'rate_limit', 'scheduled'],
  [{ status: 529 }, 'rate_limit', 'scheduled'],
  [{ cut_after_chunks: 1 }, 'external', 'scheduled'],
  [{ status: 401 }, 'permission', 'failed'],
])('a provider fault %o becomes class %s', async (fault, failureClass, status) => {
  const id = await h.enqueue(await h.agent({}))
  await h.script([{ match: {}, fault }])
  expect(await runTask(await claimOne(), h.context, always)).toBe(status)
  const [call] = await h.sql`select * from nightshift.llm_calls where task_id = ${id}`
  expect(call?.error).toMatchObject({ message: expect.any(String) })
  const task = await h.task(id)
  expect(status === 'failed' ? task.failure_class : failureClass).toBe(failureClass)
})

test('waiting for a rate limit burns no attempt and waits exactly as told', async () => {
  const id = await h.enqueue(await h.agent({}))
  await h.script([{ match: {}, fault: { status: 429, headers: { 'retry-after': '7' } } }])
  await runTask(await claimOne(), h.context, always)
  const [row] = await h.sql`
    select attempt_open, round(extract(epoch from run_at - progress_at))::int as wait from nightshift.tasks where id = ${id}`
  expect(row).toEqual({ attempt_open: true, wait: 7 })
})

test('a budget that the next call could break stops before the call', async () => {
  await h.sql`update nightshift.models set output_usd = 1000 where name = 'practice-mid'`
  const id = await h.enqueue(await h.agent({ budget_usd: 0.01 }, 'poor'))
  expect(await runTask(await claimOne(), h.context, always)).toBe('failed')
  expect(await h.task(id)).toMatchObject({ failure_class: 'budget', spent_usd: '0.000000' })
  expect(await (await fetch(`${h.practice.url}/_calls`)).json()).toEqual([])
  await h.sql`update nightshift.models set output_usd = 0 where name = 'practice-mid'`
})

test('a zombie that wakes after its lease was rescued can write nothing', async () => {
  const id = await h.enqueue(await h.agent({}))
  const zombie = await claimOne()
  await h.sql`update nightshift.tasks set lease_until = now() - interval '1 second' where id = ${id}`
  await h.sql`select nightshift_private.sweep()`
  const live = await claimOne()
  await expect(runTask(zombie, h.context, always)).rejects.toMatchObject({ code: 'NS030' })
  expect(await h.database.heartbeat([zombie], 90)).toEqual([])
  expect(await runTask(live, h.context, always)).toBe('completed')
  await expect(h.database.release(zombie)).rejects.toMatchObject({ code: 'NS030' })
})

test('a worker drains a queue concurrently, answers wakes, and gives leases back when stopped', async () => {
  const agent = await h.agent({}, 'bulk')
  const ids = await Promise.all(Array.from({ length: 12 }, () => h.enqueue(agent)))
  const stopping = new AbortController()
  const worker = startWorker({
    ...h.context,
    name: 'w',
    queues: ['default'],
    concurrency: 4,
    pollMs: 50,
    budgetMs: null,
    signal: stopping.signal,
    sweeps: false,
    log: () => {},
  })
  await expect
    .poll(
      async () =>
        (
          await h.sql`select count(*)::int as n from nightshift.tasks where id = any(${ids}) and status = 'completed'`
        )[0]?.n,
      { timeout: 10_000 },
    )
    .toBe(12)
  await h.script([{ match: {}, fault: { hang: true } }])
  const hanging = await h.enqueue(agent)
  await expect.poll(async () => (await h.task(hanging)).status, { timeout: 5_000 }).toBe('running')
  stopping.abort()
  await worker.done
  expect(worker.wake()).toBe(false)
  expect(await h.task(hanging)).toMatchObject({ status: 'pending', attempt: 1 })
  await h.sql`select nightshift.cancel(${hanging})`
})
