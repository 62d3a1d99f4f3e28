import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import postgres from 'postgres'
import { bootstrapDatabase } from '../../../packages/local/src/bootstrap.ts'
import { type PostgresServer, startPostgres } from '../../../packages/local/src/postgres.ts'

/** Connections whose bigint columns are numbers: ids stay far below 2^53 here. */
export type Sql = postgres.Sql<{ bigint: number }>

/** Starts a Postgres that keeps every commit (fsync and synchronous_commit on); `stop` removes it. */
export async function startServer(): Promise<PostgresServer> {
  const folder = mkdtempSync(join(tmpdir(), 'nightshift-bench-'))
  const server = await startPostgres({
    dataDir: join(folder, 'data'),
    settings: { max_wal_size: '4GB' },
  })
  // Roles are cluster-wide: from here on `postgres` can log in and own databases.
  await bootstrapDatabase(server.adminUrl)
  return {
    ...server,
    stop: async () => {
      await server.stop('immediate')
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

/** Creates an empty database that belongs to `postgres` and returns its name. */
export async function createDatabase(server: PostgresServer, name: string): Promise<string> {
  const admin = connect(server.adminUrl, 1)
  await admin.unsafe(`create database ${name} owner postgres`)
  await admin.end()
  return name
}

/** A pool; `settings` hold for each of its sessions, such as `role`. */
export function connect(url: string, max: number, settings: Record<string, string> = {}): Sql {
  return postgres(url, {
    max,
    onnotice: () => {},
    connection: settings,
    types: { bigint: { to: 20, from: [20], parse: Number, serialize: String } },
  })
}

/** Numbered sessions; numbers beyond the last start again with the first. */
export interface Sessions {
  of(client: number): Sql
  end(): Promise<void>
}

/** One session per client, so that each prepares its statements once. */
export function connectEach(
  url: string,
  count: number,
  settings: Record<string, string> = {},
): Sessions {
  const sessions = Array.from({ length: count }, () => connect(url, 1, settings))
  return {
    of: (client) => {
      const session = sessions[client % count]
      if (!session) throw new Error('no sessions')
      return session
    },
    end: async () => {
      await Promise.all(sessions.map((session) => session.end({ timeout: 1 })))
    },
  }
}
