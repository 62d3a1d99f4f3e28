import type { PostgresServer } from '../../../packages/local/src/postgres.ts'
import {
  type Contender,
  connections,
  drainByClaims,
  payload,
  timedEach,
  ways,
  workByClaims,
} from './contender.ts'
import { connect, connectEach, createDatabase, type Sql } from './server.ts'

const schema = `
  create table jobs (
    id bigint generated always as identity primary key, lane smallint not null default 2, status text not null default 'pending',
    run_at timestamptz not null default now(), input jsonb, output jsonb, worker text, lease_until timestamptz, step_count int not null default 0
  ) with (fillfactor = 80);
  create index jobs_claimable on jobs (lane, run_at, id) where status = 'pending';
  create table steps (job_id bigint, seq int, output jsonb, primary key (job_id, seq))`

/**
 * The least that Postgres must do for a queue: one table, one partial index, `for update skip locked`,
 * rows kept and marked as done. No tenants, no rights, no fence, no audit, no events.
 */
export async function openFloor(server: PostgresServer): Promise<Contender> {
  const url = server.databaseUrl(await createDatabase(server, 'floor'))
  const admin = connect(url, 1)
  await admin.unsafe(schema)
  const sessions = connectEach(url, connections)

  const insert = (count: number, client = 0): Promise<unknown> => {
    const sql = sessions.of(client)
    return sql`
      with added as (
        insert into jobs (input)
        select ${sql.json(payload)}::jsonb from generate_series(1, ${count}))
      select pg_notify('jobs', '')`
  }
  const claim = async (count: number, client: number): Promise<number[]> => {
    const sql = sessions.of(client)
    const rows = await sql<{ id: number }[]>`
      with due as materialized (
        select id from jobs where status = 'pending' order by lane, run_at, id
        limit ${count} for no key update skip locked)
      update jobs j set status = 'running', worker = 'worker', lease_until = now() + interval '90 seconds'
      from due where j.id = due.id returning j.id`
    return rows.map((row) => row.id)
  }
  const complete = (taken: unknown[], client: number): Promise<unknown> => {
    const sql = sessions.of(client)
    const ids = taken.filter((id) => typeof id === 'number')
    return sql`update jobs set status = 'completed', lease_until = null, output = '{"ok": true}' where id = any (${ids})`
  }
  const calls = { claim, complete }

  return {
    name: 'floor',
    enqueue: (client) => insert(1, client),
    enqueueBatch: async (count) => {
      for (let done = 0; done < count; done += 1000) await insert(Math.min(1000, count - done))
    },
    ...calls,
    drain: (count, way) => drainByClaims(calls, count, ways[way]),
    work: async (onStart) => {
      const working = workByClaims(calls, onStart)
      const ear = connect(url, 1)
      await ear.listen('jobs', working.wake)
      return {
        stop: async () => {
          await working.stop()
          await ear.end({ timeout: 1 })
        },
      }
    },
    chains: async (count) => {
      await insert(count)
      const ids = await claim(count, 0)
      return timedEach(count, connections, async (index, client) => {
        const id = ids[index]
        if (id !== undefined) await threeSteps(sessions.of(client), id)
      })
    },
    map: async (width) => {
      for (const _stage of ['first', 'second']) {
        await insert(width)
        await drainByClaims(calls, width, ways.batch)
      }
    },
    analyze: () => admin`analyze`,
    clear: async () => {
      await admin`truncate jobs, steps`
      await admin`analyze`
    },
    close: async () => {
      await Promise.all([admin.end(), sessions.end()])
    },
  }
}

/** Each step one row and one mark on its job, in a commit of its own. */
async function threeSteps(sql: Sql, id: number): Promise<void> {
  for (const step of [1, 2, 3]) {
    await sql`
      with step as (insert into steps (job_id, seq, output) values (${id}, ${step}, '{"ok": true}'))
      update jobs set step_count = ${step}, status = ${step < 3 ? 'running' : 'completed'} where id = ${id}`
  }
}
