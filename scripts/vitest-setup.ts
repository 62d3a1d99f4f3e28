import { join } from 'node:path'
import { startTestServer } from '../packages/local/src/testing.ts'

/** Vitest's global setup: one Postgres for the whole run; each test file clones a database from it. */
export default function setup(): Promise<() => Promise<void>> {
  return startTestServer(join(import.meta.dirname, '../supabase/migrations'))
}
