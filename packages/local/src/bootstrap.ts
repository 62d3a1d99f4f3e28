import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import postgres from 'postgres'

const sqlDir = join(import.meta.dirname, '../sql')

/**
 * Brings a database to the state of a new Supabase project: roles, auth, vault, net, cron, realtime.
 * Idempotent; `adminUrl` logs in as the superuser.
 */
export async function bootstrapDatabase(adminUrl: string): Promise<void> {
  const sql = postgres(adminUrl, { max: 1, onnotice: () => {} })
  try {
    for (const file of readdirSync(sqlDir).sort()) {
      if (!file.endsWith('.sql')) continue
      await sql.unsafe(readFileSync(join(sqlDir, file), 'utf8')).catch((cause) => {
        throw new Error(`bootstrap failed in "${file}"`, { cause })
      })
    }
  } finally {
    await sql.end()
  }
}
