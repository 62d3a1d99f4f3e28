import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Json, openShop, refusal, type Shop } from './actors.ts'
import {
  type Commit,
  claimOne,
  commit,
  createTenant,
  enqueue,
  type Lease,
  modelCall,
  modelStep,
  startOne,
  statusesOf,
  type Tenant,
  taskOf,
} from './tenant.ts'

let shop: Shop
let tenant: Tenant
let lease: Lease
beforeAll(async () => {
  shop = await openShop()
})
beforeEach(async () => {
  shop.setClock(null)
  tenant = await createTenant(shop)
  lease = await startOne(shop, tenant, { subject: 'person-1', purpose: 'support', budget_usd: 1 })
})
afterAll(() => shop.close())

const card: Json = {
  title: 'Send the refund?',
  consequence: 'Money leaves.',
  action: { tool: 'refund', args: { amount: 5 }, call_id: 'c1' },
  risk: 'high',
}
const steps = (): Promise<readonly Record<string, Json>[]> =>
  shop.owner`select * from nightshift.steps where task_id = ${lease.task_id} order by seq`
const calls = (): Promise<readonly Record<string, Json>[]> =>
  shop.owner`select * from nightshift.llm_calls where task_id = ${lease.task_id} order by id`

describe('commit_tick', () => {
  test('writes steps, calls and spend in one transaction and keeps the lease', async () => {
    const answer = await commit(shop, lease, {
      steps: [
        modelStep,
        { kind: 'tool_call', action: 'note', input: { call_id: 'c1' }, output: { ok: true } },
      ],
      calls: [modelCall(1, { cost_usd: 0.25 })],
    })
    expect(answer).toEqual({ status: 'running', step_count: 2, spent_usd: 0.25, repeated: false })
    expect(await steps()).toMatchObject([
      { seq: 1, kind: 'model_call', attempt: 1, fence: lease.fence, error: null },
      { seq: 2, kind: 'tool_call', action: 'note', output: { ok: true } },
    ])
    expect(await calls()).toMatchObject([
      {
        step_seq: 1,
        agent: 'clerk',
        agent_version: 1,
        created_by: tenant.owner,
        subject: 'person-1',
        purpose: 'support',
        input_tokens: 10,
        cost_usd: '0.250000',
        output: { text: 'hi' },
        error: null,
      },
    ])
  })

  test('a call that failed is booked with its error', async () => {
    await commit(shop, lease, {
      steps: [{ kind: 'error', action: 'model_call', error: { message: 'overloaded' } }],
      calls: [modelCall(1, { output: null, error: { message: 'overloaded' }, cost_usd: 0 })],
    })
    expect(await calls()).toMatchObject([{ output: null, error: { message: 'overloaded' } }])
  })

  test('a bad call leaves nothing behind, not even the step', async () => {
    const refused = await refusal(
      commit(shop, lease, { steps: [modelStep], calls: [modelCall(1, { model: null })] }),
    )
    expect(refused.code).toBe('23502')
    expect(await steps()).toHaveLength(0)
    expect((await taskOf(shop, lease.task_id)).step_count).toBe(0)
  })

  const moves: Record<string, Commit> = {
    'a step': { steps: [{ kind: 'ask', action: 'x' }] },
    'a model call': { steps: [modelStep], calls: [modelCall(1)] },
    'a call without a step': { calls: [modelCall(1)] },
    'a completion': { outcome: { status: 'completed', output: { a: 1 } } },
    'a completion with steps': {
      steps: [modelStep],
      calls: [modelCall(1)],
      outcome: { status: 'completed', output: {} },
    },
    'a yield': { outcome: { status: 'pending' } },
    'a wait': { outcome: { status: 'scheduled', run_at: '2040-01-01T00:00:00Z' } },
    'a card': {
      steps: [modelStep],
      calls: [modelCall(1)],
      outcome: { status: 'awaiting_approval', card },
    },
    'a failure that is tried again': {
      outcome: { status: 'failed', failure_class: 'external', error: { message: 'x' } },
    },
    'a final failure with a step': {
      steps: [{ kind: 'error', action: 'x', error: {} }],
      outcome: { status: 'failed', failure_class: 'budget', error: { message: 'x' } },
    },
  }
  test.each(Object.entries(moves))(
    '%s repeated after a lost answer writes nothing twice',
    async (_name, move) => {
      const first = await commit(shop, lease, move)
      const before = [await taskOf(shop, lease.task_id), await steps(), await calls()]
      const again = await commit(shop, lease, move)
      expect(again).toEqual({ ...first, repeated: true })
      expect([await taskOf(shop, lease.task_id), await steps(), await calls()]).toEqual(before)
    },
  )

  test('another move at the same place is no repeat', async () => {
    await commit(shop, lease, { steps: [{ kind: 'ask', action: 'x', output: 1 }] })
    const refused = await refusal(
      commit(shop, lease, { steps: [{ kind: 'ask', action: 'x', output: 2 }] }),
    )
    expect(refused).toMatchObject({ code: 'NS034', status: 409 })
    expect(refused.message).toBe(`Task ${lease.task_id} has 1 steps, the commit expected 0`)
  })

  test.each([1, 5, null])('a commit after step %s of none is out of order', async (after) => {
    const refused = await refusal(
      shop.asService(
        (sql) => sql`select nightshift.commit_tick(${lease.task_id}, ${lease.fence}, ${after},
          ${sql.json([{ kind: 'ask', action: 'x' }])})`,
      ),
    )
    expect(refused.code).toBe('NS034')
    expect(await steps()).toHaveLength(0)
  })

  test('two sessions with the same commit write it once', async () => {
    const move: Commit = { steps: [modelStep], calls: [modelCall(1)] }
    const answers = await Promise.all([commit(shop, lease, move), commit(shop, lease, move)])
    expect(answers.map((answer) => answer.repeated).sort()).toEqual([false, true])
    expect(await calls()).toHaveLength(1)
  })

  test('awaiting_approval opens a card with the digest of its action', async () => {
    await commit(shop, lease, {
      steps: [modelStep],
      calls: [modelCall(1)],
      outcome: { status: 'awaiting_approval', card },
    })
    expect(await statusesOf(shop, [lease.task_id])).toEqual(['awaiting_approval'])
    const [row] =
      await shop.owner`select *, deadline_at - created_at as term from nightshift.cards where task_id = ${lease.task_id}`
    expect(row).toMatchObject({
      status: 'open',
      step_seq: 1,
      title: 'Send the refund?',
      risk: 'high',
      reversible: 'no',
      on_expiry: 'reject',
      allowed: ['approve', 'edit', 'reject', 'respond'],
      term: '1 day',
    })
    expect(row?.digest).toMatch(/^[0-9a-f]{64}$/)
  })

  test('waiting burns no attempt, whatever for', async () => {
    await commit(shop, lease, { outcome: { status: 'pending' } })
    expect((await claimOne(shop, tenant)).attempt).toBe(1)
  })

  test('a commit extends the lease', async () => {
    shop.setClock(new Date('2035-01-01T00:00:00Z'))
    await commit(shop, lease, { steps: [{ kind: 'ask', action: 'x' }] })
    expect((await taskOf(shop, lease.task_id)).lease_until).toEqual(
      new Date('2035-01-01T00:01:30Z'),
    )
  })

  test.each<[string, Commit, string]>([
    ['an unknown outcome', { outcome: { status: 'dreaming' } }, 'NS001'],
    ['no outcome', { outcome: {} as { status: string } }, 'NS001'],
    ['scheduled without a time', { outcome: { status: 'scheduled' } }, 'NS001'],
    ['awaiting_approval without a card', { outcome: { status: 'awaiting_approval' } }, 'NS001'],
    [
      'an unknown failure class',
      { outcome: { status: 'failed', failure_class: 'x', error: {} } },
      'NS001',
    ],
    [
      'too large a step',
      { steps: [{ kind: 'ask', action: 'x', output: 'x'.repeat(300_000) }] },
      'NS022',
    ],
    [
      'too large an output',
      { outcome: { status: 'completed', output: 'x'.repeat(300_000) } },
      'NS022',
    ],
    [
      'too large an error',
      { outcome: { status: 'failed', failure_class: 'external', error: { m: 'x'.repeat(9000) } } },
      'NS022',
    ],
  ])('%s is refused and changes nothing', async (_name, move, code) => {
    const before = await taskOf(shop, lease.task_id)
    expect((await refusal(commit(shop, lease, move))).code).toBe(code)
    expect(await taskOf(shop, lease.task_id)).toEqual(before)
  })

  test('an unknown task is not found', async () => {
    const refused = await refusal(commit(shop, { task_id: 999_999_999, fence: 1, attempt: 1 }, {}))
    expect(refused).toMatchObject({ code: 'NS032', status: 404 })
  })
})

test('load_session brings all that the next move depends on', async () => {
  const full = await createTenant(shop, {
    tools: { note: { description: 'Writes a note.' }, unused: { description: 'x' } },
    definition: { tools: ['note'], tier: 'cheap' },
  })
  const rows = await enqueue(shop, full, [{ key: 'a', lane: 0 }, { after: ['a'] }])
  const first = await claimOne(shop, full)
  await commit(shop, first, {
    steps: [modelStep],
    calls: [modelCall(1)],
    outcome: { status: 'completed', output: { n: 1 } },
  })
  const second = await claimOne(shop, full)
  await commit(shop, second, { steps: [modelStep], calls: [modelCall(1)] })
  const [row] = await shop.asService(
    (sql) => sql`select nightshift.load_session(${second.task_id}, ${second.fence}) as session`,
  )
  const session = row?.session
  expect(session.task).toMatchObject({ id: second.task_id, status: 'running', step_count: 1 })
  expect(session.task).not.toHaveProperty('request_digest')
  expect(session.agent).toMatchObject({ name: 'clerk', version: 1, instructions: 'Work.' })
  expect(session.tools).toMatchObject([{ name: 'note', approval: 'run' }])
  expect(session.steps).toEqual([
    {
      seq: 1,
      kind: 'model_call',
      action: 'practice-mid',
      input: {},
      output: { text: 'hi' },
      error: null,
    },
  ])
  expect(session.dependencies).toMatchObject([
    { id: rows[0]?.id, status: 'completed', output: { n: 1 } },
  ])
  const models: { name: string; tier: string }[] = session.models
  expect(models.every((model) => model.tier === 'cheap')).toBe(true)
  expect(models.at(-1)?.name).toBe('practice-cheap')
})
