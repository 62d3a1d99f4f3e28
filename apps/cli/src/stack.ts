import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { runHost } from '@nightshift/host/host.ts'
import { type Faults, startStack } from '@nightshift/local'
import { readSettings, type Settings } from '@nightshift/shared/env.ts'
import { homeDir, projectDir } from './connection.ts'
import { portBlock } from './ports.ts'

/** The local stack with everything of ours on it. */
export interface LocalStack {
  urls: { api: string; db: string; functions: string; practice: string; console: string }
  keys: { publishableKey: string; secretKey: string }
  practice: boolean
  /** How unreliable the doorbells are; read at each use. */
  faults: Faults
  stop(): Promise<void>
}

export interface LocalStackOptions {
  /** False leaves the polling worker out: then only what a doorbell wakes works. */
  hostWorker?: boolean
  /** False turns fsync off: for throw-away stacks only. */
  durable?: boolean
}

/**
 * Starts the embedded Supabase with our migrations and functions, tells the database where the
 * doorbell is, and adds a host worker that only polls: the fallback that needs no doorbell.
 */
export async function startLocalStack(
  settings: Settings,
  log: (line: string) => void,
  { hostWorker = true, durable = true }: LocalStackOptions = {},
): Promise<LocalStack> {
  const home = homeDir(settings)
  mkdirSync(home, { recursive: true })
  const ports = portBlock(settings.NIGHTSHIFT_PORT_BASE)
  const nudgeSecret = keptSecret(join(home, 'nudge-secret'))
  const practiceUrl = `http://127.0.0.1:${ports.practice}`
  const functionEnv = {
    ...passedOn(process.env),
    NIGHTSHIFT_NUDGE_SECRET: nudgeSecret,
    NIGHTSHIFT_PRACTICE_URL: practiceUrl,
  }
  const stack = await startStack({
    projectDir,
    home,
    ports,
    env: functionEnv,
    // Where the doorbell is and what it must say; read by `…_wake.sql`.
    vault: {
      nightshift_functions_url: `http://127.0.0.1:${ports.api}/functions/v1`,
      nightshift_nudge_secret: nudgeSecret,
    },
    // Filled at installation (scripts/warm.mjs), so that starting needs no network.
    denoDir: join(projectDir, 'node_modules/.cache/deno'),
    durable,
    log,
  })
  const stopping = new AbortController()
  const hostSettings = readSettings({
    ...functionEnv,
    SUPABASE_URL: stack.urls.api,
    SUPABASE_SECRET_KEYS: JSON.stringify({ default: stack.keys.secretKey }),
  })
  const host = hostWorker
    ? runHost({
        settings: hostSettings,
        signal: stopping.signal,
        listen: false,
        log: (event) => log(`host ${JSON.stringify(event)}`),
      })
    : Promise.resolve()
  return {
    keys: stack.keys,
    faults: stack.faults,
    urls: { ...stack.urls, console: `http://127.0.0.1:${ports.console}` },
    practice:
      !settings.ANTHROPIC_API_KEY && !settings.OPENAI_API_KEY && !settings.OPENROUTER_API_KEY,
    async stop() {
      stopping.abort()
      await host
      await stack.stop()
    },
  }
}

/** Settings that functions and the host worker inherit: model keys and our own tuning, nothing else. */
function passedOn(environment: NodeJS.ProcessEnv): Record<string, string> {
  const own = ['NIGHTSHIFT_HOME', 'NIGHTSHIFT_PORT_BASE']
  return Object.fromEntries(
    Object.entries(environment).flatMap(([name, value]) =>
      value && /^(NIGHTSHIFT_|ANTHROPIC_|OPENAI_|OPENROUTER_)/.test(name) && !own.includes(name)
        ? [[name, value]]
        : [],
    ),
  )
}

function keptSecret(path: string): string {
  if (existsSync(path)) return readFileSync(path, 'utf8')
  const secret = randomBytes(32).toString('base64url')
  writeFileSync(path, secret, { mode: 0o600 })
  return secret
}
