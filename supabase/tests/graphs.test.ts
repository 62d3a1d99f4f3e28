import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { Json, Shop } from './actors.ts'
import { openShop, refusal } from './actors.ts'
import {
  cancel,
  claim,
  commit,
  complete,
  createTenant,
  createUser,
  enqueue,
  fail,
  type Lease,
  statusesOf,
  type Tenant,
  taskOf,
} from './tenant.ts'

let shop: Shop
let tenant: Tenant
beforeAll(async () => {
  shop = await openShop()
})
beforeEach(async () => {
  tenant = await createTenant(shop)
})
afterAll(async () => {
  await shop.close()
})

const make = async (tasks: Record<string, Json>[]): Promise<number[]> =>
  (await enqueue(shop, tenant, tasks)).map((row) => row.id)

/** Claims all that is pending, by id. */
const claimAll = async (): Promise<Map<number, Lease>> =>
  new Map((await claim(shop, tenant, { tasks: 1000 })).map((lease) => [lease.task_id, lease]))

const lease = (leases: Map<number, Lease>, id: number | undefined): Lease => {
  const found = leases.get(id ?? 0)
  if (!found) throw new Error(`task ${id} is not held`)
  return found
}

const stranded = async (): Promise<number> => {
  const [row] = await shop.owner`select count(*) from nightshift.v_stranded`
  return Number(row?.count)
}

describe('dependencies', () => {
  test('the last one to complete lets the task go', async () => {
    const ids = await make([{ key: 'a' }, { key: 'b' }, { after: ['a', 'b'] }])
    const held = await claimAll()
    await complete(shop, [lease(held, ids[0])])
    expect(await statusesOf(shop, ids)).toEqual(['completed', 'running', 'blocked'])
    await complete(shop, [lease(held, ids[1])])
    expect(await statusesOf(shop, ids)).toEqual(['completed', 'completed', 'pending'])
  })

  test('two dependencies completed in one batch count twice', async () => {
    const ids = await make([{ key: 'a' }, { key: 'b' }, { after: ['a', 'b'] }])
    await complete(shop, [...(await claimAll()).values()])
    expect(await statusesOf(shop, ids)).toEqual(['completed', 'completed', 'pending'])
  })

  test('a released task still waits for its time', async () => {
    const ids = await make([{ key: 'a' }, { after: ['a'], run_at: '2040-01-01T00:00:00Z' }])
    await complete(shop, [...(await claimAll()).values()])
    expect(await statusesOf(shop, ids)).toEqual(['completed', 'scheduled'])
  })

  test('failure and cancellation run down the chain', async () => {
    const ids = await make([{ key: 'a' }, { key: 'b', after: ['a'] }, { after: ['b'] }])
    await fail(shop, lease(await claimAll(), ids[0]), 'permission')
    expect(await statusesOf(shop, ids)).toEqual(['failed', 'failed', 'failed'])
    expect(await taskOf(shop, ids[1] ?? 0)).toMatchObject({
      failure_class: 'dependency',
      error: { message: `Dependency ${ids[0]} is failed`, dependency: ids[0] },
    })
    const others = await make([{ key: 'a' }, { after: ['a'] }])
    await cancel(shop, tenant, others[0] ?? 0)
    expect(await statusesOf(shop, others)).toEqual(['cancelled', 'failed'])
  })

  test('a failure that will be retried holds, it does not propagate', async () => {
    const ids = await make([{ key: 'a' }, { after: ['a'] }])
    await fail(shop, lease(await claimAll(), ids[0]), 'external')
    expect(await statusesOf(shop, ids)).toEqual(['scheduled', 'blocked'])
  })

  test('a chain of 1,000 fails in one call (recursion would overflow the stack)', async () => {
    const ids = await make(
      Array.from({ length: 1000 }, (_, i) => ({
        key: `k${i}`,
        after: i === 0 ? [] : [`k${i - 1}`],
      })),
    )
    await cancel(shop, tenant, ids[0] ?? 0)
    expect(new Set((await statusesOf(shop, ids)).slice(1))).toEqual(new Set(['failed']))
  })

  test('a diamond joins once', async () => {
    const ids = await make([
      { key: 'top' },
      { key: 'left', after: ['top'] },
      { key: 'right', after: ['top'] },
      { after: ['left', 'right'] },
    ])
    await complete(shop, [...(await claimAll()).values()])
    await complete(shop, [...(await claimAll()).values()])
    expect(await statusesOf(shop, ids)).toEqual(['completed', 'completed', 'completed', 'pending'])
  })
})

describe('groups', () => {
  /** Ends the children in this order and reads what became of parent and children. */
  const play = async (combinator: string, ends: ('ok' | 'no')[]): Promise<string[]> => {
    const ids = await make([
      { key: 'p', combinator },
      { parent: 'p' },
      { parent: 'p' },
      { parent: 'p' },
    ])
    const held = await claimAll()
    for (const [i, end] of ends.entries()) {
      const child = lease(held, ids[i + 1])
      if (end === 'ok') await complete(shop, [child])
      else await fail(shop, child, 'permission')
    }
    return statusesOf(shop, ids)
  }

  test.each<[string, ('ok' | 'no')[], string[]]>([
    ['all', ['ok', 'ok'], ['awaiting_children', 'completed', 'completed', 'running']],
    ['all', ['ok', 'ok', 'ok'], ['pending', 'completed', 'completed', 'completed']],
    ['all', ['ok', 'no'], ['failed', 'completed', 'failed', 'cancelled']],
    ['race', ['ok'], ['pending', 'completed', 'cancelled', 'cancelled']],
    ['race', ['no'], ['failed', 'failed', 'cancelled', 'cancelled']],
    ['any', ['no', 'no'], ['awaiting_children', 'failed', 'failed', 'running']],
    ['any', ['no', 'ok'], ['pending', 'failed', 'completed', 'cancelled']],
    ['any', ['no', 'no', 'no'], ['failed', 'failed', 'failed', 'failed']],
    ['all_settled', ['ok', 'no'], ['awaiting_children', 'completed', 'failed', 'running']],
    ['all_settled', ['ok', 'no', 'no'], ['pending', 'completed', 'failed', 'failed']],
  ])('%s with %j', async (combinator, ends, statuses) => {
    expect(await play(combinator, ends)).toEqual(statuses)
    expect(await stranded()).toBe(0)
  })

  test('a lost group says why', async () => {
    const ids = await make([{ key: 'p', combinator: 'all' }, { parent: 'p' }, { parent: 'p' }])
    await fail(shop, lease(await claimAll(), ids[1]), 'permission')
    expect(await taskOf(shop, ids[0] ?? 0)).toMatchObject({
      failure_class: 'dependency',
      error: { message: 'Group all: 1 of 2 tasks failed' },
    })
  })

  test('losers take their own children and dependents with them', async () => {
    const ids = await make([
      { key: 'p', combinator: 'race' },
      { key: 'fast', parent: 'p' },
      { key: 'slow', parent: 'p', combinator: 'all' },
      { key: 'deep', parent: 'slow' },
      { after: ['slow'] },
    ])
    await complete(shop, [lease(await claimAll(), ids[1])])
    expect(await statusesOf(shop, ids)).toEqual([
      'pending',
      'completed',
      'cancelled',
      'cancelled',
      'failed',
    ])
  })

  test('groups in groups wake from the inside out', async () => {
    const ids = await make([
      { key: 'outer', combinator: 'all' },
      { key: 'inner', parent: 'outer', combinator: 'all_settled' },
      { parent: 'inner' },
      { parent: 'outer' },
    ])
    await complete(shop, [...(await claimAll()).values()])
    expect(await statusesOf(shop, ids)).toEqual([
      'awaiting_children',
      'pending',
      'completed',
      'completed',
    ])
    await complete(shop, [...(await claimAll()).values()])
    expect((await statusesOf(shop, ids))[0]).toBe('pending')
  })

  test('a group that waits for another task counts what settled meanwhile', async () => {
    const ids = await make([
      { key: 'first', lane: 5 },
      { key: 'p', combinator: 'all', after: ['first'] },
      { parent: 'p', lane: 0 },
      { after: ['p'] },
    ])
    const held = await claimAll()
    await complete(shop, [lease(held, ids[2])])
    expect(await statusesOf(shop, ids)).toEqual(['running', 'blocked', 'completed', 'blocked'])
    await complete(shop, [lease(held, ids[0])])
    expect(await statusesOf(shop, ids)).toEqual(['completed', 'pending', 'completed', 'blocked'])
  })

  test('a group whose child failed while it was blocked fails when it is released', async () => {
    const ids = await make([
      { key: 'first', lane: 5 },
      { key: 'p', combinator: 'all', after: ['first'] },
      { parent: 'p', lane: 0 },
      { parent: 'p', lane: 1 },
    ])
    const held = await claimAll()
    await fail(shop, lease(held, ids[2]), 'permission')
    await complete(shop, [lease(held, ids[0])])
    expect(await statusesOf(shop, ids)).toEqual(['completed', 'failed', 'failed', 'cancelled'])
  })

  test('the parent that woke sees what its children brought', async () => {
    const ids = await make([
      { key: 'p', combinator: 'all' },
      { parent: 'p', labels: ['x'] },
    ])
    await complete(shop, [...(await claimAll()).values()], { found: 1 })
    const parent = lease(await claimAll(), ids[0])
    const [row] = await shop.asService(
      (sql) => sql`select nightshift.load_session(${parent.task_id}, ${parent.fence}) as session`,
    )
    expect(row?.session.children).toEqual([
      expect.objectContaining({
        id: ids[1],
        status: 'completed',
        output: { found: 1 },
        labels: ['x'],
      }),
    ])
  })

  test('cancelling a parent ends all below it and supersedes their cards', async () => {
    const ids = await make([
      { key: 'p', combinator: 'all' },
      { parent: 'p', lane: 0 },
      { parent: 'p', run_at: '2040-01-01T00:00:00Z' },
    ])
    const child = lease(await claimAll(), ids[1])
    await commit(shop, child, {
      steps: [{ kind: 'ask', action: 'x' }],
      outcome: {
        status: 'awaiting_approval',
        card: { title: 'x', action: { tool: 't' }, risk: 'low' },
      },
    })
    await cancel(shop, tenant, ids[0] ?? 0)
    expect(await statusesOf(shop, ids)).toEqual(['cancelled', 'cancelled', 'cancelled'])
    const cards =
      await shop.owner`select status from nightshift.cards where task_id = ${ids[1] ?? 0}`
    expect([...cards]).toEqual([{ status: 'superseded' }])
  })

  test('children of a completed parent run on', async () => {
    const [parent = 0] = await make([{}])
    const held = lease(await claimAll(), parent)
    const [child = 0] = await make([{ parent }])
    await complete(shop, [held])
    expect(await statusesOf(shop, [parent, child])).toEqual(['completed', 'pending'])
  })
})

describe('at the same instant', () => {
  test('two children finish: the parent wakes exactly once', async () => {
    for (let trial = 0; trial < 15; trial += 1) {
      const ids = await make([{ key: 'p', combinator: 'all' }, { parent: 'p' }, { parent: 'p' }])
      const held = await claimAll()
      await Promise.all(ids.slice(1).map((id) => complete(shop, [lease(held, id)])))
      const woken = await shop.owner`
        select 1 from nightshift.audit_events where task_id = ${ids[0] ?? 0} and action = 'task.pending'`
      expect(woken).toHaveLength(1)
      await complete(shop, [...(await claimAll()).values()])
    }
  })

  test('two children race: one wins, the other is cancelled or stale', async () => {
    for (let trial = 0; trial < 15; trial += 1) {
      const ids = await make([{ key: 'p', combinator: 'race' }, { parent: 'p' }, { parent: 'p' }])
      const held = await claimAll()
      const outcomes = await Promise.all(
        ids.slice(1).map((id) => complete(shop, [lease(held, id)])),
      )
      expect(outcomes.flat().sort()).toEqual(['completed', 'stale'])
      expect((await statusesOf(shop, ids)).sort()).toEqual(['cancelled', 'completed', 'pending'])
      await complete(shop, [...(await claimAll()).values()])
    }
  })

  test('ends that touch each other from all sides never deadlock', async () => {
    for (let trial = 0; trial < 8; trial += 1) {
      const ids = await make([
        { key: 'g1', combinator: 'race' },
        { key: 'g2', combinator: 'all' },
        { key: 'a', parent: 'g1' },
        { key: 'b', parent: 'g2' },
        { key: 'c', parent: 'g1' },
        { key: 'd', parent: 'g2' },
        { key: 'e', after: ['a', 'b'], parent: 'g2' },
        { key: 'f', after: ['d', 'c'], parent: 'g1' },
      ])
      const held = await claimAll()
      const take = (i: number): Lease => lease(held, ids[i])
      const heartbeat = shop.asService(
        (sql) =>
          sql`select 1 from nightshift.heartbeat(${sql.json([...held.values()].reverse().map(({ task_id, fence }) => ({ task_id, fence })))})`,
      )
      const calls = [
        complete(shop, [take(5), take(2)]),
        complete(shop, [take(4), take(3)]),
        heartbeat,
        cancel(shop, tenant, ids[6] ?? 0),
        enqueue(shop, tenant, [{ after: [ids[7] ?? 0, ids[0] ?? 0] }]),
      ]
      const results = await Promise.allSettled(calls)
      for (const result of results) {
        // The dependency of the late arrival may have ended: that is an answer, a deadlock is not.
        if (result.status === 'rejected') expect(String(result.reason)).toContain('NS028')
      }
      expect(await stranded()).toBe(0)
      await complete(shop, [...(await claimAll()).values()])
    }
  })
})

describe('waiting for itself', () => {
  const wantsCircle = async (tasks: Record<string, Json>[]): Promise<void> =>
    expect(await refusal(make(tasks))).toMatchObject({ code: 'NS035', status: 422 })

  test('a child cannot wait for its group', async () => {
    await wantsCircle([
      { key: 'g', combinator: 'all' },
      { key: 'c', parent: 'g', after: ['g'] },
    ])
    await wantsCircle([
      { key: 'g', combinator: 'any' },
      { key: 'h', parent: 'g', combinator: 'all' },
      { parent: 'h', after: ['g'] },
    ])
  })

  test('a child that comes later cannot wait for what waits for the group', async () => {
    const [group = 0, , follower = 0] = await make([
      { key: 'g', combinator: 'all' },
      { parent: 'g' },
      { key: 'f', after: ['g'] },
    ])
    await wantsCircle([{ parent: group, after: [follower] }])
    await make([{ parent: group }, { after: [follower] }])
  })

  test('two calls cannot close a circle together', async () => {
    const [one = 0, , two = 0] = await make([
      { key: 'g', combinator: 'all' },
      { parent: 'g' },
      { key: 'h', combinator: 'all' },
      { parent: 'h' },
    ])
    const results = await Promise.allSettled([
      make([{ parent: one, after: [two] }]),
      make([{ parent: two, after: [one] }]),
    ])
    expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
  })

  test('a dependency named in two ways counts once', async () => {
    const [first = 0] = await make([{ key: 'a' }])
    const [second = 0] = await make([{ after: [first, `0${first}`] }])
    expect(await taskOf(shop, second)).toMatchObject({ status: 'blocked', open_dependencies: 1 })
    await complete(shop, [lease(await claimAll(), first)])
    expect(await statusesOf(shop, [second])).toEqual(['pending'])
  })
})

test('task_tree shows a task with all below it, to members only', async () => {
  const ids = await make([
    { key: 'p', combinator: 'all' },
    { key: 'q', parent: 'p', combinator: 'all' },
    { parent: 'q' },
    { parent: 'p' },
  ])
  const tree = (user: string): Promise<readonly { id: number; depth: number }[]> =>
    shop.asUser(
      user,
      (sql) =>
        sql<
          { id: number; depth: number }[]
        >`select id, depth from nightshift.task_tree(${ids[0] ?? 0})`,
    )
  expect([...(await tree(tenant.owner))]).toEqual([
    { id: ids[0], depth: 0 },
    { id: ids[1], depth: 1 },
    { id: ids[2], depth: 2 },
    { id: ids[3], depth: 1 },
  ])
  expect(await tree(await createUser(shop))).toHaveLength(0)
  const refused = await refusal(shop.asAnon((sql) => sql`select * from nightshift.task_tree(1)`))
  expect(refused.code).toBe('42501')
})
