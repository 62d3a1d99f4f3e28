import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import postgres from 'postgres'

/** A migration that was applied has changed since: the database is not what the files describe. */
export class MigrationChangedError extends Error {
  override name = 'MigrationChangedError'
  readonly code = 'MIGRATION_CHANGED'
  readonly hint = 'Undo the change, or remove the database and begin anew.'

  constructor(file: string) {
    super(`migration "${file}" has changed since it was applied`)
  }
}

/**
 * Applies `<14 digits>_<name>.sql` files that are not yet in `supabase_migrations.schema_migrations`,
 * each in one transaction, and records them as the Supabase CLI does. Returns the versions applied.
 * Throws MigrationChangedError before it applies anything; what the CLI recorded is not compared.
 */
export async function applyMigrations(url: string, dir: string): Promise<string[]> {
  const sql = postgres(url, { max: 1, onnotice: () => {} })
  const applied: string[] = []
  try {
    await sql.unsafe(`
      create schema if not exists supabase_migrations;
      create table if not exists supabase_migrations.schema_migrations
        (version text not null primary key, statements text[], name text)`)
    const rows = await sql<{ version: string; statements: string[] | null }[]>`
      select version, statements from supabase_migrations.schema_migrations`
    const done = new Map(rows.map((row) => [row.version, row.statements]))
    for (const { file, version } of migrationFiles(dir)) {
      const [recorded, ...more] = done.get(version) ?? []
      // The CLI records statement by statement, without their semicolons.
      if (recorded === undefined || more.length > 0) continue
      const text = readFileSync(join(dir, file), 'utf8')
      if (trimmed(recorded) !== trimmed(text)) throw new MigrationChangedError(file)
    }
    for (const { file, version, name } of migrationFiles(dir)) {
      if (done.has(version)) continue
      const text = readFileSync(join(dir, file), 'utf8')
      await sql
        .begin(async (transaction) => {
          await transaction.unsafe(text)
          await transaction`
            insert into supabase_migrations.schema_migrations (version, statements, name)
            values (${version}, ${[text]}, ${name})`
        })
        .catch((cause) => {
          throw new Error(`migration "${file}" failed: ${describe(cause, text)}`, { cause })
        })
      applied.push(version)
    }
  } finally {
    await sql.end()
  }
  return applied
}

function migrationFiles(dir: string): { file: string; version: string; name: string }[] {
  if (!existsSync(dir)) return []
  return readdirSync(dir)
    .sort()
    .flatMap((file) => {
      const [, version, name] = /^(\d{14})_(.+)\.sql$/.exec(file) ?? []
      return version && name ? [{ file, version, name }] : []
    })
}

function trimmed(text: string): string {
  return text.trim().replace(/[\s;]+$/, '')
}

function describe(cause: unknown, text: string): string {
  if (!(cause instanceof Error)) return String(cause)
  const position = 'position' in cause ? Number(cause.position) : 0
  const line = position ? ` at line ${text.slice(0, position).split('\n').length}` : ''
  return `${cause.message}${line}`
}
