import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import postgres from 'postgres'
import { bootstrapDatabase } from '../packages/local/src/bootstrap.ts'
import { applyMigrations } from '../packages/local/src/migrate.ts'
import { startPostgres } from '../packages/local/src/postgres.ts'

// Prints the database schema as text; with --write into supabase/schema.snapshot, which is checked in
// and must not drift (supabase/tests/snapshot.test.ts).

const migrations = join(import.meta.dirname, '../supabase/migrations')

/** Where the checked-in snapshot lies. */
export const snapshotFile = join(import.meta.dirname, '../supabase/schema.snapshot')

const heading = `# Tables, checks, indexes, policies, triggers, functions and grants of the database.
# Written by \`node scripts/snapshot.ts --write\`; do not edit. Function bodies stand as md5.
`

/** Tables, checks, indexes, policies, triggers, functions and grants of a migrated database, as stable text. */
export async function readSnapshot(url: string): Promise<string> {
  const sql = postgres(url, { max: 1, onnotice: () => {} })
  try {
    const query = readFileSync(join(import.meta.dirname, 'snapshot.sql'), 'utf8')
    const rows = await sql.unsafe<{ object: string; line: string }[]>(query)
    let text = heading
    let object = ''
    for (const row of rows) {
      if (row.object !== object) text += `\n${row.object}\n`
      object = row.object
      if (row.line) text += `  ${row.line.replaceAll(/\s+/g, ' ')}\n`
    }
    return text
  } finally {
    await sql.end()
  }
}

/** Runs `read` on a project that has just been migrated, in a throw-away Postgres of its own. */
export async function onNewProject<T>(read: (url: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'nightshift-schema-'))
  const server = await startPostgres({ dataDir: join(folder, 'data'), durable: false })
  try {
    await bootstrapDatabase(server.adminUrl)
    await applyMigrations(server.url, migrations)
    return await read(server.url)
  } finally {
    await server.stop('immediate')
    rmSync(folder, { recursive: true, force: true })
  }
}

if (import.meta.main) {
  const text = await onNewProject(readSnapshot)
  if (process.argv.includes('--write')) writeFileSync(snapshotFile, text)
  else process.stdout.write(text)
}
