import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Json, openShop, refusal, type Shop } from './actors.ts'
import {
  addMember,
  cancel,
  claimOne,
  commit,
  createTenant,
  createUser,
  startOne,
  statusesOf,
  sweep,
  type Tenant,
  taskOf,
} from './tenant.ts'

interface Card {
  id: number
  task_id: number
  digest: string
  status: string
  verb: string | null
}
interface Decision {
  verb?: string | null
  digest?: string | null
  note?: string | null
  args?: Json
  key?: string | null
  as?: string
}

let shop: Shop
let tenant: Tenant
let card: Card

beforeAll(async () => {
  shop = await openShop()
})
beforeEach(async () => {
  shop.setClock(null)
  tenant = await createTenant(shop, {
    tools: {
      refund: {
        description: 'Pays back.',
        risk: 'high',
        input_schema: {
          type: 'object',
          required: ['amount'],
          properties: { amount: { type: 'number', maximum: 100 } },
        },
      },
    },
    definition: { tools: ['refund'] },
  })
  card = await openCard()
})
afterAll(() => shop.close())

async function openCard(over: Record<string, Json> = {}): Promise<Card> {
  const lease = await startOne(shop, tenant)
  const action = { tool: 'refund', args: { amount: 5 }, call_id: 'c1' }
  await commit(shop, lease, {
    steps: [{ kind: 'ask', action: 'refund' }],
    outcome: {
      status: 'awaiting_approval',
      card: { title: 'Refund?', action, risk: 'high', ...over },
    },
  })
  return readCard(lease.task_id)
}

async function readCard(task: number): Promise<Card> {
  const [row] = await shop.owner<
    Card[]
  >`select * from nightshift.cards where task_id = ${task} order by id desc limit 1`
  if (!row) throw new Error('no card')
  return row
}

async function decide(on: Card, decision: Decision = {}): Promise<Json> {
  const { verb = 'approve', digest = on.digest, note = null, args = null, key = null } = decision
  const [row] = await shop.asUser(
    decision.as ?? tenant.owner,
    (sql) => sql`select nightshift.decide(${on.id}, ${verb}, ${digest}, ${note},
      ${args === null ? null : sql.json(args)}, ${key}) as answer`,
  )
  return row?.answer
}

const lastStep = async (): Promise<Record<string, Json> | undefined> => {
  const [row] =
    await shop.owner`select * from nightshift.steps where task_id = ${card.task_id} order by seq desc limit 1`
  return row
}

describe('a decision', () => {
  test.each<[string, Decision, Json]>([
    ['approve', {}, { verb: 'approve', note: null, args: { amount: 5 } }],
    ['edit', { args: { amount: 3 } }, { verb: 'edit', note: null, args: { amount: 3 } }],
    ['reject', { note: 'too much' }, { verb: 'reject', note: 'too much', args: { amount: 5 } }],
    ['respond', { note: 'ask again' }, { verb: 'respond', note: 'ask again', args: { amount: 5 } }],
  ])('%s becomes a step and wakes the task', async (verb, decision, output) => {
    expect(await decide(card, { verb, ...decision })).toMatchObject({
      card: card.id,
      task: card.task_id,
      verb,
      decided_by: tenant.owner,
    })
    expect(await taskOf(shop, card.task_id)).toMatchObject({ status: 'pending', step_count: 2 })
    expect(await lastStep()).toMatchObject({
      seq: 2,
      kind: 'decision',
      action: verb,
      input: { card: card.id, call_id: 'c1', by: tenant.owner },
      output,
    })
    expect(await readCard(card.task_id)).toMatchObject({ status: 'decided', verb })
    await claimOne(shop, tenant)
  })

  test('the first one wins and everyone after is told', async () => {
    await decide(card)
    const refused = await refusal(decide(card, { verb: 'reject' }))
    expect(refused).toMatchObject({ code: 'NS041', status: 409 })
    expect(refused.message).toContain(
      `Card ${card.id} was already closed with "approve" by ${tenant.owner} at `,
    )
    expect(await readCard(card.task_id)).toMatchObject({ verb: 'approve' })
  })

  test('the same idempotency key gets the same answer', async () => {
    const first = await decide(card, { key: 'tap-1' })
    expect(await decide(card, { key: 'tap-1' })).toEqual(first)
    expect((await taskOf(shop, card.task_id)).step_count).toBe(2)
    const reviewer = await addMember(shop, tenant, 'reviewer')
    expect((await refusal(decide(card, { key: 'tap-1', as: reviewer }))).code).toBe('NS041')
    expect((await refusal(decide(card, { key: 'tap-2' }))).code).toBe('NS041')
  })

  test.each(['operator', 'reviewer'])('a %s may decide', async (role) => {
    const member = await addMember(shop, tenant, role)
    expect(await decide(card, { as: member })).toMatchObject({ decided_by: member })
  })

  test.each(['auditor', 'viewer'])('a %s may not', async (role) => {
    const member = await addMember(shop, tenant, role)
    const refused = await refusal(decide(card, { as: member }))
    expect(refused).toMatchObject({ code: 'NS011', status: 403 })
    expect(refused.hint).toBe('Needs one of the roles: owner, operator, reviewer.')
  })

  test('a stranger and an unknown card get the same answer', async () => {
    const stranger = await createUser(shop)
    const foreign = await refusal(decide(card, { as: stranger }))
    const unknown = await refusal(decide({ ...card, id: 999_999_999 }))
    expect(foreign).toMatchObject({
      code: 'NS040',
      status: 404,
      message: `Cannot find card ${card.id}`,
    })
    expect(unknown).toMatchObject({ code: 'NS040' })
  })

  test.each<[string, Decision, string, number]>([
    ['another digest', { digest: '0'.repeat(64) }, 'NS042', 409],
    ['no digest', { digest: null }, 'NS042', 409],
    ['an unknown verb', { verb: 'maybe' }, 'NS043', 422],
    ['no verb', { verb: null }, 'NS043', 422],
    ['edit without arguments', { verb: 'edit' }, 'NS021', 422],
    ['edit against the schema of the tool', { verb: 'edit', args: { amount: 101 } }, 'NS021', 422],
    [
      'edit with too much',
      { verb: 'edit', args: { amount: 1, x: 'x'.repeat(300_000) } },
      'NS022',
      413,
    ],
    ['respond without a note', { verb: 'respond' }, 'NS001', 400],
    ['a note without end', { verb: 'reject', note: 'x'.repeat(20_000) }, 'NS022', 413],
  ])('%s is refused and the card stays open', async (_name, decision, code, status) => {
    expect(await refusal(decide(card, decision))).toMatchObject({ code, status })
    expect(await readCard(card.task_id)).toMatchObject({ status: 'open' })
    expect(await statusesOf(shop, [card.task_id])).toEqual(['awaiting_approval'])
  })

  test('only the verbs of the card are possible', async () => {
    const strict = await openCard({ allowed: ['approve', 'reject'] })
    const refused = await refusal(decide(strict, { verb: 'edit', args: { amount: 1 } }))
    expect(refused).toMatchObject({ code: 'NS043', hint: 'Allowed verbs: approve, reject.' })
  })

  test('leaves one event with the digest of what was decided', async () => {
    await decide(card)
    const rows = await shop.owner`select actor_kind, actor, meta from nightshift.audit_events
      where task_id = ${card.task_id} and action = 'card.decided'`
    expect([...rows]).toEqual([
      {
        actor_kind: 'person',
        actor: tenant.owner,
        meta: { verb: 'approve', digest: card.digest, risk: 'high' },
      },
    ])
  })
})

describe('expiry', () => {
  const later = (): void => shop.setClock(new Date(Date.now() + 25 * 3_600_000))

  test('rejects, never approves', async () => {
    later()
    expect((await sweep(shop)).expired_cards).toBeGreaterThan(0)
    expect(await readCard(card.task_id)).toMatchObject({ status: 'expired', verb: null })
    expect(await taskOf(shop, card.task_id)).toMatchObject({ status: 'pending' })
    expect(await lastStep()).toMatchObject({
      kind: 'decision',
      action: 'reject',
      output: { verb: 'reject', note: 'Nobody decided before the deadline' },
    })
  })

  test('after the deadline nobody decides, swept or not', async () => {
    later()
    const refused = await refusal(decide(card))
    expect(refused).toMatchObject({ code: 'NS041' })
    expect(refused.message).toContain('was already closed with "expired" by the system')
    await sweep(shop)
    expect((await refusal(decide(card))).message).toContain(
      'was already closed with "expired" by the system',
    )
  })

  test('a cancelled task supersedes its card', async () => {
    await cancel(shop, tenant, card.task_id)
    expect(await readCard(card.task_id)).toMatchObject({ status: 'superseded' })
    expect((await refusal(decide(card))).message).toContain(
      'was already closed with "superseded" by the system',
    )
  })
})

describe('approve, cancel and expire in every order', () => {
  const deadline = (): string => new Date(Date.now() + 3_600_000).toISOString()
  type Move = (on: Card) => Promise<unknown>
  const moves: Record<string, Move> = {
    approve: (on) => decide(on),
    cancel: (on) => cancel(shop, tenant, on.task_id),
    // The sweep lives an hour later than the people: only so can all three happen at once.
    expire: () =>
      shop.asService(async (sql) => {
        await sql`select set_config('nightshift.now', ${new Date(Date.now() + 7_200_000).toISOString()}, true)`
        await sql`select nightshift.sweep()`
      }),
  }
  const orders = [
    ['approve', 'cancel', 'expire'],
    ['approve', 'expire', 'cancel'],
    ['cancel', 'approve', 'expire'],
    ['cancel', 'expire', 'approve'],
    ['expire', 'approve', 'cancel'],
    ['expire', 'cancel', 'approve'],
  ]

  /** One outcome: the card has one fate, and at most one decision step follows from it. */
  const verify = async (on: Card): Promise<string> => {
    const { status, verb } = await readCard(on.task_id)
    const decisions =
      await shop.owner`select action from nightshift.steps where task_id = ${on.task_id} and kind = 'decision'`
    const fate = status === 'decided' ? verb : status
    const followed = { approve: ['approve'], expired: ['reject'], superseded: [] }[String(fate)]
    expect(
      decisions.map((row) => row.action),
      String(fate),
    ).toEqual(followed)
    return String(fate)
  }

  test.each(orders)('%s, then %s, then %s', async (...order) => {
    const one = await openCard({ deadline_at: deadline() })
    for (const name of order) await moves[name]?.(one).catch(() => {})
    expect(await verify(one)).toBe(
      { approve: 'approve', cancel: 'superseded', expire: 'expired' }[order[0] ?? ''],
    )
    expect(await statusesOf(shop, [one.task_id])).toEqual(['cancelled'])
  })

  test('in parallel sessions', async () => {
    const fates = new Set<string>()
    for (let trial = 0; trial < 24; trial += 1) {
      const one = await openCard({ deadline_at: deadline() })
      const order = orders[trial % orders.length] ?? []
      await Promise.allSettled(order.map((name) => moves[name]?.(one)))
      fates.add(await verify(one))
    }
    expect(fates.size).toBeGreaterThan(1)
    const [row] = await shop.owner`select count(*) from nightshift.v_stranded`
    expect(row?.count).toBe(0)
  })
})
