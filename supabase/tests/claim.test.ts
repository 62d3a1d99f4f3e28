import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { openShop, refusal, type Shop } from './actors.ts'
import {
  cancel,
  claim,
  claimOne,
  commit,
  complete,
  createTenant,
  enqueue,
  enqueueOne,
  fail,
  type Lease,
  startOne,
  statusesOf,
  sweep,
  type Tenant,
  taskOf,
} from './tenant.ts'

let shop: Shop
let tenant: Tenant
beforeAll(async () => {
  shop = await openShop()
})
beforeEach(async () => {
  shop.setClock(null)
  tenant = await createTenant(shop)
})
afterAll(() => shop.close())

const heartbeat = (leases: Lease[]): Promise<readonly { task_id: number }[]> =>
  shop.asService(
    (sql) => sql<{ task_id: number }[]>`
      select task_id from nightshift.heartbeat(${sql.json(leases.map(({ task_id, fence }) => ({ task_id, fence })))})`,
  )
const release = (lease: Lease): Promise<unknown> =>
  shop.asService((sql) => sql`select nightshift.release(${lease.task_id}, ${lease.fence})`)

describe('claim', () => {
  test('takes the most urgent lane first, then the oldest', async () => {
    const lanes = [3, 0, 2, 0, 5, 1]
    const rows = await enqueue(
      shop,
      tenant,
      lanes.map((lane) => ({ lane })),
    )
    const ids = rows.map((row) => row.id)
    const leases = await claim(shop, tenant, { tasks: 10 })
    expect(leases.map((lease) => ids.indexOf(lease.task_id))).toEqual([1, 3, 5, 2, 0, 4])
  })

  test('takes no more than asked, and only from its queues', async () => {
    await enqueue(shop, tenant, [{}, {}, { queue: 'elsewhere' }])
    expect(await claim(shop, tenant, { tasks: 1 })).toHaveLength(1)
    expect(await claim(shop, tenant, { tasks: 10 })).toHaveLength(1)
    expect(await claim(shop, tenant)).toEqual([])
  })

  test('merges several queues by lane', async () => {
    const rows = await enqueue(shop, tenant, [{ lane: 2 }, { lane: 1, queue: 'side' }, { lane: 3 }])
    const leases = await shop.asService(
      (sql) => sql`select task_id from nightshift.claim('w', ${[tenant.queue, 'side', 'side']}, 2)`,
    )
    expect(leases.map((lease) => lease.task_id)).toEqual([rows[1]?.id, rows[0]?.id])
  })

  test('hands out a lease and a fence that only grows', async () => {
    shop.setClock(new Date('2030-01-01T00:00:00Z'))
    const first = await startOne(shop, tenant)
    expect(await taskOf(shop, first.task_id)).toMatchObject({
      status: 'running',
      attempt: 1,
      lease_until: new Date('2030-01-01T00:01:30Z'),
    })
    await release(first)
    const second = await claimOne(shop, tenant)
    expect(second.task_id).toBe(first.task_id)
    expect(second.fence).toBeGreaterThan(first.fence)
  })

  test('20 sessions at once take each task once', async () => {
    await enqueue(
      shop,
      tenant,
      Array.from({ length: 60 }, () => ({})),
    )
    const leases = await Promise.all(
      Array.from({ length: 20 }, () => claim(shop, tenant, { tasks: 3 })),
    )
    const ids = leases.flat().map((lease) => lease.task_id)
    // A session skips what another is just taking, so a few may be left for the next look.
    const left = await claim(shop, tenant, { tasks: 60 })
    expect(new Set([...ids, ...left.map((lease) => lease.task_id)]).size).toBe(60)
    expect(ids.length + left.length).toBe(60)
  })

  test('does not wait for a task that somebody else has locked', async () => {
    const [locked, free] = await enqueue(shop, tenant, [{ lane: 0 }, {}])
    await shop.owner.begin(async (sql) => {
      await sql`select 1 from nightshift.tasks where id = ${locked?.id ?? 0} for update`
      expect((await claim(shop, tenant))[0]?.task_id).toBe(free?.id)
    })
  })

  test.each([
    ["''", "'{q}'", 1, 90],
    ["'w'", "'{}'", 1, 90],
    ["'w'", "'{q}'", 0, 90],
    ["'w'", "'{q}'", 1001, 90],
    ["'w'", "'{q}'", 1, 4],
    ["'w'", 'null', 1, 90],
    ["'w'", "'{q}'", 'null', 90],
  ])('claim(%s, %s, %s, %s) is refused', async (...args) => {
    const call = `select * from nightshift.claim(${args.join(', ')})`
    expect((await refusal(shop.asService((sql) => sql.unsafe(call)))).code).toBe('NS001')
  })

  test('is closed to members', async () => {
    for (const call of [
      `claim('w')`,
      `heartbeat('[]')`,
      `release(1, 1)`,
      `complete('[]')`,
      `fail(1, 1, 'stuck')`,
      `commit_tick(1, 1, 0)`,
      `load_session(1, 1)`,
      `sweep()`,
    ]) {
      const refused = refusal(
        shop.asUser(tenant.owner, (sql) => sql.unsafe(`select nightshift.${call}`)),
      )
      expect((await refused).code, call).toBe('42501')
    }
  })
})

describe('holding', () => {
  test('a heartbeat extends what is held and leaves out what is lost', async () => {
    await enqueue(shop, tenant, [{}, {}])
    const [kept, lost] = await claim(shop, tenant, { tasks: 2 })
    if (!kept || !lost) throw new Error('expected two leases')
    await release(lost)
    shop.setClock(new Date(Date.now() + 60_000))
    expect((await heartbeat([kept, lost])).map((row) => row.task_id)).toEqual([kept.task_id])
    expect((await taskOf(shop, kept.task_id)).lease_until?.getTime()).toBeGreaterThan(
      Date.now() + 140_000,
    )
  })

  test('giving back burns no attempt', async () => {
    const lease = await startOne(shop, tenant)
    await release(lease)
    expect(await statusesOf(shop, [lease.task_id])).toEqual(['pending'])
    expect((await claimOne(shop, tenant)).attempt).toBe(1)
  })

  test('many complete in one call; a repeated report says the same', async () => {
    await enqueue(shop, tenant, [{}, {}, {}])
    const leases = await claim(shop, tenant, { tasks: 3 })
    expect(await complete(shop, leases, { done: true })).toEqual([
      'completed',
      'completed',
      'completed',
    ])
    expect(await complete(shop, leases, { done: false })).toEqual([
      'completed',
      'completed',
      'completed',
    ])
    expect((await taskOf(shop, leases[0]?.task_id ?? 0)).output).toEqual({ done: true })
  })

  test('an unknown task is stale', async () => {
    expect(await complete(shop, [{ task_id: 999_999_999, fence: 1, attempt: 1 }])).toEqual([
      'stale',
    ])
  })

  test('too large an output is refused and nothing of the batch is kept', async () => {
    await enqueue(shop, tenant, [{}, {}])
    const [first, second] = await claim(shop, tenant, { tasks: 2 })
    const results = [
      { task_id: first?.task_id, fence: first?.fence, output: {} },
      { task_id: second?.task_id, fence: second?.fence, output: 'x'.repeat(300_000) },
    ]
    const refused = await refusal(
      shop.asService(
        (sql) => sql`select * from nightshift.complete(${JSON.stringify(results)}::text::jsonb)`,
      ),
    )
    expect(refused).toMatchObject({ code: 'NS022', status: 413 })
    expect(await statusesOf(shop, [first?.task_id ?? 0])).toEqual(['running'])
  })
})

describe('a zombie', () => {
  /** Everything a worker can write. */
  const writes: Record<string, (zombie: Lease) => Promise<unknown>> = {
    commit_tick: (zombie) => commit(shop, zombie, { steps: [{ kind: 'ask', action: 'x' }] }),
    'commit_tick without steps': (zombie) =>
      commit(shop, zombie, { outcome: { status: 'pending' } }),
    'commit_tick completed': (zombie) =>
      commit(shop, zombie, { outcome: { status: 'completed', output: 'old' } }),
    'commit_tick failed': (zombie) =>
      commit(shop, zombie, {
        outcome: { status: 'failed', failure_class: 'permission', error: {} },
      }),
    fail: (zombie) => fail(shop, zombie, 'permission'),
    release,
    load_session: (zombie) =>
      shop.asService(
        (sql) => sql`select nightshift.load_session(${zombie.task_id}, ${zombie.fence})`,
      ),
  }
  /** How it lost its task while it slept. */
  const losses: Record<string, (zombie: Lease) => Promise<unknown>> = {
    'another worker holds it': async () => {
      shop.setClock(new Date(Date.now() + 100_000))
      await sweep(shop)
      await claimOne(shop, tenant)
    },
    'it was rescued and waits': async () => {
      shop.setClock(new Date(Date.now() + 100_000))
      await sweep(shop)
    },
    'another worker completed it': async () => {
      shop.setClock(new Date(Date.now() + 100_000))
      await sweep(shop)
      await complete(shop, [await claimOne(shop, tenant)], 'new')
    },
    'a person cancelled it': (zombie) => cancel(shop, tenant, zombie.task_id),
  }

  describe.each(Object.entries(losses))('when %s', (_loss, lose) => {
    let zombie: Lease
    let before: unknown
    beforeEach(async () => {
      zombie = await startOne(shop, tenant)
      await lose(zombie)
      before = await taskOf(shop, zombie.task_id)
    })

    test('every write is refused and nothing changes', async () => {
      for (const [name, write] of Object.entries(writes)) {
        const refused = await refusal(write(zombie))
        expect(refused, name).toMatchObject({ code: 'NS030', status: 409 })
        expect(refused.message).toBe(
          `Task ${zombie.task_id} is no longer held with fence ${zombie.fence}`,
        )
      }
      expect(await heartbeat([zombie])).toEqual([])
      expect(await complete(shop, [zombie], 'old')).toEqual(['stale'])
      expect(await taskOf(shop, zombie.task_id)).toEqual(before)
      expect(
        await shop.owner`select 1 from nightshift.steps where task_id = ${zombie.task_id}`,
      ).toHaveLength(0)
    })
  })
})

describe('rescue', () => {
  const minutesLater = (minutes: number): void =>
    shop.setClock(new Date(Date.now() + minutes * 60_000))

  test('a task whose worker went silent is pending again and has burned no attempt', async () => {
    const lease = await startOne(shop, tenant)
    await sweep(shop)
    expect(await statusesOf(shop, [lease.task_id])).toEqual(['running'])
    minutesLater(2)
    expect(await sweep(shop)).toMatchObject({ rescued: 1 })
    expect(await taskOf(shop, lease.task_id)).toMatchObject({
      status: 'pending',
      attempt: 1,
      rescues: 1,
    })
    expect((await claimOne(shop, tenant)).attempt).toBe(1)
  })

  test('after five rescues without progress it is given up', async () => {
    const id = await enqueueOne(shop, tenant)
    for (let rescue = 1; rescue <= 5; rescue += 1) {
      await claimOne(shop, tenant)
      minutesLater(rescue * 3)
      await sweep(shop)
      expect(await taskOf(shop, id)).toMatchObject({ status: 'pending', rescues: rescue })
    }
    await claimOne(shop, tenant)
    minutesLater(30)
    expect(await sweep(shop)).toMatchObject({ rescued: 0, ended: 1 })
    expect(await taskOf(shop, id)).toMatchObject({
      status: 'failed',
      failure_class: 'internal',
      error: { message: 'Lost its worker 6 times' },
    })
  })

  test('progress clears the count', async () => {
    const id = await enqueueOne(shop, tenant)
    await claimOne(shop, tenant)
    minutesLater(3)
    await sweep(shop)
    const lease = await claimOne(shop, tenant)
    await commit(shop, lease, { steps: [{ kind: 'ask', action: 'x' }] })
    expect(await taskOf(shop, id)).toMatchObject({ rescues: 0 })
  })

  test('a deadline ends a task in every live state', async () => {
    const deadline_at = new Date(Date.now() + 60_000).toISOString()
    const rows = await enqueue(shop, tenant, [
      { deadline_at, lane: 0 },
      { deadline_at },
      { deadline_at, run_at: '2040-01-01T00:00:00Z' },
      { deadline_at, key: 'p', combinator: 'all' },
      { parent: 'p' },
    ])
    await claimOne(shop, tenant)
    minutesLater(2)
    expect(await sweep(shop)).toMatchObject({ ended: 4 })
    const ids = rows.map((row) => row.id)
    expect(await statusesOf(shop, ids)).toEqual([
      'failed',
      'failed',
      'failed',
      'failed',
      'cancelled',
    ])
    expect(await taskOf(shop, ids[0] ?? 0)).toMatchObject({
      failure_class: 'expired',
      error: { message: 'Deadline passed' },
    })
  })

  test('the sweep leaves alone what somebody is changing, and takes it next time', async () => {
    const deadline_at = new Date(Date.now() + 60_000).toISOString()
    const rows = await enqueue(shop, tenant, [
      { deadline_at, key: 'p', combinator: 'all' },
      { parent: 'p' },
    ])
    minutesLater(2)
    await shop.owner.begin(async (sql) => {
      await sql`select 1 from nightshift.tasks where id = ${rows[1]?.id ?? 0} for no key update`
      expect(await sweep(shop)).toMatchObject({ ended: 0 })
    })
    expect(await sweep(shop)).toMatchObject({ ended: 1 })
  })

  test('two sweeps at once: one works, the other returns', async () => {
    await shop.owner.begin(async (sql) => {
      await sql`select nightshift_private.sweep()`
      expect(await sweep(shop)).toEqual({ busy: true })
    })
  })
})
