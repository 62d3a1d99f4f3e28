import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import postgres from 'postgres'
import { expect, test } from 'vitest'
import { startPostgres } from './postgres.ts'
import { freshDatabase } from './testing.ts'

test('a fresh database has the roles of a hosted project and "postgres" is no superuser', async () => {
  const database = await freshDatabase({ template: 'supabase' })
  const sql = postgres(database.url, { max: 1 })
  const rows = await sql`select rolname, rolsuper, rolbypassrls from pg_roles
    where rolname in ('postgres', 'anon', 'authenticated', 'service_role', 'authenticator') order by 1`
  expect(rows.map((row) => row)).toEqual([
    { rolname: 'anon', rolsuper: false, rolbypassrls: false },
    { rolname: 'authenticated', rolsuper: false, rolbypassrls: false },
    { rolname: 'authenticator', rolsuper: false, rolbypassrls: false },
    { rolname: 'postgres', rolsuper: false, rolbypassrls: true },
    { rolname: 'service_role', rolsuper: false, rolbypassrls: true },
  ])
  await sql.end()
  await database.drop()
})

test('two databases do not see each other', async () => {
  const [first, second] = await Promise.all([freshDatabase(), freshDatabase()])
  const one = postgres(first.url, { max: 1 })
  const two = postgres(second.url, { max: 1 })
  await one`create table public.only_here (id int)`
  const [row] = await two`select to_regclass('public.only_here') as found`
  expect(row?.found).toBeNull()
  await Promise.all([one.end(), two.end()])
  await Promise.all([first.drop(), second.drop()])
})

test('a port that another cluster holds is refused instead of using the stranger', async () => {
  const database = await freshDatabase({ template: 'supabase' })
  const folder = mkdtempSync(join(tmpdir(), 'postgres-test-'))
  const port = Number(new URL(database.url).port)
  await expect(startPostgres({ dataDir: join(folder, 'data'), port })).rejects.toThrow(
    `port ${port} taken`,
  )
  rmSync(folder, { recursive: true, force: true })
  await database.drop()
})
