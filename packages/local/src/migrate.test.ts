import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import postgres from 'postgres'
import { expect, onTestFinished, test } from 'vitest'
import { applyMigrations } from './migrate.ts'
import { freshDatabase } from './testing.ts'

test('migrations are applied once, in order, each whole or not at all; a changed one stops all', async () => {
  const database = await freshDatabase({ template: 'supabase' })
  onTestFinished(() => database.drop())
  const dir = mkdtempSync(join(tmpdir(), 'migrations-'))
  onTestFinished(() => rmSync(dir, { recursive: true }))
  const sql = postgres(database.url, { max: 1 })
  onTestFinished(() => sql.end({ timeout: 1 }))
  const write = (file: string, text: string): void => writeFileSync(join(dir, file), text)

  write('20260101000002_second.sql', 'insert into public.notes values (2);')
  write('20260101000001_first.sql', 'create table public.notes (n int);')
  write('readme.sql', 'this is no migration')
  const versions = ['20260101000001', '20260101000002']
  expect(await applyMigrations(database.url, dir)).toEqual(versions)
  expect(await applyMigrations(database.url, dir)).toEqual([])

  write('20260101000003_third.sql', 'insert into public.notes values (3);\nselect oops;')
  await expect(applyMigrations(database.url, dir)).rejects.toThrow(
    'migration "20260101000003_third.sql" failed: column "oops" does not exist at line 2',
  )
  write('20260101000002_second.sql', 'insert into public.notes values (20);')
  await expect(applyMigrations(database.url, dir)).rejects.toMatchObject({
    code: 'MIGRATION_CHANGED',
    message: 'migration "20260101000002_second.sql" has changed since it was applied',
  })
  expect(await sql`select n from public.notes`).toEqual([{ n: 2 }])
  expect(await sql`select version from supabase_migrations.schema_migrations order by 1`).toEqual(
    versions.map((version) => ({ version })),
  )
})
