import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { readSettings, type Settings } from '@nightshift/shared/env.ts'
import { createClient, type SupabaseClient } from '@supabase/supabase-js'
import { z } from 'zod'
import { ExitError, exitCode } from './exit.ts'

/** Root of the checkout: where `supabase/` and `functions/` are. */
export const projectDir = resolve(import.meta.dirname, '../../..')

/** Where a running system is; `local` is the embedded stack, `remote` any Supabase project. */
export interface Connection {
  mode: 'local' | 'remote'
  apiUrl: string
  functionsUrl: string
  dbUrl: string | null
  practiceUrl: string | null
  publishableKey: string
  secretKey: string
}

/** State folder of the local stack; relative names count from the checkout, not from where one stands. */
export function homeDir(settings: Settings): string {
  return resolve(projectDir, settings.NIGHTSHIFT_HOME)
}

const stackFile = z.object({
  pid: z.number(),
  urls: z.object({ api: z.string(), db: z.string(), functions: z.string(), practice: z.string() }),
  keys: z.object({ publishableKey: z.string(), secretKey: z.string() }),
})

/** The system that `SUPABASE_URL` and the keys name, else the local stack if one is up, else null. */
export function findConnection(environment = process.env): Connection | null {
  const settings = readSettings(environment)
  return environment.SUPABASE_URL ? remote(settings) : local(homeDir(settings))
}

/** Like `findConnection`, but a missing system ends the program with code 8. */
export function requireConnection(): Connection {
  const connection = findConnection()
  if (connection) return connection
  throw new ExitError('no running stack found', {
    exitCode: exitCode.unhealthy,
    hint: 'Run "npm start" in another terminal, or set SUPABASE_URL and the keys.',
  })
}

function remote(settings: Settings): Connection {
  const publishableKey = settings.SUPABASE_PUBLISHABLE_KEYS.default
  const secretKey = settings.SUPABASE_SECRET_KEYS.default
  if (!publishableKey || !secretKey) {
    throw new ExitError('SUPABASE_URL is set but the keys are not', {
      exitCode: exitCode.usage,
      hint: 'Set SUPABASE_PUBLISHABLE_KEYS and SUPABASE_SECRET_KEYS to {"default": "…"}.',
    })
  }
  return {
    mode: 'remote',
    apiUrl: settings.SUPABASE_URL,
    functionsUrl: `${settings.SUPABASE_URL}/functions/v1`,
    dbUrl: settings.SUPABASE_DB_URL ?? null,
    practiceUrl: settings.NIGHTSHIFT_PRACTICE_URL ?? null,
    publishableKey,
    secretKey,
  }
}

function local(home: string): Connection | null {
  const path = join(home, 'stack.json')
  if (!existsSync(path)) return null
  const stack = stackFile.safeParse(JSON.parse(readFileSync(path, 'utf8')))
  if (!stack.success || !isAlive(stack.data.pid)) return null
  const { urls, keys } = stack.data
  return {
    mode: 'local',
    apiUrl: urls.api,
    functionsUrl: urls.functions,
    dbUrl: urls.db,
    practiceUrl: urls.practice,
    ...keys,
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}

const withoutStorage = { auth: { persistSession: false, autoRefreshToken: false } }

/** A client with the secret key: the machine's rights, no person. */
export function serviceClient(connection: Connection): SupabaseClient {
  return createClient(connection.apiUrl, connection.secretKey, withoutStorage)
}

/** The account of the person at this machine. */
export const personEmail = 'you@nightshift.example'

const personFile = z.object({ email: z.string(), password: z.string() })

/**
 * A client signed in as the person at this machine, who owns what the demo makes and decides its
 * cards. The account is made at first use; its password lies in the state folder, readable by its
 * owner only.
 */
export async function personClient(connection: Connection, home: string): Promise<SupabaseClient> {
  const path = join(home, `person-${new URL(connection.apiUrl).host.replace(':', '-')}.json`)
  const person = existsSync(path)
    ? personFile.parse(JSON.parse(readFileSync(path, 'utf8')))
    : { email: personEmail, password: randomBytes(24).toString('base64url') }
  const client = createClient(connection.apiUrl, connection.publishableKey, {
    auth: { persistSession: false, autoRefreshToken: true },
  })
  const signedIn = await client.auth.signInWithPassword(person)
  if (!signedIn.error) return client
  const signedUp = await client.auth.signUp(person)
  if (signedUp.error || !signedUp.data.session) {
    throw new ExitError(
      `cannot sign in as "${person.email}": ${signedUp.error?.message ?? signedIn.error.message}`,
      {
        exitCode: exitCode.denied,
        hint: `Delete that user and "${path}", then try again.`,
      },
    )
  }
  writeFileSync(path, JSON.stringify(person), { mode: 0o600 })
  return client
}
