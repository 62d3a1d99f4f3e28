import { join } from 'node:path'
import { bootstrapDatabase } from '../../../packages/local/src/bootstrap.ts'
import { applyMigrations } from '../../../packages/local/src/migrate.ts'
import type { PostgresServer } from '../../../packages/local/src/postgres.ts'
import {
  batchSize,
  type Contender,
  connections,
  drainByClaims,
  payload,
  timedEach,
  ways,
  workByClaims,
} from './contender.ts'
import { connect, connectEach, createDatabase, type Sessions, type Sql } from './server.ts'

const migrationsDir = join(import.meta.dirname, '../../../supabase/migrations')

interface Lease {
  task_id: number
  fence: number
}

/** A task as enqueue takes it. */
interface Request {
  [field: string]: string | string[] | typeof payload
}

/** Emptied between measurements, as superuser: everything that grows. */
const growing = `nightshift.tasks, nightshift.steps, nightshift.audit_events, nightshift.llm_calls,
  nightshift.task_dependencies, nightshift.cards`

/**
 * Nightshift through its public functions, as PostgREST calls them: tasks are handed in by a signed-in
 * owner and worked off by the secret key, both through the login `authenticator`, all checks on.
 */
export async function openNightshift(server: PostgresServer): Promise<Contender> {
  const database = await createDatabase(server, 'nightshift')
  const adminUrl = server.databaseUrl(database, 'supabase_admin')
  await bootstrapDatabase(adminUrl)
  await applyMigrations(server.databaseUrl(database), migrationsDir)
  const admin = connect(adminUrl, 1)
  const api = server.databaseUrl(database, 'authenticator')
  const { owner, project } = await hire(admin, api)
  const service = connectEach(api, connections, sessionOf('service_role'))

  const task = { project, agent: 'clerk', input: payload }
  const enqueue = (tasks: Request[], client = 0): Promise<unknown> => {
    const sql = owner.of(client)
    return sql`select * from nightshift.enqueue(${sql.json(tasks)})`
  }
  const claim = (count: number, client: number): Promise<Lease[]> => {
    const sql = service.of(client)
    return sql<
      Lease[]
    >`select task_id, fence from nightshift.claim(${`worker ${client}`}, ${['default']}, ${count})`
  }
  const complete = (leases: Lease[], client: number): Promise<unknown> => {
    const sql = service.of(client)
    const results = leases.map(({ task_id, fence }) => ({ task_id, fence, output: { ok: true } }))
    return sql`select * from nightshift.complete(${sql.json(results)})`
  }
  const calls = {
    claim,
    complete: (taken: unknown[], client: number) => complete(taken.filter(isLease), client),
  }

  return {
    name: 'nightshift',
    enqueue: (client) => enqueue([task], client),
    enqueueBatch: async (count) => {
      for (let done = 0; done < count; done += 1000) {
        await enqueue(Array.from({ length: Math.min(1000, count - done) }, () => task))
      }
    },
    ...calls,
    drain: (count, way) => drainByClaims(calls, count, ways[way]),
    work: async (onStart) => {
      const working = workByClaims(calls, onStart)
      // What the local Realtime listens to: the doorbell's broadcast wakes a worker there.
      const ear = connect(adminUrl, 1)
      await ear.listen('realtime_messages', working.wake)
      return {
        stop: async () => {
          await working.stop()
          await ear.end({ timeout: 1 })
        },
      }
    },
    chains: async (count) => {
      await enqueue(Array.from({ length: count }, () => task))
      const leases: Lease[] = []
      while (leases.length < count) leases.push(...(await claim(batchSize, 0)))
      return timedEach(count, connections, async (index, client) => {
        const lease = leases[index]
        if (lease) await threeSteps(service.of(client), lease)
      })
    },
    map: async (width) => {
      const group = (key: string, after: string[]): Request[] => [
        { ...task, key, combinator: 'all', after },
        ...Array.from({ length: width }, () => ({ ...task, parent: key, after })),
      ]
      const tasks = [...group('first', []), ...group('second', ['first'])]
      await enqueue(tasks)
      await drainByClaims(calls, tasks.length, ways.batch)
    },
    analyze: () => admin`analyze`,
    clear: async () => {
      await admin.unsafe(`
        set session_replication_role = replica;
        truncate ${growing}; truncate realtime.messages;
        set session_replication_role = origin`)
      await admin.unsafe('analyze')
    },
    close: async () => {
      await Promise.all([owner.end(), admin.end(), service.end()])
    },
  }
}

/** Makes a project with one agent, and sessions of its owner. */
async function hire(admin: Sql, url: string): Promise<{ owner: Sessions; project: string }> {
  const id = crypto.randomUUID()
  await admin`insert into auth.users (id, email) values (${id}, ${`${id}@bench.example`})`
  const owner = connectEach(url, connections, sessionOf('authenticated', id))
  const sql = owner.of(0)
  const [row] = await sql`select nightshift.create_project('Bench') as project`
  const definition = sql.json({ instructions: 'Work.' })
  await sql`select nightshift.set_agent(${row?.project}, 'clerk', ${definition})`
  return { owner, project: String(row?.project) }
}

/** The settings PostgREST makes for each request, made once for a session. */
function sessionOf(role: string, sub?: string): Record<string, string> {
  return {
    role,
    'request.method': 'POST',
    'request.jwt.claims': JSON.stringify({ role, ...(sub ? { sub } : {}) }),
  }
}

/** Three recorded steps, each in a commit of its own; the last one ends the task. */
async function threeSteps(sql: Sql, { task_id, fence }: Lease): Promise<void> {
  for (const after of [0, 1, 2]) {
    const steps = sql.json([{ kind: 'checkpoint', action: 'count', output: { after } }])
    const outcome = sql.json(
      after < 2 ? { status: 'running' } : { status: 'completed', output: { ok: true } },
    )
    await sql`select nightshift.commit_tick(${task_id}, ${fence}, ${after}, ${steps}, '[]', ${outcome})`
  }
}

function isLease(taken: unknown): taken is Lease {
  return typeof taken === 'object' && taken !== null && 'task_id' in taken && 'fence' in taken
}
