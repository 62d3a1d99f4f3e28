import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { openShop, refusal, type Shop } from './actors.ts'
import {
  addMember,
  cancel,
  claim,
  claimOne,
  commit,
  complete,
  createTenant,
  createUser,
  enqueue,
  enqueueOne,
  fail,
  retry,
  startOne,
  statusesOf,
  sweep,
  type Tenant,
  taskOf,
} from './tenant.ts'

let shop: Shop
let tenant: Tenant
const start = Date.parse('2030-01-01T00:00:00Z')
/** Turns the clock to so many seconds after the start of the story. */
const at = (seconds: number): void => shop.setClock(new Date(start + seconds * 1000))

beforeAll(async () => {
  shop = await openShop()
})
beforeEach(async () => {
  at(0)
  tenant = await createTenant(shop)
})
afterAll(() => shop.close())

describe('failure classes', () => {
  test.each([
    ['context_loss', 'pending', 0],
    ['rate_limit', 'scheduled', 120],
    ['optimistic_completion', 'pending', 0],
    ['stuck', 'scheduled', 120],
    ['malformed_output', 'scheduled', 10],
    ['external', 'scheduled', 120],
    ['internal', 'scheduled', 120],
  ])('%s is tried again: %s after %i s', async (failureClass, status, seconds) => {
    const lease = await startOne(shop, tenant)
    expect(await fail(shop, lease, failureClass, { message: 'no' })).toBe(status)
    const task = await taskOf(shop, lease.task_id)
    expect(task).toMatchObject({ failure_class: null, error: { message: 'no' } })
    expect(task.run_at.getTime()).toBe(start + seconds * 1000)
  })

  test.each(['dependency', 'permission', 'budget', 'expired'])(
    '%s is final',
    async (failureClass) => {
      const lease = await startOne(shop, tenant)
      expect(await fail(shop, lease, failureClass, { message: 'no' })).toBe('failed')
      expect(await taskOf(shop, lease.task_id)).toMatchObject({
        failure_class: failureClass,
        lease_until: null,
      })
    },
  )

  test('all classes of the table are covered above', async () => {
    const [row] = await shop.owner`select count(*) from nightshift.failure_policies`
    expect(row?.count).toBe(11)
  })

  test('an unknown class is refused', async () => {
    const lease = await startOne(shop, tenant)
    const refused = await refusal(fail(shop, lease, 'bad_luck'))
    expect(refused).toMatchObject({ code: 'NS001', message: 'Unknown failure class "bad_luck"' })
    expect(await statusesOf(shop, [lease.task_id])).toEqual(['running'])
  })

  test('an error text beyond 8 KB is refused', async () => {
    const lease = await startOne(shop, tenant)
    expect((await refusal(fail(shop, lease, 'external', { message: 'x'.repeat(9000) }))).code).toBe(
      'NS022',
    )
  })

  test('a second report of the same failure is refused', async () => {
    const lease = await startOne(shop, tenant)
    await fail(shop, lease, 'external')
    expect((await refusal(fail(shop, lease, 'external'))).code).toBe('NS030')
  })
})

describe('backoff', () => {
  test('2, 10, 30 minutes, and the fourth attempt is the last', async () => {
    const id = await enqueueOne(shop, tenant)
    let now = 0
    for (const [attempt, minutes] of [2, 10, 30].entries()) {
      const lease = await claimOne(shop, tenant)
      expect(lease.attempt).toBe(attempt + 1)
      expect(await fail(shop, lease, 'external')).toBe('scheduled')
      at(now + minutes * 60 - 1)
      await sweep(shop)
      expect(await claim(shop, tenant)).toEqual([])
      now += minutes * 60
      at(now)
      await sweep(shop)
    }
    expect(await fail(shop, await claimOne(shop, tenant), 'external', { message: 'still' })).toBe(
      'failed',
    )
    expect(await taskOf(shop, id)).toMatchObject({
      attempt: 4,
      failure_class: 'external',
      error: { message: 'still' },
    })
  })

  test('what the provider says wins, within a week', async () => {
    const lease = await startOne(shop, tenant)
    await fail(shop, lease, 'rate_limit', { retry_after_ms: 1500 })
    expect((await taskOf(shop, lease.task_id)).run_at.getTime()).toBe(start + 1500)
    const other = await startOne(shop, tenant)
    await fail(shop, other, 'rate_limit', { retry_after_ms: 1e15 })
    expect((await taskOf(shop, other.task_id)).run_at.getTime()).toBe(start + 7 * 86_400_000)
  })

  test('waiting for a rate limit burns no attempt', async () => {
    const id = await enqueueOne(shop, tenant)
    for (let wait = 1; wait <= 10; wait += 1) {
      await fail(shop, await claimOne(shop, tenant), 'rate_limit')
      at(wait * 120)
      await sweep(shop)
    }
    expect(await taskOf(shop, id)).toMatchObject({ status: 'pending', attempt: 1 })
  })

  test('max_attempts of the agent counts', async () => {
    const once = await createTenant(shop, { definition: { max_attempts: 1 } })
    expect(await fail(shop, await startOne(shop, once), 'external')).toBe('failed')
  })
})

describe('terminal is terminal', () => {
  test('for workers, sweeps and cancels', async () => {
    const done = await startOne(shop, tenant)
    await complete(shop, [done], 'yes')
    const before = await taskOf(shop, done.task_id)
    expect(await cancel(shop, tenant, done.task_id)).toBe('completed')
    at(86_400)
    await sweep(shop)
    expect((await refusal(commit(shop, done, { outcome: { status: 'running' } }))).code).toBe(
      'NS030',
    )
    expect(await taskOf(shop, done.task_id)).toEqual(before)
  })

  test('even the owner of the tables gets no illegal transition', async () => {
    const done = await startOne(shop, tenant)
    await complete(shop, [done])
    const refused = await refusal(
      shop.owner`update nightshift.tasks set status = 'pending' where id = ${done.task_id}`.then(),
    )
    expect(refused).toMatchObject({ code: 'NS031', details: 'illegal_transition' })
    expect(refused.message).toBe(`Cannot change task ${done.task_id} from "completed" to "pending"`)
  })

  test('exactly the transitions of the table are possible', async () => {
    const rows = await shop.owner`
      select from_status, array_agg(to_status::text order by to_status) as next from nightshift.task_transitions group by 1`
    const next = Object.fromEntries(rows.map((row) => [row.from_status, row.next]))
    expect(next.completed).toBeUndefined()
    expect(next.failed).toEqual(['awaiting_children', 'blocked', 'pending'])
    expect(next.cancelled).toEqual(next.failed)
  })
})

describe('retry', () => {
  test('starts a failed task again with fresh attempts and keeps its steps', async () => {
    const lease = await startOne(shop, tenant)
    await commit(shop, lease, { steps: [{ kind: 'ask', action: 'x' }] })
    await fail(shop, lease, 'permission')
    expect(await retry(shop, tenant, lease.task_id)).toBe('pending')
    expect(await taskOf(shop, lease.task_id)).toMatchObject({
      attempt: 0,
      failure_class: null,
      step_count: 1,
    })
    expect((await claimOne(shop, tenant)).attempt).toBe(1)
  })

  test('a task that missed its deadline runs when it is retried, not expires again', async () => {
    const id = await enqueueOne(shop, tenant, { deadline_at: '2030-01-01T00:01:00Z' })
    at(61)
    await sweep(shop)
    expect(await statusesOf(shop, [id])).toEqual(['failed'])
    await retry(shop, tenant, id)
    await sweep(shop)
    expect(await statusesOf(shop, [id])).toEqual(['pending'])
  })

  test('a task that was healed in vain can be healed again after a retry', async () => {
    tenant = await createTenant(shop, { definition: { max_attempts: 1 } })
    const id = await enqueueOne(shop, tenant)
    for (const status of ['pending', 'failed', 'pending', 'failed']) {
      await fail(shop, await claimOne(shop, tenant), 'context_loss')
      expect(await statusesOf(shop, [id])).toEqual([status])
      if (status === 'failed') await retry(shop, tenant, id)
    }
  })

  test('starts a cancelled task again', async () => {
    const id = await enqueueOne(shop, tenant)
    await cancel(shop, tenant, id)
    expect(await retry(shop, tenant, id)).toBe('pending')
  })

  test('nothing else is retried', async () => {
    const id = await enqueueOne(shop, tenant)
    const refused = await refusal(retry(shop, tenant, id))
    expect(refused).toMatchObject({
      code: 'NS033',
      status: 409,
      message: `Cannot retry task ${id} while it is "pending"`,
    })
  })

  test('waits for dependencies that live again', async () => {
    const [first, second] = await enqueue(shop, tenant, [{ key: 'a' }, { after: ['a'] }])
    const ids = [first?.id ?? 0, second?.id ?? 0] as const
    await fail(shop, await claimOne(shop, tenant), 'permission')
    expect(await statusesOf(shop, [...ids])).toEqual(['failed', 'failed'])
    await retry(shop, tenant, ids[0])
    expect(await retry(shop, tenant, ids[1])).toBe('blocked')
    await complete(shop, [await claimOne(shop, tenant)])
    expect(await statusesOf(shop, [...ids])).toEqual(['completed', 'pending'])
  })

  test('a dependency that comes back holds up whoever is still blocked', async () => {
    const rows = await enqueue(shop, tenant, [
      { key: 'a' },
      { key: 'b', lane: 3 },
      { after: ['a', 'b'] },
    ])
    const [a = 0, , c = 0] = rows.map((row) => row.id)
    await fail(shop, await claimOne(shop, tenant), 'permission')
    expect(await retry(shop, tenant, c)).toBe('blocked')
    expect(await taskOf(shop, c)).toMatchObject({ open_dependencies: 1 })
    await retry(shop, tenant, a)
    expect(await taskOf(shop, c)).toMatchObject({ open_dependencies: 2 })
    await complete(shop, await claim(shop, tenant, { tasks: 1 }))
    expect(await statusesOf(shop, [c])).toEqual(['blocked'])
    await complete(shop, await claim(shop, tenant, { tasks: 1 }))
    expect(await statusesOf(shop, [c])).toEqual(['pending'])
  })

  test('a failed group with live children waits for them again', async () => {
    const rows = await enqueue(shop, tenant, [{ key: 'p', combinator: 'all' }, { parent: 'p' }])
    const [parent = 0, child = 0] = rows.map((row) => row.id)
    await fail(shop, await claimOne(shop, tenant), 'permission')
    expect(await statusesOf(shop, [parent, child])).toEqual(['failed', 'failed'])
    await retry(shop, tenant, child)
    expect(await retry(shop, tenant, parent)).toBe('awaiting_children')
    await complete(shop, [await claimOne(shop, tenant)])
    expect(await statusesOf(shop, [parent, child])).toEqual(['pending', 'completed'])
  })
})

describe('who may cancel and retry', () => {
  test('a stranger learns nothing', async () => {
    const id = await enqueueOne(shop, tenant)
    const stranger = await createUser(shop)
    const ask = (task: number, verb: string): Promise<unknown> =>
      shop.asUser(stranger, (sql) => sql.unsafe(`select nightshift.${verb}(${task})`))
    for (const verb of ['cancel', 'retry']) {
      expect(await refusal(ask(id, verb))).toMatchObject({
        code: 'NS032',
        status: 404,
        message: `Cannot find task ${id}`,
      })
      expect((await refusal(ask(999_999_999, verb))).code).toBe('NS032')
    }
  })

  test.each(['reviewer', 'auditor', 'viewer'])('a %s may not', async (role) => {
    const id = await enqueueOne(shop, tenant)
    const member = await addMember(shop, tenant, role)
    for (const verb of ['cancel', 'retry']) {
      const call = shop.asUser(member, (sql) => sql.unsafe(`select nightshift.${verb}(${id})`))
      expect(await refusal(call)).toMatchObject({ code: 'NS011', status: 403 })
    }
  })

  test('an operator and the service may', async () => {
    const operator = await addMember(shop, tenant, 'operator')
    const [first, second] = await enqueue(shop, tenant, [{}, {}])
    await shop.asUser(operator, (sql) => sql`select nightshift.cancel(${first?.id ?? 0})`)
    await shop.asService((sql) => sql`select nightshift.cancel(${second?.id ?? 0})`)
    expect(await statusesOf(shop, [first?.id ?? 0, second?.id ?? 0])).toEqual([
      'cancelled',
      'cancelled',
    ])
  })
})
