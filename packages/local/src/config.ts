/**
 * Reads `supabase/config.toml`, as much of it as the local stack serves. Names, defaults and
 * discovery follow the Supabase CLI 3.1.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { parseEnv } from 'node:util'
import { parse, TomlError, type TomlTable, type TomlValue } from 'smol-toml'

export interface ProjectConfig {
  /** The directory that contains `supabase/`. */
  projectDir: string
  api: ApiConfig
  /** Edge Functions by slug, in alphabetical order. */
  functions: ReadonlyMap<string, FunctionConfig>
  edgeRuntime: EdgeRuntimeConfig
}

export interface ApiConfig {
  /** Schemas the Data API exposes; the first one is the default. */
  schemas: string[]
  extraSearchPath: string[]
  /** Most rows one request returns. */
  maxRows: number
}

export interface FunctionConfig {
  slug: string
  /** Absolute path of the module. */
  entrypoint: string
  /** Absolute path of the function's deno.json or deno.jsonc. */
  denoConfig: string | null
  /** Absolute path of a plain import map, only where the config names one. */
  importMap: string | null
  /** Whether a request needs a valid JWT. */
  verifyJwt: boolean
  enabled: boolean
  /** Values only this function sees. */
  env: Record<string, string>
}

export interface EdgeRuntimeConfig {
  /** `per_worker`: many requests share a worker; `oneshot`: each request has its own. */
  policy: 'per_worker' | 'oneshot'
  /** Values every function sees: `supabase/functions/.env`, then `[edge_runtime.secrets]`. */
  secrets: Record<string, string>
}

export type ConfigErrorCode =
  | 'CONFIG_FUNCTION_ENTRYPOINT'
  | 'CONFIG_FUNCTION_SLUG'
  | 'CONFIG_UNREADABLE'
  | 'CONFIG_VALUE'

/** The project's configuration cannot be used as it stands. */
export class ConfigError extends Error {
  override name = 'ConfigError'
  readonly code: ConfigErrorCode

  constructor(code: ConfigErrorCode, message: string) {
    super(message)
    this.code = code
  }
}

/** The project's configuration with the CLI's defaults. Raises `ConfigError`. */
export function readConfig(projectDir: string): ProjectConfig {
  const root = resolve(projectDir)
  const file = parseFile(join(root, 'supabase', 'config.toml'))
  const api = table(file.api, 'api')
  const runtime = table(file.edge_runtime, 'edge_runtime')
  return {
    projectDir: root,
    api: {
      schemas: strings(api.schemas, 'api.schemas') ?? ['public', 'graphql_public'],
      extraSearchPath: strings(api.extra_search_path, 'api.extra_search_path') ?? [
        'public',
        'extensions',
      ],
      maxRows: number(api.max_rows, 'api.max_rows') ?? 1000,
    },
    functions: readFunctions(join(root, 'supabase'), table(file.functions, 'functions')),
    edgeRuntime: {
      policy: readPolicy(runtime.policy),
      secrets: {
        ...readDotenv(join(root, 'supabase', 'functions', '.env')),
        ...environment(runtime.secrets, 'edge_runtime.secrets'),
      },
    },
  }
}

function parseFile(path: string): TomlTable {
  try {
    return parse(readFileSync(path, 'utf8'))
  } catch (error) {
    const reason =
      error instanceof TomlError
        ? `line ${error.line}: ${error.message.split('\n', 1)[0]}`
        : 'no such file, create it with "supabase init"'
    throw new ConfigError('CONFIG_UNREADABLE', `Cannot read "${path}": ${reason}`)
  }
}

/** `functions/<slug>/index.ts` and every `[functions.<slug>]`, as the CLI discovers them. */
function readFunctions(supabaseDir: string, declared: TomlTable) {
  const slugs = new Set([...foundSlugs(join(supabaseDir, 'functions')), ...Object.keys(declared)])
  return new Map(
    [...slugs].sort().map((slug) => {
      const settings = table(declared[slug], `functions.${slug}`)
      return [slug, readFunction(supabaseDir, slug, settings)]
    }),
  )
}

const slugPattern = /^[A-Za-z][A-Za-z0-9_-]*$/

function foundSlugs(functionsDir: string): string[] {
  if (!existsSync(functionsDir)) return []
  return readdirSync(functionsDir).filter(
    (name) => slugPattern.test(name) && existsSync(join(functionsDir, name, 'index.ts')),
  )
}

function readFunction(supabaseDir: string, slug: string, settings: TomlTable): FunctionConfig {
  const section = `functions.${slug}`
  if (!slugPattern.test(slug)) {
    throw new ConfigError(
      'CONFIG_FUNCTION_SLUG',
      `Cannot serve function "${slug}": its name -> letters, digits, "_" and "-", a letter first`,
    )
  }
  const named = string(settings.entrypoint, `${section}.entrypoint`)
  const entrypoint = resolve(supabaseDir, named ?? join('functions', slug, 'index.ts'))
  const enabled = boolean(settings.enabled, `${section}.enabled`) ?? true
  if (enabled && !existsSync(entrypoint)) {
    throw new ConfigError(
      'CONFIG_FUNCTION_ENTRYPOINT',
      `Cannot find the entrypoint of function "${slug}": no file "${entrypoint}"` +
        ` -> create it or set "entrypoint" in [${section}]`,
    )
  }
  return {
    slug,
    entrypoint,
    ...readImports(supabaseDir, entrypoint, string(settings.import_map, `${section}.import_map`)),
    verifyJwt: boolean(settings.verify_jwt, `${section}.verify_jwt`) ?? true,
    enabled,
    env: environment(settings.env, `${section}.env`),
  }
}

const denoConfigPattern = /deno\.jsonc?$/

/** A `deno.json` is Deno's configuration even when `import_map` names it; else it is a plain map. */
function readImports(supabaseDir: string, entrypoint: string, named: string | null) {
  if (!named) {
    const beside = ['deno.json', 'deno.jsonc'].map((name) => resolve(entrypoint, '..', name))
    return { denoConfig: beside.find((path) => existsSync(path)) ?? null, importMap: null }
  }
  const path = resolve(supabaseDir, named)
  return denoConfigPattern.test(path)
    ? { denoConfig: path, importMap: null }
    : { denoConfig: null, importMap: path }
}

function readPolicy(value: TomlValue | undefined): EdgeRuntimeConfig['policy'] {
  const policy = string(value, 'edge_runtime.policy') ?? 'per_worker'
  if (policy === 'per_worker' || policy === 'oneshot') return policy
  throw wrong('edge_runtime.policy', value, '"per_worker" or "oneshot"')
}

function readDotenv(path: string): Record<string, string> {
  const values: Record<string, string> = {}
  if (!existsSync(path)) return values
  for (const [name, value] of Object.entries(parseEnv(readFileSync(path, 'utf8')))) {
    if (value !== undefined) values[name] = value
  }
  return values
}

/** Text values; `env(NAME)` stands for a variable of the host and is left out when that is unset. */
function environment(value: TomlValue | undefined, key: string): Record<string, string> {
  const values: Record<string, string> = {}
  for (const [name, raw] of Object.entries(table(value, key))) {
    const text = string(raw, `${key}.${name}`)
    const reference = text?.match(/^env\((\w+)\)$/)?.[1]
    const resolved = reference ? process.env[reference] : text
    if (resolved != null) values[name] = resolved
  }
  return values
}

function table(value: TomlValue | undefined, key: string): TomlTable {
  if (value === undefined) return {}
  if (typeof value === 'object' && !Array.isArray(value) && !(value instanceof Date)) return value
  throw wrong(key, value, 'a table')
}

function string(value: TomlValue | undefined, key: string): string | null {
  if (value === undefined) return null
  if (typeof value === 'string') return value
  throw wrong(key, value, 'a string')
}

function strings(value: TomlValue | undefined, key: string): string[] | null {
  if (value === undefined) return null
  if (Array.isArray(value)) return value.map((item) => string(item, key) ?? '')
  throw wrong(key, value, 'a list of strings')
}

function number(value: TomlValue | undefined, key: string): number | null {
  if (value === undefined) return null
  if (typeof value === 'number') return value
  throw wrong(key, value, 'a number')
}

function boolean(value: TomlValue | undefined, key: string): boolean | null {
  if (value === undefined) return null
  if (typeof value === 'boolean') return value
  throw wrong(key, value, 'true or false')
}

function wrong(key: string, value: TomlValue | undefined, wanted: string): ConfigError {
  return new ConfigError(
    'CONFIG_VALUE',
    `Cannot read "${key}" in supabase/config.toml: ${JSON.stringify(value)} -> ${wanted}`,
  )
}
