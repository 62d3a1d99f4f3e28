import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createClient, type SupabaseClient } from '@supabase/supabase-js'
import postgres from 'postgres'
import { startApi } from '../api.ts'
import type { ApiConfig } from '../config.ts'
import { createKeys, type Keys } from '../keys.ts'
import { freshDatabase } from '../testing.ts'

/** For tests: an API on a fresh database, with the official client. */
export interface TestApi {
  url: string
  keys: Keys
  /** Login `postgres`. */
  sql: postgres.Sql
  adminUrl: string
  /** A client with the publishable key, or another one. */
  client(key?: string): SupabaseClient
  /** A plain request with the publishable key; `body` is sent as it is. */
  send(path: string, init?: RequestInit): Promise<Response>
  stop(): Promise<void>
}

export async function startTestApi(api: Partial<ApiConfig> = {}): Promise<TestApi> {
  const database = await freshDatabase({ template: 'supabase' })
  const home = mkdtempSync(join(tmpdir(), 'supabase-keys-'))
  const keys = createKeys(home)
  const sql = postgres(database.url, { max: 2, onnotice: () => {} })
  const gateway = await startApi({
    databaseUrl: database.databaseUrl,
    api: { schemas: ['public'], extraSearchPath: ['public', 'extensions'], maxRows: 1000, ...api },
    keys,
    port: 0,
  })
  return {
    url: gateway.url,
    keys,
    sql,
    adminUrl: database.adminUrl,
    client: (key = keys.publishableKey) =>
      createClient(gateway.url, key, {
        auth: { autoRefreshToken: false, persistSession: false },
      }),
    send: (path, init = {}) =>
      fetch(gateway.url + path, {
        ...init,
        headers: { apikey: keys.publishableKey, ...Object.fromEntries(new Headers(init.headers)) },
      }),
    stop: async () => {
      await gateway.stop()
      await sql.end({ timeout: 1 })
      await database.drop()
      rmSync(home, { recursive: true })
    },
  }
}
