import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import postgres from 'postgres'
import { bootstrapDatabase } from './bootstrap.ts'
import { applyMigrations } from './migrate.ts'
import { type PostgresServer, startPostgres } from './postgres.ts'

/** Environment name under which the vitest global setup hands the shared test server to the test files. */
const serverVariable = 'SUPABASE_LOCAL_TEST_PORT'
const emptyTemplate = 'template_supabase'
const projectTemplate = 'template_project'

export interface TestDatabase {
  name: string
  /** Login `postgres`. */
  url: string
  /** Login `supabase_admin`, the superuser. */
  adminUrl: string
  databaseUrl(user: string): string
  drop(): Promise<void>
}

/**
 * Starts one throw-away Postgres with two template databases, a bare Supabase and one with the
 * project's migrations, and publishes its port. Returns the function that removes it.
 */
export async function startTestServer(migrationsDir: string): Promise<() => Promise<void>> {
  const folder = mkdtempSync(join(tmpdir(), 'supabase-test-'))
  const server = await startPostgres({
    dataDir: join(folder, 'data'),
    durable: false,
    settings: { max_connections: '300' },
  })
  const stop = async (): Promise<void> => {
    await server.stop('immediate')
    rmSync(folder, { recursive: true, force: true })
  }
  try {
    await createTemplate(server, emptyTemplate)
    await createTemplate(server, projectTemplate, emptyTemplate)
    await applyMigrations(server.databaseUrl(projectTemplate), migrationsDir)
  } catch (cause) {
    await stop()
    throw cause
  }
  process.env[serverVariable] = String(server.port)
  return stop
}

/** A private copy (about 30 ms) of a template: `supabase` is bare, `project` has the migrations. */
export async function freshDatabase(
  options: { template?: 'supabase' | 'project' } = {},
): Promise<TestDatabase> {
  const port = process.env[serverVariable]
  if (!port) throw new Error('no test server: run under vitest, whose global setup starts it')
  const template = options.template === 'supabase' ? emptyTemplate : projectTemplate
  const name = `test_${crypto.randomUUID().replaceAll('-', '')}`
  const databaseUrl = (user: string, database = name): string =>
    `postgresql://${user}:postgres@127.0.0.1:${port}/${database}`
  await onMaintenance(
    databaseUrl('supabase_admin', 'postgres'),
    `create database ${name} template ${template} owner postgres`,
  )
  return {
    name,
    url: databaseUrl('postgres'),
    adminUrl: databaseUrl('supabase_admin'),
    databaseUrl: (user) => databaseUrl(user),
    drop: () =>
      onMaintenance(
        databaseUrl('supabase_admin', 'postgres'),
        `drop database if exists ${name} with (force)`,
      ),
  }
}

async function createTemplate(
  server: PostgresServer,
  name: string,
  from = 'template1',
): Promise<void> {
  if (from === 'template1') {
    await onMaintenance(server.adminUrl, `create database ${name}`)
    await bootstrapDatabase(server.databaseUrl(name, 'supabase_admin'))
  } else {
    await onMaintenance(server.adminUrl, `create database ${name} template ${from} owner postgres`)
  }
}

async function onMaintenance(url: string, statement: string): Promise<void> {
  const sql = postgres(url, { max: 1, onnotice: () => {} })
  try {
    // Copying a template fails while anyone, such as a sibling test file, copies it too: take turns.
    await sql`select pg_advisory_lock(54321)`
    await sql.unsafe(statement)
  } finally {
    await sql.end({ timeout: 1 })
  }
}
