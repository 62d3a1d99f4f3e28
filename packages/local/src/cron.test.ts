import postgres from 'postgres'
import { describe, expect, test, vi } from 'vitest'
import type { Clock } from './clock.ts'
import { type CronScheduler, startCron } from './cron.ts'
import { freshDatabase, type TestDatabase } from './testing.ts'

const bounded = { timeout: 8000, interval: 10 }

interface TurnableClock extends Clock {
  /** Turns the clock when the scheduler waits, for a second at most; ends when it waits again. */
  advance(milliseconds: number): Promise<void>
}

function turnableClock(start: string): TurnableClock {
  let now = Date.parse(start)
  const timers = new Set<{ at: number; callback: () => void }>()
  const waiting = (): Promise<void> => vi.waitFor(() => expect(timers.size).toBe(1), bounded)
  return {
    now: () => now,
    after(milliseconds, callback) {
      const timer = { at: now + milliseconds, callback }
      timers.add(timer)
      return () => timers.delete(timer)
    },
    async advance(milliseconds) {
      await waiting()
      now += milliseconds
      for (const timer of timers) {
        if (timer.at > now) continue
        timers.delete(timer)
        timer.callback()
      }
      await waiting()
    },
  }
}

interface Bench {
  database: TestDatabase
  sql: postgres.Sql
  admin: postgres.Sql
  clock: TurnableClock
  cron: CronScheduler
  startAgain(): Promise<void>
  /** Waits until job_run_details holds exactly these statuses, in the order of the runs. */
  runs(statuses: string[]): Promise<postgres.Row[]>
}

async function onBench(body: (bench: Bench) => Promise<void>): Promise<void> {
  const database = await freshDatabase({ template: 'supabase' })
  const sql = postgres(database.url, { max: 2, onnotice: () => {} })
  const admin = postgres(database.adminUrl, { max: 1, onnotice: () => {} })
  const clock = turnableClock('2027-03-01T12:00:20Z')
  const start = (): Promise<CronScheduler> =>
    startCron({
      adminUrl: database.adminUrl,
      databaseUrl: (user) => database.databaseUrl(user),
      clock,
    })
  const bench: Bench = {
    database,
    sql,
    admin,
    clock,
    cron: await start(),
    async startAgain() {
      bench.cron = await start()
    },
    runs: (statuses) =>
      vi.waitFor(async () => {
        const rows = await sql`select * from cron.job_run_details order by runid`
        expect(rows.map((row) => row.status)).toEqual(statuses)
        return rows
      }, bounded),
  }
  try {
    await body(bench)
  } finally {
    await bench.cron.stop()
    await Promise.all([sql.end({ timeout: 1 }), admin.end()])
    await database.drop()
  }
}

describe.concurrent('the SQL surface', () => {
  test('schedule changes the job of the same name and user and keeps its id', async () => {
    await onBench(async ({ sql, admin }) => {
      const [first] = await sql`select cron.schedule('nightly', '0 3 * * *', 'select 1') as id`
      const [again] = await sql`select cron.schedule('nightly', '30 seconds', 'select 2') as id`
      const [other] = await admin`select cron.schedule('nightly', '0 3 * * *', 'select 3') as id`
      expect(again?.id).toBe(first?.id)
      expect(other?.id).not.toBe(first?.id)
      await sql`select cron.schedule('* * * * *', 'select 4'), cron.schedule('* * * * *', 'select 4')`
      const jobs =
        await sql`select schedule, command, username, active, jobname, database = current_database() as here
        from cron.job order by jobid`
      const plain = {
        schedule: '* * * * *',
        command: 'select 4',
        username: 'postgres',
        active: true,
        jobname: null,
        here: true,
      }
      expect([...jobs]).toEqual([
        { ...plain, schedule: '30 seconds', command: 'select 2', jobname: 'nightly' },
        {
          ...plain,
          schedule: '0 3 * * *',
          command: 'select 3',
          jobname: 'nightly',
          username: 'supabase_admin',
        },
        plain,
        plain,
      ])
    })
  })

  test('a schedule that is none is refused, six fields are not', async () => {
    await onBench(async ({ sql }) => {
      const refused = { code: '22023', message: 'invalid schedule: 60 seconds' }
      await expect(sql`select cron.schedule('a', '60 seconds', 'select 1')`).rejects.toMatchObject(
        refused,
      )
      const [job] = await sql`select cron.schedule('a', '* * * * * *', 'select 1') as id`
      await expect(sql`select cron.alter_job(${job?.id}, '61 * * * *')`).rejects.toThrow(
        'invalid schedule',
      )
    })
  })

  test('unschedule takes a name or an id and raises when there is no such job', async () => {
    await onBench(async ({ sql }) => {
      const [job] = await sql`select cron.schedule('a', '* * * * *', 'select 1') as id`
      await sql`select cron.schedule('b', '* * * * *', 'select 1')`
      expect((await sql`select cron.unschedule('b') as gone`)[0]?.gone).toBe(true)
      expect((await sql`select cron.unschedule(${job?.id}::bigint) as gone`)[0]?.gone).toBe(true)
      expect(await sql`select from cron.job`).toHaveLength(0)
      await expect(sql`select cron.unschedule('b')`).rejects.toThrow(
        "could not find valid entry for job 'b'",
      )
      await expect(sql`select cron.unschedule(7777)`).rejects.toThrow(
        'could not find valid entry for job 7777',
      )
    })
  })

  test('alter_job changes what is given, of own jobs only', async () => {
    await onBench(async ({ sql, admin }) => {
      const [job] = await sql`select cron.schedule('a', '* * * * *', 'select 1') as id`
      await sql`select cron.alter_job(${job?.id}, command := 'select 2', active := false)`
      const [altered] = await sql`select schedule, command, active from cron.job`
      expect(altered).toEqual({ schedule: '* * * * *', command: 'select 2', active: false })
      await expect(sql`select cron.alter_job(${job?.id})`).rejects.toThrow('no updates specified')
      const [foreign] = await admin`select cron.schedule('b', '* * * * *', 'select 1') as id`
      await expect(sql`select cron.alter_job(${foreign?.id}, active := false)`).rejects.toThrow(
        `Job ${foreign?.id} does not exist or you don't own it`,
      )
    })
  })

  test('postgres reads jobs, writes them through functions only, and for itself only', async () => {
    await onBench(async ({ sql, admin }) => {
      const denied = { code: '42501' }
      await expect(
        sql`insert into cron.job (schedule, command) values ('* * * * *', 'select 1')`,
      ).rejects.toMatchObject(denied)
      await expect(sql`delete from cron.job`).rejects.toMatchObject(denied)
      const [foreign] = await admin`select cron.schedule('b', '* * * * *', 'select 1') as id`
      await expect(sql`select cron.unschedule(${foreign?.id}::bigint)`).rejects.toMatchObject(
        denied,
      )
      const place = sql`current_database()`
      await expect(
        sql`select cron.schedule_in_database('c', '* * * * *', 'select 1', ${place}, 'supabase_admin')`,
      ).rejects.toThrow('must be superuser to create a job for another role')
      await expect(
        sql`select cron._save_job('supabase_admin', 'c', '* * * * *', 'select 1', null, null, true)`,
      ).rejects.toMatchObject({ code: '23514' })
      await expect(
        sql`select cron.schedule_in_database('c', '* * * * *', 'select 1', 'nowhere')`,
      ).rejects.toMatchObject({ code: '3D000' })
    })
  })

  test('inside a definer function the job belongs to the owner of the function', async () => {
    await onBench(async ({ sql }) => {
      await sql`create function public.plan() returns bigint language sql security definer
        as $$ select cron.schedule('planned', '* * * * *', 'select 1') $$`
      await sql`grant usage on schema public to anon`
      await sql.begin(async (anon) => {
        await anon`set local role anon`
        await anon`select public.plan()`
      })
      expect((await sql`select username from cron.job`)[0]?.username).toBe('postgres')
    })
  })

  test('a role sees and clears only what is its own', async () => {
    await onBench(async ({ sql }) => {
      await sql`grant usage on schema cron to authenticated`
      await sql`insert into cron.job_run_details (runid, username) values (1, 'postgres'), (2, 'authenticated')`
      await sql`select cron.schedule('mine', '* * * * *', 'select 1')`
      await sql.begin(async (member) => {
        await member`set local role authenticated`
        await member`select cron.schedule('theirs', '* * * * *', 'select 1')`
        const jobs = await member`select jobname, username from cron.job`
        expect([...jobs]).toEqual([{ jobname: 'theirs', username: 'authenticated' }])
        expect((await member`delete from cron.job_run_details`).count).toBe(1)
      })
      expect(await sql`select from cron.job`).toHaveLength(2)
      expect(await sql`select from cron.job_run_details`).toHaveLength(1)
    })
  })
})

describe.concurrent('the scheduler', () => {
  test('runs a job in the next minute that it names, as its user, and never the current one', async () => {
    await onBench(async ({ sql, clock, runs }) => {
      await sql`create table public.done as select ''::name as who where false`
      await sql`select cron.schedule('each', '* * * * *', 'insert into public.done values (current_user)')`
      await sql`select cron.schedule('never', '0 0 1 1 *', 'select 1/0')`
      await clock.advance(39_000)
      await clock.advance(1000)
      const [run] = await runs(['succeeded'])
      expect(run).toMatchObject({ return_message: 'INSERT 0 1', username: 'postgres' })
      expect(run?.job_pid).toBeGreaterThan(0)
      expect(run?.start_time).toEqual(new Date('2027-03-01T12:01:00Z'))
      expect([...(await sql`select who from public.done`)]).toEqual([{ who: 'postgres' }])
      await clock.advance(59_000)
      await runs(['succeeded'])
      await clock.advance(1000)
      await runs(['succeeded', 'succeeded'])
    })
  })

  test('a job in seconds queues at most one more run while it runs', async () => {
    await onBench(async ({ sql, clock, runs }) => {
      const holder = await sql.reserve()
      await holder`select pg_advisory_lock(1)`
      await sql`select cron.schedule('often', '2 seconds', 'select pg_advisory_xact_lock(1)')`
      await clock.advance(1000)
      await clock.advance(2000)
      await runs(['running'])
      for (let count = 0; count < 5; count += 1) await clock.advance(2000)
      await holder`select pg_advisory_unlock(1)`
      holder.release()
      await runs(['succeeded', 'succeeded'])
      await clock.advance(1900)
      await runs(['succeeded', 'succeeded'])
      await clock.advance(200)
      await runs(['succeeded', 'succeeded', 'succeeded'])
    })
  })

  test('at most five jobs run at once', async () => {
    await onBench(async ({ sql, clock, runs }) => {
      const holder = await sql.reserve()
      await holder`select pg_advisory_lock(1)`
      await sql`select cron.schedule('job ' || n, '* * * * *', 'select pg_advisory_xact_lock_shared(1)')
        from generate_series(1, 7) as n`
      await clock.advance(1000)
      await clock.advance(60_000)
      await runs(Array(5).fill('running'))
      await holder`select pg_advisory_unlock(1)`
      holder.release()
      await runs(Array(7).fill('succeeded'))
    })
  })

  test('records failures with their message', async () => {
    await onBench(async ({ sql, admin, cron, runs }) => {
      const [zero] = await sql`select cron.schedule('* * * * *', 'select 1/0') as id`
      const [raise] = await sql`select cron.schedule('* * * * *', ${`do $$ begin
        raise 'no' using detail = 'why', hint = 'how'; end $$`}) as id`
      await cron.runNow(zero?.id)
      await cron.runNow(raise?.id)
      const [first, second] = await runs(['failed', 'failed'])
      expect(first?.return_message).toBe('ERROR:  division by zero\n')
      expect(second?.return_message).toMatch(
        /^ERROR: {2}no\nDETAIL: {2}why\nHINT: {2}how\nCONTEXT: /,
      )
      await admin`insert into cron.job (schedule, command, nodeport, username)
        values ('* * * * *', 'select 1', 0, 'nobody_at_all')`
      const [unknown] = await sql`select max(jobid) as id from cron.job`
      await cron.runNow(unknown?.id)
      const [, , third] = await runs(['failed', 'failed', 'failed'])
      expect(third?.return_message).toBe('connection failed')
    })
  })

  test('describes a success by the last statement', async () => {
    await onBench(async ({ sql, cron, runs }) => {
      const messages = {
        'select 1 union all select 2': '2 rows',
        'select 1': '1 row',
        'create table public.t (a int); insert into public.t values (1), (2)': 'INSERT 0 2',
        'begin; select 1; commit': 'COMMIT',
        '': '0 rows',
      }
      for (const command of Object.keys(messages)) {
        const [job] = await sql`select cron.schedule('* * * * *', ${command}) as id`
        await cron.runNow(job?.id)
      }
      const rows = await runs(Array(5).fill('succeeded'))
      expect(Object.fromEntries(rows.map((row) => [row.command, row.return_message]))).toEqual(
        messages,
      )
    })
  })

  test('a job that is taken off while it runs is cancelled', async () => {
    await onBench(async ({ sql, clock, runs }) => {
      await sql`select cron.schedule('long', '* * * * *', 'select pg_sleep(600)')`
      await clock.advance(1000)
      await clock.advance(60_000)
      await runs(['running'])
      await sql`select cron.unschedule('long')`
      await clock.advance(1000)
      const [run] = await runs(['failed'])
      expect(run?.return_message).toBe('job canceled')
      await sql`select pg_terminate_backend(${run?.job_pid})`
    })
  })

  test('an inactive job does not run until it is active again', async () => {
    await onBench(async ({ sql, clock, runs }) => {
      const [job] = await sql`select cron.schedule('a', '* * * * *', 'select 1') as id`
      await sql`select cron.alter_job(${job?.id}, active := false)`
      await clock.advance(60_000)
      await clock.advance(1000)
      await runs([])
      await sql`select cron.alter_job(${job?.id}, active := true)`
      await clock.advance(1000)
      await clock.advance(60_000)
      await runs(['succeeded'])
    })
  })

  test('a restart fails what ran, runs @reboot jobs, and catches nothing up', async () => {
    await onBench(async (bench) => {
      const { sql, clock, runs } = bench
      await sql`select cron.schedule('long', '* * * * *', 'select pg_sleep(600)')`
      await clock.advance(1000)
      await clock.advance(60_000)
      const [long] = await runs(['running'])
      await bench.cron.stop()
      await sql`select pg_terminate_backend(${long?.job_pid})`
      await sql`select cron.unschedule('long'), cron.schedule('each', '* * * * *', 'select 1'),
        cron.schedule('start', '@reboot', 'select 1, 2')`
      await bench.startAgain()
      const [cut, started] = await runs(['failed', 'succeeded'])
      expect(cut?.return_message).toBe('server restarted')
      expect(started?.command).toBe('select 1, 2')
      await clock.advance(1000)
      await runs(['failed', 'succeeded'])
    })
  })

  test('comes back after its connection was killed', async () => {
    await onBench(async ({ sql, admin, cron, runs }) => {
      await admin`select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and application_name = 'pg_cron scheduler'`
      await sql`select cron.schedule('start', '@reboot', 'select 1')`
      await runs(['succeeded'])
      await expect(cron.runNow(7777)).rejects.toThrow('cannot run job "7777"')
    })
  })

  test('runs by the system clock when none is given', async () => {
    const database = await freshDatabase({ template: 'supabase' })
    const sql = postgres(database.url, { max: 1 })
    const cron = await startCron({
      adminUrl: database.adminUrl,
      databaseUrl: (user) => database.databaseUrl(user),
    })
    await sql`select cron.schedule('often', '1 second', 'select 1')`
    const gaps = await vi.waitFor(async () => {
      const rows =
        await sql`select extract(epoch from start_time - lag(start_time) over (order by runid))::float8 as gap
        from cron.job_run_details where start_time is not null order by runid`
      expect(rows.length).toBeGreaterThanOrEqual(2)
      return rows.slice(1).map((row) => row.gap)
    }, bounded)
    for (const gap of gaps) expect(gap).toBeGreaterThan(0.95)
    await cron.stop()
    await sql.end()
    await database.drop()
  })
})
