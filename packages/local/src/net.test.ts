import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import postgres from 'postgres'
import { describe, expect, test, vi } from 'vitest'
import { bootstrapDatabase } from './bootstrap.ts'
import { type Faults, noFaults } from './faults.ts'
import { type NetWorker, startNet } from './net.ts'
import { startPostgres } from './postgres.ts'
import { freshDatabase } from './testing.ts'

interface Arrival {
  method: string
  path: string
  headers: NodeJS.Dict<string | string[]>
  body: string
  /** Milliseconds in `performance.now()`. */
  at: number
}

interface Bench {
  sql: postgres.Sql
  adminUrl: string
  faults: Faults
  worker: NetWorker
  url: string
  arrivals: Arrival[]
  /** Waits for so many arrivals, in the order of their coming. */
  arrived(count: number): Promise<Arrival[]>
  /** Waits for so many rows of net._http_response. */
  answered(count: number): Promise<postgres.Row[]>
}

/** A database, its worker, and a receiver whose path says what to do: /hang, /slow/<ms>, else at once. */
async function onBench(
  options: { batchSize?: number; ttlHours?: number; paused?: boolean },
  body: (bench: Bench) => Promise<void>,
): Promise<void> {
  const database = await freshDatabase({ template: 'supabase' })
  const sql = postgres(database.url, { max: 3, onnotice: () => {} })
  const faults = noFaults()
  faults.net.paused = options.paused ?? false
  const arrivals: Arrival[] = []
  const receiver = await startReceiver(arrivals)
  const worker = await startNet({ adminUrl: database.adminUrl, faults, ...options })
  const bounded = { timeout: 8000, interval: 10 }
  try {
    await body({
      sql,
      adminUrl: database.adminUrl,
      faults,
      worker,
      arrivals,
      url: receiver.url,
      arrived: async (count) => {
        await vi.waitFor(() => expect(arrivals.length).toBeGreaterThanOrEqual(count), bounded)
        return arrivals
      },
      answered: (count) =>
        vi.waitFor(async () => {
          const rows = await sql`select * from net._http_response order by id`
          expect(rows).toHaveLength(count)
          return rows
        }, bounded),
    })
  } finally {
    receiver.server.closeAllConnections()
    receiver.server.close()
    await worker.stop()
    await sql.end()
    await database.drop()
  }
}

async function startReceiver(arrivals: Arrival[]): Promise<{ server: Server; url: string }> {
  const server = createServer(async (request, response) => {
    const at = performance.now()
    let body = ''
    for await (const part of request) body += part
    const { method = '', url: path = '', headers } = request
    arrivals.push({ method, path, headers, body, at })
    const [, word, milliseconds] = path.split('/')
    if (word === 'slow') setTimeout(() => response.end('late'), Number(milliseconds))
    else if (word !== 'hang') response.end('ok')
  })
  await new Promise<void>((settle) => server.listen(0, '127.0.0.1', settle))
  const address = server.address()
  const port = typeof address === 'object' && address ? address.port : 0
  return { server, url: `http://127.0.0.1:${port}` }
}

describe.concurrent('the SQL surface', () => {
  test('functions have the names, arguments and defaults of pg_net 0.20', async () => {
    await onBench({}, async ({ sql }) => {
      const rows = await sql`
        select proname as name, pg_get_function_arguments(oid) as arguments,
          pg_get_function_result(oid) as result, prosecdef as definer
        from pg_proc
        where pronamespace = 'net'::regnamespace and proname ~ '^(http_(get|post|delete)|wake|worker_restart)$'
        order by 1`
      const post = `'{"Content-Type": "application/json"}'::jsonb`
      expect([...rows]).toEqual([
        {
          name: 'http_delete',
          arguments: `url text, params jsonb DEFAULT '{}'::jsonb, headers jsonb DEFAULT '{}'::jsonb, timeout_milliseconds integer DEFAULT 5000, body jsonb DEFAULT NULL::jsonb`,
          result: 'bigint',
          definer: false,
        },
        {
          name: 'http_get',
          arguments: `url text, params jsonb DEFAULT '{}'::jsonb, headers jsonb DEFAULT '{}'::jsonb, timeout_milliseconds integer DEFAULT 5000`,
          result: 'bigint',
          definer: false,
        },
        {
          name: 'http_post',
          arguments: `url text, body jsonb DEFAULT '{}'::jsonb, params jsonb DEFAULT '{}'::jsonb, headers jsonb DEFAULT ${post}, timeout_milliseconds integer DEFAULT 5000`,
          result: 'bigint',
          definer: false,
        },
        { name: 'wake', arguments: '', result: 'void', definer: false },
        { name: 'worker_restart', arguments: '', result: 'boolean', definer: false },
      ])
    })
  })

  test('parameters are encoded and appended, and a URL that libcurl refuses raises', async () => {
    await onBench({}, async ({ sql }) => {
      const encode = async (url: string, params: object): Promise<unknown> =>
        (await sql`select net._with_params(${url}, ${sql.json({ ...params })}) as url`)[0]?.url
      expect(await encode('http://h', {})).toBe('http://h/')
      expect(await encode('http://h/x?y=1#part', { 'a b': 'c&d/ä', n: null })).toBe(
        'http://h/x?y=1&a%20b=c%26d%2F%C3%A4#part',
      )
      for (const [url, reason] of [
        ['localhost:6666', 'Unsupported URL scheme'],
        ['/relative', 'Bad scheme'],
        ['http://', 'No host part in the URL'],
        ['http://h:99999/', 'Port number was not a decimal number between 0 and 65535'],
        ['http://h/a b', 'Bad path'],
      ] as const) {
        await expect(encode(url, {})).rejects.toThrow(`invalid URL "${url}": ${reason}`)
      }
      await expect(sql`select net.http_get(null)`).rejects.toMatchObject({ code: '23502' })
    })
  })

  test('a post is JSON: the type is added when missing and another one raises', async () => {
    await onBench({}, async ({ sql, url, arrived }) => {
      const other = sql.json({ 'content-type': 'text/plain' })
      await expect(sql`select net.http_post(${url}, headers := ${other})`).rejects.toThrow(
        'Content-Type header must be "application/json"',
      )
      await sql`select net.http_post(${url}, '{"a": 1}', headers := '{"X-Own": "1", "X-Empty": ""}')`
      const [request] = await arrived(1)
      expect(request).toMatchObject({ method: 'POST', body: '{"a": 1}' })
      expect(request?.headers).toMatchObject({
        'content-type': 'application/json',
        'user-agent': 'pg_net/0.20.4',
        'x-own': '1',
      })
      expect(request?.headers).not.toHaveProperty('x-empty')
    })
  })

  test('every role may queue and may read what others queued, as in the extension', async () => {
    await onBench({ paused: true }, async ({ sql, url }) => {
      await sql`select net.http_get(${url}, headers := '{"Authorization": "Bearer secret"}')`
      await sql.begin(async (anon) => {
        await anon`set local role anon`
        const rows = await anon`select headers from net.http_request_queue`
        expect(rows[0]?.headers).toEqual({ Authorization: 'Bearer secret' })
        await anon`select net.http_get(${url})`
        await anon`delete from net.http_request_queue`
      })
    })
  })

  test('check_worker_is_up raises only without a worker', async () => {
    await onBench({}, async ({ sql, worker }) => {
      await sql`select net.wait_until_running()`
      await sql`select net.check_worker_is_up()`
      await worker.stop()
      await vi.waitFor(() =>
        expect(sql`select net.check_worker_is_up()`).rejects.toThrow(
          'pg_net background worker is not up',
        ),
      )
    })
  })
})

describe.concurrent('the worker', () => {
  test('sends after the commit, nothing after a rollback, and not for a direct insert', async () => {
    await onBench({}, async ({ sql, worker, url, arrivals, arrived }) => {
      await worker.idle()
      await sql
        .begin(async (lost) => {
          await lost`select net.http_get(${`${url}/rolled-back`})`
          throw new Error('changed my mind')
        })
        .catch(() => {})
      await sql`insert into net.http_request_queue (method, url, timeout_milliseconds)
        values ('GET', ${`${url}/inserted`}, 1000)`
      await sql.begin(async (kept) => {
        await kept`select net.http_get(${`${url}/committed`})`
        await kept`select pg_sleep(0.1)`
        expect(arrivals).toEqual([])
      })
      // The wake of the commit finds the inserted row as well.
      const paths = (await arrived(2)).map((arrival) => arrival.path)
      expect(paths.sort()).toEqual(['/committed', '/inserted'])
    })
  })

  test('shows the answers of a batch, and empties the queue, when its slowest request has ended', async () => {
    await onBench({}, async ({ sql, url, arrived, answered }) => {
      await sql`select net.http_get(${`${url}/quick`}), net.http_get(${`${url}/slow/400`})`
      await arrived(2)
      expect(await sql`select from net._http_response`).toHaveLength(0)
      expect(await sql`select from net.http_request_queue`).toHaveLength(2)
      const answers = await answered(2)
      expect(answers.map((answer) => answer.content)).toEqual(['ok', 'late'])
      expect(await sql`select from net.http_request_queue`).toHaveLength(0)
      const [collected] = await sql`
        select (answer).status, ((answer).response).body
        from net._http_collect_response(${answers[0]?.id}) as answer`
      expect(collected).toEqual({ status: 'SUCCESS', body: 'ok' })
    })
  })

  test('lets a slow receiver delay all others until the timeout', async () => {
    await onBench({}, async ({ sql, url, arrived, answered }) => {
      await sql`select net.http_get(${`${url}/hang`}, timeout_milliseconds := 700)`
      await arrived(1)
      await sql`select net.http_get(${`${url}/behind`})`
      const [first, second] = await arrived(2)
      expect((second?.at ?? 0) - (first?.at ?? 0)).toBeGreaterThan(650)
      const [hung] = await answered(2)
      expect(hung).toMatchObject({ status_code: null, timed_out: true })
    })
  })

  test('sends a burst in batches, one a second', async () => {
    await onBench({ batchSize: 10 }, async ({ sql, worker, url, arrived }) => {
      await worker.idle()
      await sql`select net.http_get(${url}) from generate_series(1, 25)`
      const times = (await arrived(25)).map((arrival) => arrival.at)
      const gaps = [10, 20].map((index) => (times[index] ?? 0) - (times[index - 1] ?? 0))
      for (const gap of gaps) expect(gap).toBeGreaterThan(900)
      const widths = [9, 19, 24].map((end, index) => (times[end] ?? 0) - (times[index * 10] ?? 0))
      for (const width of widths) expect(width).toBeLessThan(900)
    })
  })

  test('ends its pause early for one wake; whoever comes after that waits for the second to pass', async () => {
    await onBench({}, async ({ sql, worker, url, arrived }) => {
      await worker.idle()
      for (const count of [1, 2, 3]) {
        await sql`select net.http_get(${url})`
        await arrived(count)
      }
      const times = (await arrived(3)).map((arrival) => arrival.at)
      expect((times[1] ?? 0) - (times[0] ?? 0)).toBeLessThan(700)
      expect((times[2] ?? 0) - (times[1] ?? 0)).toBeGreaterThan(900)
    })
  })

  test('sends a batch again and again while its answers cannot be stored', async () => {
    await onBench({}, async ({ sql, url, arrived, answered }) => {
      await sql`create table public.closed ()`
      await sql`insert into public.closed default values`
      await sql`create function public.refuse() returns trigger language plpgsql as $$ begin
        if exists (select from public.closed) then raise exception 'not today'; end if; return new;
      end $$`
      await sql`create trigger refuse before insert on net._http_response
        for each row execute function public.refuse()`
      await sql`select net.http_get(${url})`
      const times = (await arrived(3)).map((arrival) => arrival.at)
      expect((times[2] ?? 0) - (times[0] ?? 0)).toBeGreaterThan(1900)
      await sql`truncate public.closed`
      await answered(1)
    })
  })

  test('deletes answers that are older than the ttl when it is awake', async () => {
    await onBench({ ttlHours: 1 }, async ({ sql, answered }) => {
      await sql`insert into net._http_response (id, created)
        values (-1, now() - interval '61 minutes'), (-2, now() - interval '59 minutes')`
      await sql`select net.wake()`
      expect(await answered(1)).toMatchObject([{ id: '-2' }])
    })
  })

  test('keeps the queue over a restart, and loses it in a truncate', async () => {
    await onBench({ paused: true }, async ({ sql, faults, worker, url, arrivals, arrived }) => {
      await sql`select net.http_get(${`${url}/kept`})`
      const restarted = worker.restart()
      faults.net.paused = false
      await restarted
      await arrived(1)
      await worker.idle()
      faults.net.paused = true
      await sql`select net.http_get(${`${url}/truncated`})`
      await sql`truncate net.http_request_queue`
      faults.net.paused = false
      await sql`select net.http_get(${`${url}/after`})`
      expect((await arrived(2)).map((arrival) => arrival.path)).toEqual(['/kept', '/after'])
      expect(arrivals).toHaveLength(2)
    })
  })

  test('comes back after its connections were killed', async () => {
    await onBench({}, async ({ sql, adminUrl, url, arrived }) => {
      const admin = postgres(adminUrl, { max: 1 })
      await admin`select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and application_name like 'pg_net %'`
      await admin.end()
      await sql`select net.http_get(${url})`
      await arrived(1)
    })
  })
})

describe.concurrent('the fault switches', () => {
  test('loss drops requests without a trace', async () => {
    await onBench({}, async ({ sql, faults, url, arrivals, arrived, answered }) => {
      faults.net.loss = 1
      await sql`select net.http_get(${`${url}/lost`})`
      await vi.waitFor(async () => {
        expect(await sql`select from net.http_request_queue`).toHaveLength(0)
      })
      faults.net.loss = 0
      await sql`select net.http_get(${`${url}/arrives`})`
      await arrived(1)
      await answered(1)
      expect(arrivals.map((arrival) => arrival.path)).toEqual(['/arrives'])
    })
  })

  test('duplicate sends extra copies of which one is answered', async () => {
    await onBench({}, async ({ sql, faults, url, arrived, answered }) => {
      faults.net.duplicate = 2
      await sql`select net.http_get(${url})`
      expect(await arrived(3)).toHaveLength(3)
      await answered(1)
    })
  })

  test('delayMs holds requests back', async () => {
    await onBench({}, async ({ sql, faults, url, arrived }) => {
      faults.net.delayMs = 300
      const sent = performance.now()
      await sql`select net.http_get(${url})`
      const [arrival] = await arrived(1)
      expect((arrival?.at ?? 0) - sent).toBeGreaterThan(290)
    })
  })

  test('paused keeps requests in the queue until it is switched off', async () => {
    await onBench({ paused: true }, async ({ sql, faults, url, arrivals, arrived }) => {
      await sql`select net.http_get(${url})`
      await sql`select pg_sleep(0.2)`
      expect(arrivals).toEqual([])
      expect(await sql`select from net.http_request_queue`).toHaveLength(1)
      faults.net.paused = false
      await arrived(1)
    })
  })
})

test('a clean restart of Postgres keeps the queue, a crash empties it, and the worker survives both', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'net-test-'))
  const dataDir = join(folder, 'data')
  const arrivals: Arrival[] = []
  const receiver = await startReceiver(arrivals)
  let server = await startPostgres({ dataDir, durable: false })
  await bootstrapDatabase(server.adminUrl)
  const faults = noFaults()
  faults.net.paused = true
  const worker = await startNet({ adminUrl: server.adminUrl, faults })
  const query = async (text: string): Promise<postgres.Row[]> => {
    const sql = postgres(server.url, { max: 1 })
    return await sql.unsafe(text).finally(() => sql.end())
  }
  const restart = async (mode: 'fast' | 'immediate'): Promise<void> => {
    await server.stop(mode)
    server = await startPostgres({ dataDir, durable: false, port: server.port })
  }
  try {
    await query(`select net.http_get('${receiver.url}/before')`)
    await restart('fast')
    expect(await query('select from net.http_request_queue')).toHaveLength(1)
    await restart('immediate')
    expect(await query('select from net.http_request_queue')).toHaveLength(0)
    faults.net.paused = false
    await query(`select net.http_get('${receiver.url}/after')`)
    await vi.waitFor(() => expect(arrivals).toHaveLength(1), { timeout: 8000 })
    expect(arrivals[0]?.path).toBe('/after')
  } finally {
    receiver.server.close()
    await worker.stop()
    await server.stop('immediate')
    rmSync(folder, { recursive: true, force: true })
  }
})
