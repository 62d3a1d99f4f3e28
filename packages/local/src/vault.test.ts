import postgres from 'postgres'
import { expect, test } from 'vitest'
import { freshDatabase } from './testing.ts'

async function withDatabase(body: (sql: postgres.Sql) => Promise<void>): Promise<void> {
  const database = await freshDatabase({ template: 'supabase' })
  const sql = postgres(database.url, { max: 1 })
  try {
    await body(sql)
  } finally {
    await sql.end()
    await database.drop()
  }
}

test('a secret is read back under its name and is not in plain text in the table', async () => {
  await withDatabase(async (sql) => {
    const [made] = await sql`select vault.create_secret('s3cret-✓', 'key', 'what for') as id`
    const [shown] = await sql`select * from vault.decrypted_secrets where name = 'key'`
    expect(shown).toMatchObject({
      id: made?.id,
      decrypted_secret: 's3cret-✓',
      description: 'what for',
    })
    const [stored] = await sql`select secret, s::text as row from vault.secrets s`
    expect(stored?.secret).not.toBe('')
    expect(stored?.row).not.toContain('s3cret')
  })
})

test('update_secret changes only what is given', async () => {
  await withDatabase(async (sql) => {
    const [made] = await sql`select vault.create_secret('one', 'key') as id`
    await sql`select vault.update_secret(${made?.id}, new_description := 'rotated')`
    await sql`select vault.update_secret(${made?.id}, 'two')`
    const [shown] =
      await sql`select name, decrypted_secret, description from vault.decrypted_secrets`
    expect(shown).toEqual({ name: 'key', decrypted_secret: 'two', description: 'rotated' })
  })
})

test('a name is taken once, secrets without a name as often as wanted', async () => {
  await withDatabase(async (sql) => {
    await sql`select vault.create_secret('one', 'key'), vault.create_secret('two'), vault.create_secret('three')`
    await expect(sql`select vault.create_secret('other', 'key')`).rejects.toMatchObject({
      code: '23505',
    })
  })
})

test('postgres and service_role read, only functions write, anon and authenticated have nothing', async () => {
  await withDatabase(async (sql) => {
    await sql`select vault.create_secret('one', 'key')`
    await expect(sql`update vault.secrets set secret = 'x'`).rejects.toMatchObject({
      code: '42501',
    })
    await sql`set role service_role`
    expect(await sql`select decrypted_secret from vault.decrypted_secrets`).toHaveLength(1)
    for (const role of ['anon', 'authenticated']) {
      await sql.unsafe(`set role ${role}`)
      const denied = { code: '42501' }
      await expect(sql`select * from vault.decrypted_secrets`).rejects.toMatchObject(denied)
      await expect(sql`select vault.create_secret('x')`).rejects.toMatchObject(denied)
    }
  })
})
