import { closest } from 'fastest-levenshtein'
import { z } from 'zod'
import { NightshiftError } from './errors.ts'

const seconds = (fallback: number) => z.coerce.number().positive().default(fallback)
const list = (fallback: string[]) =>
  z
    .string()
    .transform((text) =>
      text
        .split(',')
        .map((part) => part.trim())
        .filter(Boolean),
    )
    .default(fallback)

/** JSON map of named keys, as Supabase hands them to functions: `{"default": "sb_secret_…"}`. */
const keyMap = z
  .string()
  .transform((text, context) => {
    try {
      return z.record(z.string(), z.string()).parse(JSON.parse(text))
    } catch {
      context.addIssue({ code: 'custom', message: 'must be a JSON object of names and keys' })
      return z.NEVER
    }
  })
  .default({})

/** Every setting of the product, with its default. Nothing else reads the environment. */
const declared = z.object({
  SUPABASE_URL: z.url().default('http://127.0.0.1:54321'),
  SUPABASE_DB_URL: z.string().optional(),
  SUPABASE_PUBLISHABLE_KEYS: keyMap,
  SUPABASE_SECRET_KEYS: keyMap,
  ANTHROPIC_API_KEY: z.string().optional(),
  ANTHROPIC_BASE_URL: z.url().default('https://api.anthropic.com'),
  OPENAI_API_KEY: z.string().optional(),
  OPENAI_BASE_URL: z.url().default('https://api.openai.com/v1'),
  OPENROUTER_API_KEY: z.string().optional(),
  OPENROUTER_BASE_URL: z.url().default('https://openrouter.ai/api/v1'),
  /** Base URL of the practice models; set by the local stack. */
  NIGHTSHIFT_PRACTICE_URL: z.url().optional(),
  /** Shared with the database (Vault); during rotation two values, separated by a comma. */
  NIGHTSHIFT_NUDGE_SECRET: list([]),
  /** Queues this worker serves. */
  NIGHTSHIFT_QUEUES: list(['default']),
  /** Tasks in flight per worker. */
  NIGHTSHIFT_CONCURRENCY: z.coerce.number().int().min(1).max(100).default(8),
  /** A lease is lost after this silence, s. */
  NIGHTSHIFT_LEASE_SECONDS: seconds(90),
  /** Time one edge invocation plans for, s: half the wall clock of the free plan is 75. */
  NIGHTSHIFT_TICK_SECONDS: seconds(60),
  /** How often an idle worker looks without being told, s. */
  NIGHTSHIFT_POLL_SECONDS: seconds(10),
  /** A model must send its first byte within this time, s. */
  NIGHTSHIFT_FIRST_BYTE_SECONDS: seconds(30),
  /** A model may be silent in the middle of an answer for this time, s. */
  NIGHTSHIFT_IDLE_SECONDS: seconds(20),
  /** Local stack: first port of the block, and where its state lives. */
  NIGHTSHIFT_PORT_BASE: z.coerce.number().int().min(1024).max(65400).default(54321),
  NIGHTSHIFT_HOME: z.string().default('.nightshift'),
})

export type Settings = z.infer<typeof declared>

/**
 * Reads the settings. An unknown `NIGHTSHIFT_*` name is refused with the nearest valid one (a typo
 * would otherwise silently mean the default); a bad value names the setting and what it must be.
 */
export function readSettings(environment: Record<string, string | undefined>): Settings {
  const names = Object.keys(declared.shape)
  for (const name of Object.keys(environment)) {
    if (name.startsWith('NIGHTSHIFT_') && !names.includes(name)) {
      throw new NightshiftError(`unknown setting "${name}"`, {
        code: 'setting_unknown',
        hint: `Did you mean "${closest(name, names)}"?`,
      })
    }
  }
  const given = Object.entries(environment).filter(
    ([, value]) => value !== undefined && value !== '',
  )
  const parsed = declared.safeParse(Object.fromEntries(given))
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  throw new NightshiftError(`setting "${issue?.path.join('.')}" is invalid: ${issue?.message}`, {
    code: 'setting_invalid',
    hint: 'packages/shared/src/env.ts lists every setting with its default.',
  })
}

/** The secret key named `default`, or a clear error. */
export function secretKey(settings: Settings): string {
  const key = settings.SUPABASE_SECRET_KEYS.default
  if (key) return key
  throw new NightshiftError('no secret key configured', {
    code: 'setting_missing',
    hint: 'Set SUPABASE_SECRET_KEYS to {"default": "sb_secret_…"}.',
  })
}

/** How to reach a provider: its key, and its address per protocol it speaks. */
export interface ProviderAccess {
  apiKey: string
  /** Anthropic's without, OpenAI's with the final `/v1`, as the official SDKs expect them. */
  baseUrls: Partial<Record<'anthropic' | 'openai', string>>
}

/** Providers that can be called: those with a key, and practice where the local stack offers it. */
export function providerAccess(settings: Settings): Record<string, ProviderAccess> {
  const practice = settings.NIGHTSHIFT_PRACTICE_URL
  const all: Record<string, { apiKey: string | undefined; baseUrls: ProviderAccess['baseUrls'] }> =
    {
      anthropic: {
        apiKey: settings.ANTHROPIC_API_KEY,
        baseUrls: { anthropic: settings.ANTHROPIC_BASE_URL },
      },
      openai: { apiKey: settings.OPENAI_API_KEY, baseUrls: { openai: settings.OPENAI_BASE_URL } },
      openrouter: {
        apiKey: settings.OPENROUTER_API_KEY,
        baseUrls: { openai: settings.OPENROUTER_BASE_URL },
      },
      practice: {
        apiKey: practice && 'practice',
        baseUrls: practice ? { anthropic: practice, openai: `${practice}/v1` } : {},
      },
    }
  return Object.fromEntries(
    Object.entries(all).flatMap(([name, { apiKey, baseUrls }]) =>
      apiKey ? [[name, { apiKey, baseUrls }]] : [],
    ),
  )
}
