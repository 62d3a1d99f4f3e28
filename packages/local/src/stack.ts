import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import postgres from 'postgres'
import { createAccess } from './access.ts'
import { startApi } from './api.ts'
import { bootstrapDatabase } from './bootstrap.ts'
import { readConfig } from './config.ts'
import { startCron } from './cron.ts'
import { type Faults, noFaults } from './faults.ts'
import { authorize } from './functions/authorize.ts'
import { type FunctionsHost, startFunctions } from './functions/host.ts'
import type { Limits } from './functions/limits.ts'
import { type KeptPostgres, keepPostgres } from './keep.ts'
import { createKeys, type Keys, verifyToken } from './keys.ts'
import { applyMigrations } from './migrate.ts'
import { startNet } from './net.ts'
import { claimHome } from './owner.ts'
import { freePort } from './postgres.ts'
import type { Rule } from './practice/rules.ts'
import { startPractice } from './practice/server.ts'
import { startRealtime } from './realtime/server.ts'

export interface StackOptions {
  /** The directory that contains `supabase/`. */
  projectDir: string
  /** State folder: database, keys, caches. */
  home: string
  /** TCP ports on 127.0.0.1; 0 takes a free one. Defaults as the Supabase CLI: 54321, 54322; practice 54390. */
  ports?: Partial<Record<'api' | 'db' | 'practice', number>>
  /** What practice models do at first. */
  practiceRules?: readonly Rule[]
  /** Given to every function beside the SUPABASE_ ones. */
  env?: Record<string, string>
  /** Deviations from the limits of the hosted free plan. */
  functionsLimits?: Partial<Limits>
  /** Written to Vault before the migrations, by name. */
  vault?: Record<string, string>
  /** Cache of compiled functions and their npm packages; `<home>/deno` when absent. */
  denoDir?: string
  /** False turns fsync off: for throw-away stacks only. */
  durable?: boolean
  log?: (line: string) => void
}

export interface StackUrls {
  /** Base URL for supabase-js. */
  api: string
  /** Connection string of `postgres`. */
  db: string
  /** `<api>/functions/v1` */
  functions: string
  practice: string
}

export interface Stack {
  urls: StackUrls
  keys: Keys
  /** Read at each use: turn them live. */
  faults: Faults
  postgres: KeptPostgres
  functions: FunctionsHost
  stop(): Promise<void>
}

/**
 * Starts a whole Supabase for one project and writes `<home>/stack.json` (pid, urls, keys; readable
 * by its owner only), which goes when it stops. State in `home` is continued. Throws HomeInUseError
 * when another process runs a stack there.
 */
export async function startStack(options: StackOptions): Promise<Stack> {
  const home = resolve(options.home)
  const running: (() => unknown)[] = [claimHome(home)]
  const stop = async (): Promise<void> => {
    for (const end of running.splice(0).reverse()) await end()
  }
  try {
    const stack = await startParts({ ...options, home }, (end) => running.push(end))
    const file = join(home, 'stack.json')
    running.push(() => rmSync(file, { force: true }))
    writeStackFile(file, stack)
    return { ...stack, stop }
  } catch (cause) {
    await stop()
    throw cause
  }
}

/** Starts part after part; `onStop` takes what ends each, to be called in reverse. */
async function startParts(
  options: StackOptions,
  onStop: (end: () => unknown) => void,
): Promise<Omit<Stack, 'stop'>> {
  const { home, env = {}, log = () => {} } = options
  const config = readConfig(options.projectDir)
  const keys = createKeys(home)
  const faults = noFaults()
  const kept = await keepPostgres({
    dataDir: join(home, 'postgres'),
    port: await portOr(options.ports?.db, 54322),
    durable: options.durable ?? true,
    log,
  })
  onStop(() => kept.stop())
  const { adminUrl, url, databaseUrl } = kept.server()
  await prepareDatabase(options, kept)

  const practice = await startPractice({
    port: options.ports?.practice ?? 54390,
    rules: options.practiceRules ?? [],
  })
  onStop(() => practice.stop())
  const realtime = await startRealtime({
    adminUrl,
    faults,
    isKnownApiKey: createAccess(keys).roleOfKey,
    verifyToken: async (token) => {
      const verified = await verifyToken(token, keys.jwtSecret)
      return 'claims' in verified ? verified.claims : null
    },
    log,
  })
  onStop(() => realtime.stop())
  const net = await startNet({ adminUrl, faults, log })
  onStop(() => net.stop())
  const cron = await startCron({
    adminUrl,
    databaseUrl: (username, database) => databaseUrl(database, username),
    log,
  })
  onStop(() => cron.stop())

  const port = await portOr(options.ports?.api, 54321)
  const api = `http://127.0.0.1:${port}`
  const functions = startFunctions({
    config,
    env: { ...env, ...platformEnv(api, url, keys) },
    authorize: (request) => authorize(request, keys),
    denoDir: options.denoDir ?? join(home, 'deno'),
    ...(options.functionsLimits ? { limits: options.functionsLimits } : {}),
    log,
  })
  const gateway = await startApi({
    databaseUrl: (user) => databaseUrl('postgres', user),
    api: config.api,
    keys,
    port,
    realtime,
    functions,
    log,
  })
  onStop(() => gateway.stop())
  // Functions stop first: what they do in `beforeunload`, such as giving a lease back, needs the API.
  onStop(() => functions.stop())
  const urls = { api, db: url, functions: `${api}/functions/v1`, practice: practice.url }
  return { urls, keys, faults, postgres: kept, functions }
}

/** What the platform gives every function. Legacy anon and service_role keys are not among it. */
function platformEnv(api: string, db: string, keys: Keys): Record<string, string> {
  return {
    SUPABASE_URL: api,
    SUPABASE_DB_URL: db,
    SUPABASE_PUBLISHABLE_KEYS: JSON.stringify({ default: keys.publishableKey }),
    SUPABASE_SECRET_KEYS: JSON.stringify({ default: keys.secretKey }),
  }
}

/** Roles and schemas, Vault, then the project's migrations; seed data into a new database only. */
async function prepareDatabase(options: StackOptions, kept: KeptPostgres): Promise<void> {
  const { adminUrl, url } = kept.server()
  await bootstrapDatabase(adminUrl)
  const sql = postgres(url, { max: 1, onnotice: () => {} })
  try {
    for (const [name, value] of Object.entries(options.vault ?? {})) await keep(sql, name, value)
    const [history] = await sql<{ name: string | null }[]>`
      select to_regclass('supabase_migrations.schema_migrations')::text as name`
    const supabaseDir = join(resolve(options.projectDir), 'supabase')
    await applyMigrations(url, join(supabaseDir, 'migrations'))
    const seed = join(supabaseDir, 'seed.sql')
    if (history?.name === null && existsSync(seed)) await sql.unsafe(readFileSync(seed, 'utf8'))
  } finally {
    await sql.end({ timeout: 1 })
  }
}

async function keep(sql: postgres.Sql, name: string, value: string): Promise<void> {
  const [secret] = await sql`
    select vault.update_secret(id, ${value}) from vault.secrets where name = ${name}`
  if (!secret) await sql`select vault.create_secret(${value}, ${name})`
}

async function portOr(wanted: number | undefined, standard: number): Promise<number> {
  return wanted === 0 ? freePort() : (wanted ?? standard)
}

function writeStackFile(path: string, { urls, keys }: Pick<Stack, 'urls' | 'keys'>): void {
  const { publishableKey, secretKey } = keys
  const content = { pid: process.pid, urls, keys: { publishableKey, secretKey } }
  const draft = `${path}.new`
  mkdirSync(join(path, '..'), { recursive: true })
  writeFileSync(draft, `${JSON.stringify(content, null, 2)}\n`, { mode: 0o600 })
  renameSync(draft, path)
}
