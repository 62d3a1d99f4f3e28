import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { applyMigrations } from '../../packages/local/src/migrate.ts'
import { openShop, type Shop } from './actors.ts'
import {
  cancel,
  claim,
  claimOne,
  commit,
  complete,
  createTenant,
  createUser,
  enqueue,
  enqueueOne,
  startOne,
  sweep,
  type Tenant,
} from './tenant.ts'

const migrations = join(import.meta.dirname, '../migrations')

let shop: Shop
let tenant: Tenant
beforeAll(async () => {
  shop = await openShop()
  await shop.owner`select vault.create_secret('http://127.0.0.1:9/functions/v1', 'nightshift_functions_url')`
  await shop.owner`select vault.create_secret('knock', 'nightshift_nudge_secret')`
})
beforeEach(async () => {
  tenant = await createTenant(shop)
  await shop.owner`update nightshift_private.doorbells set rung_at = '-infinity' where true`
  await shop.admin`truncate net.http_request_queue`
})
afterAll(() => shop.close())

const requests = (): Promise<readonly { url: string }[]> =>
  shop.admin<{ url: string }[]>`select * from net.http_request_queue`

describe('the pg_net doorbell', () => {
  test('rings once for a transaction, with nothing in it', async () => {
    const body = [{ project: tenant.project, agent: 'clerk', input: {} }]
    await shop.asUser(tenant.owner, async (sql) => {
      for (let i = 0; i < 3; i += 1) await sql`select nightshift.enqueue(${sql.json(body)})`
    })
    const rung = await requests()
    expect(rung).toHaveLength(1)
    expect(rung[0]).toMatchObject({
      method: 'POST',
      url: 'http://127.0.0.1:9/functions/v1/tick',
      headers: { 'Content-Type': 'application/json', 'x-nightshift-nudge': 'knock' },
      timeout_milliseconds: 1000,
    })
    expect(String((rung[0] as unknown as { body: Buffer }).body)).toBe('{}')
  })

  test('rings once a second, however many enqueue', async () => {
    await Promise.all(Array.from({ length: 20 }, () => enqueueOne(shop, tenant)))
    expect(await requests()).toHaveLength(1)
    await shop.owner`update nightshift_private.doorbells set rung_at = rung_at - interval '1 second' where true`
    await enqueueOne(shop, tenant)
    await enqueueOne(shop, tenant)
    expect(await requests()).toHaveLength(2)
  })

  test('is silent for what cannot be claimed and for what was rolled back', async () => {
    await enqueueOne(shop, tenant, { run_at: '2040-01-01T00:00:00Z' })
    await shop
      .asUser(tenant.owner, async (sql) => {
        await sql`insert into nightshift.tasks (project_id, agent) values (${tenant.project}, 'clerk')`
        throw new Error('roll back')
      })
      .catch(() => {})
    expect(await requests()).toHaveLength(0)
  })

  test('rings for a plain insert, a released task and, by the sweep, for work that waits', async () => {
    const silence = async (): Promise<void> => {
      await shop.admin`truncate net.http_request_queue`
      await shop.owner`update nightshift_private.doorbells set rung_at = '-infinity' where true`
    }
    await shop.asUser(
      tenant.owner,
      (sql) =>
        sql`insert into nightshift.tasks (project_id, agent) values (${tenant.project}, 'clerk')`,
    )
    expect(await requests()).toHaveLength(1)
    await silence()
    await sweep(shop)
    expect(await requests()).toHaveLength(1)
    const lease = await claimOne(shop, tenant)
    await silence()
    await shop.asService((sql) => sql`select nightshift.release(${lease.task_id}, ${lease.fence})`)
    expect(await requests()).toHaveLength(1)
  })

  test('never fails the caller', async () => {
    const broken = await openShop()
    await broken.owner`select vault.create_secret('http://127.0.0.1:9/functions/v1', 'nightshift_functions_url')`
    await broken.admin.unsafe(`
      create or replace function net.http_post(url text, body jsonb default '{}', params jsonb default '{}',
        headers jsonb default '{}', timeout_milliseconds integer default 5000) returns bigint
      language plpgsql as $$ begin raise exception 'pg_net is broken'; end $$;
      create or replace function realtime.send(payload jsonb, event text, topic text, private boolean default true) returns void
      language plpgsql as $$ begin raise exception 'Realtime is broken'; end $$`)
    const other = await createTenant(broken)
    await enqueueOne(broken, other)
    expect(await claim(broken, other)).toHaveLength(1)
    await broken.close()
  })

  test('carries no key: the only secret is the nudge secret', async () => {
    await enqueueOne(shop, tenant)
    const [row] =
      await shop.admin`select count(*) from net.http_request_queue q where q::text ~* 'bearer|apikey|service_role|sb_secret'`
    expect(row?.count).toBe(0)
  })
})

describe('Realtime', () => {
  const messages = (
    topic: string,
  ): Promise<readonly { event: string; private: boolean; payload: Record<string, unknown> }[]> =>
    shop.admin`select event, private, payload - 'id' as payload, payload -> 'id' as id from realtime.messages where topic = ${topic} order by inserted_at`

  test('tells members which tasks changed: ids, status and version only', async () => {
    const id = await enqueueOne(shop, tenant, { input: { secret: 'swordfish' } })
    await complete(shop, [await claimOne(shop, tenant)], { secret: 'swordfish' })
    const topic = `nightshift:project:${tenant.project}`
    const event = { event: 'tasks', private: true }
    expect(await messages(topic)).toMatchObject([
      { ...event, payload: { tasks: [{ id, status: 'pending', version: 1 }] } },
      { ...event, payload: { tasks: [{ id, status: 'running', version: 2 }] } },
      { ...event, payload: { tasks: [{ id, status: 'completed', version: 3 }] } },
    ])
    const rows =
      await shop.admin`select payload from realtime.messages where topic = ${`nightshift:task:${id}`} order by inserted_at`
    expect(rows.map((row) => row.payload)).toEqual([
      { id, status: 'running', version: 2 },
      { id, status: 'completed', version: 3 },
    ])
    for (const row of await shop.admin`select payload from realtime.messages where topic = ${topic}`) {
      expect(Object.keys(row.payload).sort()).toEqual(['id', 'tasks'])
      expect(Object.keys(row.payload.tasks[0]).sort()).toEqual(['id', 'status', 'version'])
    }
  })

  test('one message for 1,000 tasks, naming 100', async () => {
    await enqueue(
      shop,
      tenant,
      Array.from({ length: 1000 }, () => ({})),
    )
    const rows = await messages(`nightshift:project:${tenant.project}`)
    expect(rows).toHaveLength(1)
    expect(rows[0]?.payload.tasks).toHaveLength(100)
  })

  test('a heartbeat is no news, a step is', async () => {
    const lease = await startOne(shop, tenant)
    const topic = `nightshift:task:${lease.task_id}`
    const before = (await messages(topic)).length
    await shop.asService(
      (sql) =>
        sql`select * from nightshift.heartbeat(${sql.json([{ task_id: lease.task_id, fence: lease.fence }])})`,
    )
    expect(await messages(topic)).toHaveLength(before)
    await commit(shop, lease, { steps: [{ kind: 'ask', action: 'x' }] })
    expect(await messages(topic)).toHaveLength(before + 1)
  })

  test('wakes workers on a topic of their own', async () => {
    const count = async (): Promise<number> => (await messages('nightshift:wake')).length
    const before = await count()
    await enqueueOne(shop, tenant)
    expect(await count()).toBe(before + 1)
  })

  test('members hear their projects and tasks, strangers and malformed topics hear nothing', async () => {
    const id = await enqueueOne(shop, tenant)
    const stranger = await createUser(shop)
    await cancel(shop, tenant, id)
    // As Realtime asks: role, claims and topic set, then it looks whether a message would be visible.
    const hears = async (user: string, topic: string): Promise<boolean> => {
      const rows = await shop.asUser(user, async (sql) => {
        await sql`select set_config('realtime.topic', ${topic}, true)`
        return sql`select 1 from realtime.messages where extension = 'broadcast' limit 1`
      })
      return rows.length > 0
    }
    for (const topic of [`nightshift:project:${tenant.project}`, `nightshift:task:${id}`]) {
      expect(await hears(tenant.owner, topic), topic).toBe(true)
      expect(await hears(stranger, topic), topic).toBe(false)
    }
    for (const topic of [
      'nightshift:wake',
      'nightshift:task:',
      'nightshift:project:x',
      'other',
      '',
    ]) {
      expect(await hears(tenant.owner, topic), topic).toBe(false)
    }
  })
})

describe('pg_cron', () => {
  test('sweeps every 10 seconds and purges its own log', async () => {
    const jobs = await shop.owner`select jobname, schedule, command from cron.job order by jobname`
    expect([...jobs]).toEqual([
      {
        jobname: 'nightshift:gather',
        schedule: '10 seconds',
        command: `set statement_timeout = '20s'; select nightshift_private.gather_runs()`,
      },
      {
        jobname: 'nightshift:purge-cron-log',
        schedule: '17 3 * * *',
        command: `delete from cron.job_run_details where end_time < now() - interval '7 days'`,
      },
      {
        jobname: 'nightshift:sweep',
        schedule: '10 seconds',
        command: 'select nightshift_private.sweep()',
      },
    ])
    for (const job of jobs) await shop.owner.unsafe(job.command)
  })
})

describe('without the extensions', () => {
  const schemas = ['net', 'vault', 'realtime', 'cron']

  /** A life of a task, from enqueue over a card to completion. */
  const live = async (bare: Shop): Promise<void> => {
    const other = await createTenant(bare)
    const lease = await startOne(bare, other)
    await commit(bare, lease, {
      steps: [{ kind: 'ask', action: 'x' }],
      outcome: {
        status: 'awaiting_approval',
        card: { title: 'x', action: { tool: 't' }, risk: 'low' },
      },
    })
    bare.setClock(new Date(Date.now() + 25 * 3_600_000))
    expect(await sweep(bare)).toMatchObject({ expired_cards: 1 })
    expect(await complete(bare, [await claimOne(bare, other)])).toEqual(['completed'])
  }

  test.each([...schemas.map((schema) => [schema]), schemas])(
    '%s: migrations apply and tasks run',
    async (...absent) => {
      const bare = await openShop({ template: 'supabase' })
      for (const schema of absent) await bare.admin.unsafe(`drop schema ${schema} cascade`)
      expect(await applyMigrations(bare.database.url, migrations)).not.toHaveLength(0)
      await live(bare)
      await bare.close()
    },
  )

  test.each(schemas)('%s dropped later: tasks run on', async (schema) => {
    const bare = await openShop()
    await bare.owner`select vault.create_secret('http://127.0.0.1:9', 'nightshift_functions_url')`
    await bare.admin.unsafe(`drop schema ${schema} cascade`)
    await live(bare)
    await bare.close()
  })
})
