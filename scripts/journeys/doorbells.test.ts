import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import postgres from 'postgres'
import { describe, type TestContext, test } from 'vitest'
import { noFaults } from '../../packages/local/src/faults.ts'
import { startNet } from '../../packages/local/src/net.ts'
import { freshDatabase } from '../../packages/local/src/testing.ts'
import { type Person, type System, startSystem } from './harness.ts'

// Three doorbells, one truth: whatever Realtime and pg_net lose or double, the same work is done, once.
// Each case has a stack of its own, so that no worker lingers from the one before.

interface Doorbells {
  realtimeLoss: number
  netLoss: number
  duplicate: number
}

const pairs = 6

/** A system whose doorbells are this bad before anything is enqueued. */
async function systemWith(
  { realtimeLoss, netLoss, duplicate }: Doorbells,
  { onTestFinished }: TestContext,
): Promise<System> {
  const system = await startSystem()
  onTestFinished(() => system.stop())
  system.faults.realtime.loss = realtimeLoss
  Object.assign(system.faults.net, { loss: netLoss, duplicate })
  return system
}

/** Hands in questions and, waiting for each, its summary: twelve tasks that wake one another. */
async function enqueueBatch(person: Person): Promise<void> {
  const { data: project } = await person.db
    .rpc('create_project', { name: 'Doorbells' })
    .throwOnError()
  for (const name of ['answer', 'sum-up']) {
    const definition = { instructions: 'Answer in one sentence.', tier: 'cheap' }
    await person.db.rpc('set_agent', { project, name, definition }).throwOnError()
  }
  const tasks = Array.from({ length: pairs }, (_, index) => [
    { project, agent: 'answer', key: `answer-${index}`, input: { question: `What is ${index}?` } },
    { project, agent: 'sum-up', key: `sum-up-${index}`, after: [`answer-${index}`] },
  ])
  await person.db.rpc('enqueue', { tasks: tasks.flat() }).throwOnError()
}

/** What must be the same in every case. */
async function finalState({ db }: Person): Promise<unknown> {
  const read = async (table: string, columns: string) =>
    (await db.from(table).select(columns).order('id').throwOnError()).data as unknown as {
      id: number
      task_id: number
    }[]
  const [tasks, calls] = await Promise.all([
    read('tasks', 'id,agent,status,attempt,rescues,step_count'),
    read('llm_calls', 'id,task_id,step_seq,error'),
  ])
  const { data: steps } = await db
    .from('steps')
    .select('task_id,seq,kind')
    .order('task_id')
    .order('seq')
    .throwOnError()
  return tasks.map(({ id, ...task }) => ({
    ...task,
    steps: steps.filter((step) => step.task_id === id).map(({ seq, kind }) => `${seq} ${kind}`),
    calls: calls.filter((call) => call.task_id === id).map(({ id: _, task_id, ...call }) => call),
  }))
}

const expected = Array.from({ length: pairs }, () =>
  ['answer', 'sum-up'].map((agent) => ({
    agent,
    status: 'completed',
    attempt: 1,
    rescues: 0,
    step_count: 1,
    steps: ['1 model_call'],
    calls: [{ step_seq: 1, error: null }],
  })),
).flat()

/** Kinds of workers that claimed tasks, and how long the slowest of the first tasks waited, s. */
async function starts({ sql }: System): Promise<{ seen: string[]; slowest: number }> {
  const events = await sql`
    select distinct split_part(actor, '-', 1) as worker from nightshift.audit_events
    where action = 'task.running' order by 1`
  const [first] = await sql`
    select max(extract(epoch from started_at - created_at))::float as slowest
    from nightshift.tasks where agent = 'answer'`
  return { seen: events.map(({ worker }) => worker), slowest: first?.slowest }
}

/** The kinds of workers that must have come: an edge worker comes only at a nudge of pg_net. */
const cases: [name: string, doorbells: Doorbells, workers: string[]][] = [
  ['both dead', { realtimeLoss: 1, netLoss: 1, duplicate: 0 }, ['host']],
  ['only Realtime alive', { realtimeLoss: 0, netLoss: 1, duplicate: 0 }, ['host']],
  ['half of everything lost', { realtimeLoss: 0.5, netLoss: 0.5, duplicate: 0 }, []],
  ['only pg_net alive', { realtimeLoss: 1, netLoss: 0, duplicate: 0 }, ['edge']],
  ['pg_net sends all eleven times', { realtimeLoss: 0, netLoss: 0, duplicate: 10 }, ['edge']],
  ['nothing lost', { realtimeLoss: 0, netLoss: 0, duplicate: 0 }, ['edge']],
]

describe.concurrent('whatever the doorbells do', () => {
  // First, because it takes its 10 s whatever the others do.
  test('1,000 inserts a second ring at most 20 times in 10 s', {
    timeout: 60_000,
  }, async (context) => {
    const load = { inserts: 10_000, perSecond: 1_000 }
    const { rings, requests, seconds } = await ringsUnderLoad(load, context)
    // A machine that is too busy for this rate takes longer and may ring longer.
    context.expect((requests / seconds) * 10).toBeLessThanOrEqual(20)
    context.expect(requests).toBe(rings)
    // The bell is limited, not dead.
    context.expect(requests).toBeGreaterThanOrEqual(8)
  })

  test.for(cases)(
    'the same final state: %s',
    { timeout: 60_000 },
    async ([, doorbells, workers], context) => {
      const { expect } = context
      const system = await systemWith(doorbells, context)
      const person = await system.signUp('ann')
      await enqueueBatch(person)
      await expect
        .poll(() => finalState(person), { timeout: 25_000, interval: 250 })
        .toEqual(expected)
      const { seen, slowest } = await starts(system)
      if (doorbells.netLoss === 1) expect(seen).toEqual(['host'])
      expect(seen).toEqual(expect.arrayContaining(workers))
      expect(slowest).toBeLessThanOrEqual(12)
      const { data } = await person.db.from('v_stranded').select('*').throwOnError()
      expect(data).toEqual([])
    },
  )
})

const sessions = 4

/** One session's share of the load: single inserts, each its own transaction, at a steady rate. */
function paced(project: string, { inserts, perSecond }: Load): string {
  return `do $$
    declare
      v_began timestamptz := clock_timestamp();
    begin
      for i in 1 .. ${inserts / sessions} loop
        insert into nightshift.tasks (project_id, agent) values ('${project}', 'a');
        commit;
        perform pg_sleep(greatest(0, ${sessions} * i / ${perSecond}.0 - extract(epoch from clock_timestamp() - v_began)));
      end loop;
    end $$`
}

interface Load {
  inserts: number
  perSecond: number
}

/** Inserts tasks one by one at a steady rate, and counts what reaches the receiver of nudges. */
async function ringsUnderLoad(
  load: Load,
  { expect, onTestFinished }: TestContext,
): Promise<{ rings: number; requests: number; seconds: number }> {
  const database = await freshDatabase()
  onTestFinished(() => database.drop())
  const sql = postgres(database.url, { max: sessions, onnotice: () => {} })
  onTestFinished(() => sql.end({ timeout: 1 }))
  let requests = 0
  const receiver = createServer((_, response) => {
    requests += 1
    response.writeHead(202).end()
  })
  await new Promise<void>((settle) => receiver.listen(0, '127.0.0.1', settle))
  onTestFinished(() => void receiver.close())
  const { port } = receiver.address() as AddressInfo
  await sql`select vault.create_secret(${`http://127.0.0.1:${port}`}, 'nightshift_functions_url')`
  const net = await startNet({ adminUrl: database.adminUrl, faults: noFaults() })
  onTestFinished(() => net.stop())
  const [{ project } = { project: '' }] =
    await sql`select nightshift.create_project('load') as project`
  await sql`select nightshift.set_agent(${project}, 'a', '{"instructions": "Work."}')`

  const began = performance.now()
  await Promise.all(Array.from({ length: sessions }, () => sql.unsafe(paced(project, load))))
  const seconds = (performance.now() - began) / 1000
  const [{ tasks } = { tasks: 0 }] = await sql`select count(*)::int as tasks from nightshift.tasks`
  expect(tasks).toBe(load.inserts)
  const [{ rings } = { rings: 0 }] = await sql`
    select rings::int from nightshift_private.doorbells where name = 'net'`
  await expect.poll(() => requests, { timeout: 3_000 }).toBe(rings)
  return { rings, requests, seconds }
}
