import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Json, openShop, refusal, type Shop } from './actors.ts'
import {
  addMember,
  cancel,
  claim,
  claimOne,
  commit,
  createTenant,
  enqueue,
  enqueueOne,
  fail,
  retry,
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

const bulk = async (
  action: string,
  filter: Json,
  more: { dry?: boolean; lane?: number; batch?: number } = {},
): Promise<Json> => {
  const [row] = await shop.asUser(
    tenant.owner,
    (sql) =>
      sql`select nightshift.bulk(${tenant.project}, ${action}, ${sql.json(filter)}, ${more.dry ?? false}, ${more.lane ?? null}, ${more.batch ?? 500}) as answer`,
  )
  return row?.answer
}
const why = async (id: number): Promise<{ reason: string; [fact: string]: Json | undefined }> => {
  const [row] = await shop.asUser(
    tenant.owner,
    (sql) => sql`select nightshift.why(${id}) as answer`,
  )
  return row?.answer
}
const move = (id: number, lane: number): Promise<unknown> =>
  shop.asUser(tenant.owner, (sql) => sql`select nightshift.move(${id}, ${lane})`)
const sweepAt = (time: string): Promise<unknown> =>
  shop.owner.begin(async (sql) => {
    await sql`select set_config('nightshift.now', ${time}, true)`
    await sql`select nightshift_private.sweep()`
  })

describe('move', () => {
  test('a moved task is served by its new lane, also one that waits', async () => {
    const rows = await enqueue(shop, tenant, [{ lane: 2 }, { lane: 4 }])
    await move(rows[1]?.id ?? 0, 0)
    const lease = await claimOne(shop, tenant)
    expect(lease.task_id).toBe(rows[1]?.id)
  })

  test('a lane out of range is refused, a viewer may not', async () => {
    const id = await enqueueOne(shop, tenant)
    expect((await refusal(move(id, 6))).code).toBe('NS001')
    const viewer = await addMember(shop, tenant, 'viewer')
    const refused = await refusal(
      shop.asUser(viewer, (sql) => sql`select nightshift.move(${id}, 1)`),
    )
    expect(refused.code).toBe('NS011')
  })
})

describe('replay', () => {
  test('makes a new task with the same or edited input, labelled with the old one', async () => {
    const id = await enqueueOne(shop, tenant, { input: { a: 1 }, labels: ['x'] })
    await cancel(shop, tenant, id)
    const ids = await shop.asUser(
      tenant.owner,
      (sql) =>
        sql`select nightshift.replay(${id}) as same, nightshift.replay(${id}, '{"a": 2}') as edited`,
    )
    const rows =
      await shop.owner`select input, labels, status from nightshift.tasks where id in (${ids[0]?.same}, ${ids[0]?.edited}) order by id`
    expect(rows.map((row) => row)).toEqual([
      { input: { a: 1 }, labels: ['x', `replay:${id}`], status: 'pending' },
      { input: { a: 2 }, labels: ['x', `replay:${id}`], status: 'pending' },
    ])
    expect(await taskOf(shop, id)).toMatchObject({ status: 'cancelled' })
  })
})

describe('bulk', () => {
  test('an empty or misspelt filter is refused, whatever the action', async () => {
    await enqueueOne(shop, tenant)
    expect((await refusal(bulk('cancel', {}))).code).toBe('NS001')
    expect((await refusal(bulk('cancel', { agnet: 'clerk' }))).code).toBe('NS002')
    expect((await refusal(bulk('explode', { agent: 'clerk' }))).code).toBe('NS001')
  })

  test('a dry run changes nothing; the real one goes on batch by batch', async () => {
    await enqueue(
      shop,
      tenant,
      Array.from({ length: 7 }, () => ({ labels: ['old'] })),
    )
    await enqueueOne(shop, tenant, { labels: ['new'] })
    expect(await bulk('cancel', { label: 'old' }, { dry: true })).toEqual({
      matched: 7,
      done: 0,
      left: 7,
    })
    expect(await bulk('cancel', { label: 'old' }, { batch: 5 })).toEqual({
      matched: 7,
      done: 5,
      left: 2,
    })
    expect(await bulk('cancel', { label: 'old' }, { batch: 5 })).toEqual({
      matched: 2,
      done: 2,
      left: 0,
    })
    expect(await claim(shop, tenant, { tasks: 10 })).toHaveLength(1)
  })

  test('redrive: dead letters of one class go back to the queue', async () => {
    await enqueue(shop, tenant, [{}, {}, {}])
    const leases = await claim(shop, tenant, { tasks: 3 })
    await fail(shop, leases[0] ?? { task_id: 0, fence: 0, attempt: 0 }, 'permission')
    await fail(shop, leases[1] ?? { task_id: 0, fence: 0, attempt: 0 }, 'budget')
    expect(await bulk('retry', { failure_class: 'permission' })).toMatchObject({ done: 1 })
    expect((await claim(shop, tenant, { tasks: 5 })).map((lease) => lease.task_id)).toEqual([
      leases[0]?.task_id,
    ])
  })

  test('a bulk cancel and a single one that touch the same tasks do not deadlock', async () => {
    for (let round = 0; round < 8; round += 1) {
      const label = `round ${round}`
      const [, second] = await enqueue(shop, tenant, [
        { key: 'a', labels: [label] },
        { key: 'b', labels: [label] },
        ...Array.from({ length: 20 }, () => ({ after: ['a', 'b'] })),
      ])
      await Promise.all([bulk('cancel', { label }), cancel(shop, tenant, second?.id ?? 0)])
    }
  })

  test('nobody reaches another project', async () => {
    const other = await createTenant(shop)
    const id = await enqueueOne(shop, other)
    await bulk('cancel', { status: 'pending' })
    expect(await taskOf(shop, id)).toMatchObject({ status: 'pending' })
  })
})

describe('why', () => {
  test('names what a task waits for, in every state', async () => {
    const [first, second] = await enqueue(shop, tenant, [{ key: 'a' }, { after: ['a'] }])
    const later = await enqueueOne(shop, tenant, { run_at: '2099-01-01T00:00:00Z' })
    const third = await enqueueOne(shop, tenant)
    expect(await why(second?.id ?? 0)).toMatchObject({
      reason: 'Waits for other tasks',
      tasks: [first?.id],
    })
    expect(await why(later)).toMatchObject({ reason: 'Not due yet' })
    expect(await why(third)).toMatchObject({
      reason: '1 tasks of its stream are before it',
      before: 1,
    })
    expect((await why(first?.id ?? 0)).reason).toContain('waits for a worker')
    const lease = await claimOne(shop, tenant)
    expect(await why(lease.task_id)).toMatchObject({ reason: 'A worker holds it' })
    await fail(shop, lease, 'permission')
    expect(await why(lease.task_id)).toMatchObject({ reason: 'Ended', failure_class: 'permission' })
  })

  test.each([
    [{ paused: true, reason: 'audit' }, 'Paused by agent limit "clerk"'],
    [{ max_running: 0 }, 'All 0 slots of agent limit "clerk" are taken'],
  ])('names the limit %o', async (definition, reason) => {
    await shop.asUser(
      tenant.owner,
      (sql) =>
        sql`select nightshift.set_limit(${tenant.project}, 'agent', 'clerk', ${sql.json(definition)})`,
    )
    const id = await enqueueOne(shop, tenant)
    expect(await why(id)).toMatchObject({ reason })
  })

  test('a foreign task looks unknown', async () => {
    const other = await createTenant(shop)
    const id = await enqueueOne(shop, other)
    expect((await refusal(why(id))).code).toBe('NS032')
  })
})

describe('stuck and healing', () => {
  test('no progress for 15 minutes ends the attempt in spite of heartbeats, and the task goes to another worker', async () => {
    shop.setClock(new Date('2030-01-01T00:00:00Z'))
    const id = await enqueueOne(shop, tenant)
    const lease = await claimOne(shop, tenant)
    shop.setClock(new Date('2030-01-01T00:14:00Z'))
    await shop.asService(
      (sql) =>
        sql`select * from nightshift.heartbeat(${sql.json([{ task_id: id, fence: lease.fence }])}, 300)`,
    )
    await sweepAt('2030-01-01T00:14:30Z')
    expect(await taskOf(shop, id)).toMatchObject({ status: 'running' })
    await sweepAt('2030-01-01T00:15:01Z')
    expect(await taskOf(shop, id)).toMatchObject({ status: 'scheduled', attempt: 1 })
    await sweepAt('2030-01-01T00:18:00Z')
    shop.setClock(new Date('2030-01-01T00:18:00Z'))
    const [worker] = await shop.owner`select avoid_worker from nightshift.tasks where id = ${id}`
    const claimBy = (name: string): Promise<readonly unknown[]> =>
      shop.asService(
        (sql) => sql`select task_id from nightshift.claim(${name}, ${[tenant.queue]}, 1)`,
      )
    expect(await claimBy(worker?.avoid_worker)).toHaveLength(0)
    expect(await claimBy('somebody-else')).toHaveLength(1)
  })

  test('progress resets the watch', async () => {
    shop.setClock(new Date('2030-01-01T00:00:00Z'))
    const id = await enqueueOne(shop, tenant)
    const lease = await claimOne(shop, tenant)
    shop.setClock(new Date('2030-01-01T00:10:00Z'))
    await shop.asService(
      (sql) =>
        sql`select * from nightshift.heartbeat(${sql.json([{ task_id: id, fence: lease.fence }])}, 3600)`,
    )
    await commit(shop, lease, {
      steps: [{ kind: 'tool_call', action: 'x', output: {} }],
      outcome: { status: 'running' },
    })
    await shop.asService(
      (sql) =>
        sql`select * from nightshift.heartbeat(${sql.json([{ task_id: id, fence: lease.fence }])}, 3600)`,
    )
    await sweepAt('2030-01-01T00:20:00Z')
    expect(await taskOf(shop, id)).toMatchObject({ status: 'running' })
  })

  test('a hopeless task gets one last attempt with a stronger tier, then ends', async () => {
    tenant = await createTenant(shop, { definition: { max_attempts: 1, tier: 'cheap' } })
    const id = await enqueueOne(shop, tenant)
    const lease = await claimOne(shop, tenant)
    await fail(shop, lease, 'malformed_output')
    expect(await taskOf(shop, id)).toMatchObject({ status: 'scheduled' })
    await shop.owner`update nightshift.tasks set status = 'pending' where id = ${id}`
    const last = await claimOne(shop, tenant)
    const [row] = await shop.asService(
      (sql) => sql`select nightshift.load_session(${id}, ${last.fence}) as session`,
    )
    expect(row?.session.models[0]).toMatchObject({ tier: 'mid' })
    await fail(shop, last, 'malformed_output')
    expect(await taskOf(shop, id)).toMatchObject({
      status: 'failed',
      failure_class: 'malformed_output',
    })
    await retry(shop, tenant, id)
    expect(await taskOf(shop, id)).toMatchObject({ status: 'pending', attempt: 0 })
  })
})
