import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Json, openShop, type Shop } from './actors.ts'
import { claim, createTenant, enqueue, type Lease, type Tenant } from './tenant.ts'

let shop: Shop
let tenant: Tenant
beforeAll(async () => {
  shop = await openShop()
})
beforeEach(async () => {
  shop.setClock(null)
  shop.setDraw(0.99)
  tenant = await createTenant(shop)
})
afterAll(() => shop.close())

const many = (count: number, more: Record<string, Json> = {}): Record<string, Json>[] =>
  Array.from({ length: count }, () => more)

const limit = (kind: string, name: string, definition: Json): Promise<unknown> =>
  shop.asUser(
    tenant.owner,
    (sql) =>
      sql`select nightshift.set_limit(${tenant.project}, ${kind}, ${name}, ${sql.json(definition)})`,
  )

const complete = (leases: Lease[]): Promise<unknown> =>
  shop.asService(
    (sql) =>
      sql`select nightshift.complete(${sql.json(leases.map(({ task_id, fence }) => ({ task_id, fence, output: 1 })))})`,
  )

const sweep = (): Promise<unknown> => shop.owner`select nightshift_private.sweep()`

const streams = async (): Promise<number> =>
  (await shop.owner`select from nightshift_private.streams where project_id = ${tenant.project}`)
    .length

async function projectOf(lease: Lease | undefined): Promise<string> {
  const [row] =
    await shop.owner`select project_id from nightshift.tasks where id = ${lease?.task_id ?? 0}`
  return row?.project_id
}

describe('lanes', () => {
  test('under overload every lane keeps its share of starts and P0 the largest', async () => {
    for (let lane = 0; lane < 6; lane += 1) await enqueue(shop, tenant, many(100, { lane }))
    const starts = [0, 0, 0, 0, 0, 0]
    for (let turn = 0; turn < 100; turn += 1) {
      shop.setDraw((turn + 0.5) / 100)
      const [lease] = await shop.asService(
        (sql) =>
          sql<{ lane: number }[]>`select lane from nightshift.claim('w', ${[tenant.queue]}, 1)`,
      )
      starts[lease?.lane ?? 0] = (starts[lease?.lane ?? 0] ?? 0) + 1
    }
    expect(starts).toEqual([67, 8, 7, 6, 6, 6])
  })

  test('an empty lane passes its turn on', async () => {
    await enqueue(shop, tenant, [{ lane: 0 }])
    shop.setDraw(0.01)
    expect(await claim(shop, tenant)).toHaveLength(1)
  })
})

describe('fairness', () => {
  test('a newcomer is served at once, whatever another project has piled up', async () => {
    const other = await createTenant(shop, { definition: { queue: tenant.queue } })
    await enqueue(shop, tenant, many(500))
    for (let turn = 0; turn < 20; turn += 1) await claim(shop, tenant, { tasks: 1 })
    await enqueue(shop, other, [{}])
    const leases = [
      ...(await claim(shop, tenant, { tasks: 1 })),
      ...(await claim(shop, tenant, { tasks: 1 })),
    ]
    expect(await Promise.all(leases.map(projectOf))).toContain(other.project)
  })

  test('a project with ten agents gets no more than one with a single agent', async () => {
    const other = await createTenant(shop, { definition: { queue: tenant.queue } })
    for (let index = 0; index < 10; index += 1) {
      const name = `agent${index}`
      const definition = { instructions: 'Work.', queue: tenant.queue }
      await shop.asUser(
        tenant.owner,
        (sql) =>
          sql`select nightshift.set_agent(${tenant.project}, ${name}, ${sql.json(definition)})`,
      )
      await enqueue(shop, tenant, many(30, { agent: name }))
    }
    await enqueue(shop, other, many(100))
    const served = []
    for (let turn = 0; turn < 80; turn += 1)
      served.push(...(await claim(shop, tenant, { tasks: 1 })))
    const projects = await Promise.all(served.map(projectOf))
    const share = projects.filter((project) => project === other.project).length
    expect(share).toBeGreaterThanOrEqual(32)
    expect(share).toBeLessThanOrEqual(48)
  })

  test('a batch is shared among the streams that wait', async () => {
    const other = await createTenant(shop, { definition: { queue: tenant.queue } })
    await enqueue(shop, tenant, many(100))
    await enqueue(shop, other, many(5))
    const leases = await claim(shop, tenant, { tasks: 20 })
    const projects = await Promise.all(leases.map(projectOf))
    expect(leases).toHaveLength(20)
    expect(projects.filter((project) => project === other.project)).toHaveLength(5)
  })
})

describe('claims at the same time', () => {
  test('two claims that meet the same streams in different orders do not deadlock', async () => {
    const other = await createTenant(shop, { definition: { queue: tenant.queue } })
    await limit('agent', tenant.agent, { max_running: 500 })
    for (let round = 0; round < 8; round += 1) {
      for (const lane of [0, 5]) {
        await enqueue(shop, tenant, many(3, { lane }))
        await enqueue(shop, other, many(3, { lane, queue: tenant.queue }))
      }
      // The first serves the lowest lane first, the other one the highest.
      const claims = ['0.01', '0.99'].map((draw) =>
        shop.asService(async (sql) => {
          await sql`select set_config('nightshift.random', ${draw}, true)`
          return sql<Lease[]>`select * from nightshift.claim('w', ${[tenant.queue]}, 10)`
        }),
      )
      const leases = (await Promise.all(claims)).flat()
      expect(new Set(leases.map(({ task_id }) => task_id)).size).toBe(12)
    }
  })
})

describe('limits', () => {
  test.each([
    ['agent', 'clerk'],
    ['project', ''],
  ])(
    '%s cap: parallel claims never exceed it, and a finished task frees its slot',
    async (kind, name) => {
      await limit(kind, name, { max_running: 3 })
      await enqueue(shop, tenant, many(40))
      const rounds = await Promise.all(
        Array.from({ length: 8 }, () => claim(shop, tenant, { tasks: 2 })),
      )
      const leases = rounds.flat()
      expect(leases).toHaveLength(3)
      expect(await claim(shop, tenant, { tasks: 5 })).toEqual([])
      await complete(leases.slice(0, 2))
      expect(await claim(shop, tenant, { tasks: 5 })).toHaveLength(2)
    },
  )

  test('a lost worker frees its slot with its lease: slots are leased rows, not a counter', async () => {
    await limit('agent', 'clerk', { max_running: 1 })
    await enqueue(shop, tenant, many(2))
    await claim(shop, tenant)
    await shop.owner`update nightshift.tasks set lease_until = now() - interval '1 s' where project_id = ${tenant.project} and status = 'running'`
    await sweep()
    expect(await claim(shop, tenant, { tasks: 5 })).toHaveLength(1)
  })

  test('rate: N per period, refilled by the clock', async () => {
    shop.setClock(new Date('2030-01-01T00:00:00Z'))
    await limit('agent', 'clerk', { rate_count: 5, rate_period_seconds: 60 })
    await enqueue(shop, tenant, many(20))
    expect(await claim(shop, tenant, { tasks: 10 })).toHaveLength(5)
    expect(await claim(shop, tenant, { tasks: 10 })).toEqual([])
    shop.setClock(new Date('2030-01-01T00:00:24Z'))
    expect(await claim(shop, tenant, { tasks: 10 })).toHaveLength(2)
    shop.setClock(new Date('2030-01-01T01:00:00Z'))
    expect(await claim(shop, tenant, { tasks: 10 })).toHaveLength(5)
  })

  test('pause and resume take effect at the next claim, and a paused stream delays no other', async () => {
    const other = await createTenant(shop, { definition: { queue: tenant.queue } })
    await enqueue(shop, tenant, many(50))
    await limit('agent', 'clerk', { paused: true, reason: 'maintenance' })
    await enqueue(shop, other, [{}])
    const leases = await claim(shop, tenant, { tasks: 10 })
    expect(await Promise.all(leases.map(projectOf))).toEqual([other.project])
    await limit('agent', 'clerk', { paused: false })
    expect(await claim(shop, tenant, { tasks: 10 })).toHaveLength(10)
  })

  test('tasks of one concurrency key run one at a time, in order; other keys are free', async () => {
    const rows = await enqueue(shop, tenant, [
      { concurrency_key: 'customer-1' },
      { concurrency_key: 'customer-1' },
      { concurrency_key: 'customer-2' },
    ])
    const first = await claim(shop, tenant, { tasks: 10 })
    expect(first.map((lease) => lease.task_id).toSorted()).toEqual([rows[0]?.id, rows[2]?.id])
    expect(await claim(shop, tenant, { tasks: 10 })).toEqual([])
    await complete(first.filter((lease) => lease.task_id === rows[0]?.id))
    expect((await claim(shop, tenant, { tasks: 10 })).map((lease) => lease.task_id)).toEqual([
      rows[1]?.id,
    ])
  })

  test('a limit row widens a key, and removing it narrows it again', async () => {
    await limit('key', 'wide', { max_running: 2 })
    await enqueue(shop, tenant, many(4, { concurrency_key: 'wide' }))
    const leases = await claim(shop, tenant, { tasks: 10 })
    expect(leases).toHaveLength(2)
    await limit('key', 'wide', null)
    await complete(leases)
    expect(await claim(shop, tenant, { tasks: 10 })).toHaveLength(1)
  })

  test('a viewer may not change limits; unknown fields are refused', async () => {
    await expect(limit('agent', 'clerk', { max_runing: 3 })).rejects.toThrow('max_runing')
  })
})

describe('streams', () => {
  test('an empty stream is forgotten, and comes back with its next task', async () => {
    await enqueue(shop, tenant, [{}])
    await complete(await claim(shop, tenant))
    expect(await streams()).toBe(1)
    expect(await claim(shop, tenant)).toEqual([])
    expect(await streams()).toBe(0)
    await enqueue(shop, tenant, [{}])
    expect(await claim(shop, tenant)).toHaveLength(1)
  })

  test('a task that is being enqueued while its stream is found empty is not lost', async () => {
    await enqueue(shop, tenant, [{}])
    await complete(await claim(shop, tenant))
    // An enqueue that has seen the stream's row and is not committed yet.
    const late = await shop.owner.reserve()
    await late`begin`
    await late`select * from nightshift.enqueue(${shop.owner.json([{ project: tenant.project, agent: 'clerk' }])})`
    expect(await claim(shop, tenant)).toEqual([])
    await late`commit`
    late.release()
    expect(await claim(shop, tenant)).toHaveLength(1)
  })

  test('enqueuers never wait for each other, however long one takes to commit or roll back', async () => {
    const slow = await shop.owner.reserve()
    const request = shop.owner.json([{ project: tenant.project, agent: 'clerk' }])
    await slow`begin`
    await slow`select * from nightshift.enqueue(${request})`
    await enqueue(shop, tenant, [{}])
    expect(await claim(shop, tenant, { tasks: 5 })).toHaveLength(1)
    await slow`rollback`
    slow.release()
    await enqueue(shop, tenant, [{}])
    expect(await claim(shop, tenant, { tasks: 5 })).toHaveLength(1)
    expect(await claim(shop, tenant)).toEqual([])
    expect(await streams()).toBe(0)
  })

  test('retry, rescue, release and due tasks all wake their stream', async () => {
    shop.setClock(new Date('2030-01-01T00:00:00Z'))
    const [row] = await enqueue(shop, tenant, [{ run_at: '2030-01-01T01:00:00Z' }])
    expect(await claim(shop, tenant)).toEqual([])
    shop.setClock(new Date('2030-01-01T01:00:01Z'))
    await shop.owner`select set_config('nightshift.now', '2030-01-01T01:00:01Z', false), nightshift_private.release_due()`
    const [lease] = await claim(shop, tenant)
    expect(lease?.task_id).toBe(row?.id)
    await shop.asService(
      (sql) => sql`select nightshift.release(${lease?.task_id ?? 0}, ${lease?.fence ?? 0})`,
    )
    const [again] = await claim(shop, tenant)
    expect(again?.task_id).toBe(row?.id)
    await shop.asUser(tenant.owner, (sql) => sql`select nightshift.cancel(${row?.id ?? 0})`)
    await shop.asUser(tenant.owner, (sql) => sql`select nightshift.retry(${row?.id ?? 0})`)
    expect(await claim(shop, tenant)).toHaveLength(1)
  })
})
