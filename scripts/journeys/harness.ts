import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { readSettings } from '@nightshift/shared/env.ts'
import { createClient, type SupabaseClient } from '@supabase/supabase-js'
import postgres from 'postgres'
import { freePortBase } from '../../apps/cli/src/ports.ts'
import {
  type LocalStack,
  type LocalStackOptions,
  startLocalStack,
} from '../../apps/cli/src/stack.ts'

/** For tests: everything that `npm start` starts, in a folder of its own. */
export interface System extends LocalStack {
  /** Login `postgres`, whom row security does not bind: for looking, not for acting. */
  sql: postgres.Sql
  /** A supabase-js client with the publishable key (nobody signed in) or another one. */
  client(key?: string): SupabaseClient
  /** Signs a new person up; the client carries the session. */
  signUp(name: string): Promise<Person>
  /** What the practice models answer from now on. */
  script(rules: unknown[]): Promise<void>
}

/** A signed-in user and what she may reach. */
export interface Person {
  id: string
  token: string
  client: SupabaseClient
  /** Her client in our schema. */
  db: ReturnType<typeof inSchema>
}

const inSchema = (client: SupabaseClient) => client.schema('nightshift')

export async function startSystem(options: LocalStackOptions = {}): Promise<System> {
  const home = mkdtempSync(join(tmpdir(), 'nightshift-journey-'))
  const settings = readSettings({
    NIGHTSHIFT_HOME: home,
    NIGHTSHIFT_PORT_BASE: String(await freePortBase()),
  })
  const stack = await startLocalStack(settings, () => {}, { durable: false, ...options })
  const sql = postgres(stack.urls.db, { max: 4, onnotice: () => {} })
  const clients: SupabaseClient[] = []
  const client = (key = stack.keys.publishableKey): SupabaseClient => {
    const made = createClient(stack.urls.api, key, {
      auth: { persistSession: false, autoRefreshToken: false },
    })
    clients.push(made)
    return made
  }
  return {
    ...stack,
    sql,
    client,
    signUp: (name) => signUp(client(), name),
    script: async (rules) => {
      const { status } = await fetch(`${stack.urls.practice}/_script`, {
        method: 'POST',
        body: JSON.stringify({ rules }),
      })
      if (status >= 300) throw new Error(`the script was refused with status ${status}`)
    },
    stop: async () => {
      await Promise.all(clients.map((each) => each.removeAllChannels()))
      await sql.end({ timeout: 1 })
      await stack.stop()
      rmSync(home, { recursive: true, force: true })
    },
  }
}

async function signUp(client: SupabaseClient, name: string): Promise<Person> {
  const { data, error } = await client.auth.signUp({
    email: `${name}@example.com`,
    password: `${name} sleeps at night`,
  })
  if (error || !data.user || !data.session)
    throw new Error(`cannot sign up "${name}"`, { cause: error })
  return { id: data.user.id, token: data.session.access_token, client, db: inSchema(client) }
}
