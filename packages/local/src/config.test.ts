import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { ConfigError, readConfig } from './config.ts'

const projects: string[] = []

function project(files: Record<string, string>): string {
  const directory = mkdtempSync(join(tmpdir(), 'local-config-'))
  projects.push(directory)
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(directory, path)), { recursive: true })
    writeFileSync(join(directory, path), text)
  }
  return directory
}

afterEach(() => {
  for (const directory of projects.splice(0)) rmSync(directory, { recursive: true, force: true })
})

function failure(files: Record<string, string>): ConfigError {
  const directory = project(files)
  try {
    readConfig(directory)
  } catch (error) {
    if (error instanceof ConfigError) return error
    throw error
  }
  throw new Error('the configuration was accepted')
}

test('an empty config.toml means the defaults of the CLI', () => {
  const config = readConfig(project({ 'supabase/config.toml': '' }))
  expect(config.api).toEqual({
    schemas: ['public', 'graphql_public'],
    extraSearchPath: ['public', 'extensions'],
    maxRows: 1000,
  })
  expect(config.edgeRuntime).toEqual({ policy: 'per_worker', secrets: {} })
  expect(config.functions.size).toBe(0)
})

test('the api section is read', () => {
  const toml = '[api]\nschemas = ["app"]\nextra_search_path = []\nmax_rows = 7'
  expect(readConfig(project({ 'supabase/config.toml': toml })).api).toEqual({
    schemas: ['app'],
    extraSearchPath: [],
    maxRows: 7,
  })
})

test('functions are the folders with an index.ts and every declared one', () => {
  const directory = project({
    'supabase/config.toml': `
      [functions.worker]
      entrypoint = "../functions/worker/main.ts"
      verify_jwt = false
      env = { MODE = "night" }
      [functions.mapped]
      import_map = "./functions/maps.json"
      [functions.off]
      enabled = false`,
    'supabase/functions/found/index.ts': '',
    'supabase/functions/mapped/index.ts': '',
    'supabase/functions/_shared/index.ts': '',
    'supabase/functions/notes/readme.md': '',
    'functions/worker/main.ts': '',
    'functions/worker/deno.json': '{}',
  })
  const { functions } = readConfig(directory)
  expect([...functions.keys()]).toEqual(['found', 'mapped', 'off', 'worker'])
  expect(functions.get('worker')).toEqual({
    slug: 'worker',
    entrypoint: join(directory, 'functions/worker/main.ts'),
    denoConfig: join(directory, 'functions/worker/deno.json'),
    importMap: null,
    verifyJwt: false,
    enabled: true,
    env: { MODE: 'night' },
  })
  expect(functions.get('mapped')).toMatchObject({
    denoConfig: null,
    importMap: join(directory, 'supabase/functions/maps.json'),
    verifyJwt: true,
  })
  expect(functions.get('off')?.enabled).toBe(false)
})

test('secrets come from functions/.env and the config, which may refer to the host', () => {
  process.env.LOCAL_CONFIG_TEST = 'from the host'
  const directory = project({
    'supabase/config.toml': `
      [edge_runtime]
      policy = "oneshot"
      [edge_runtime.secrets]
      A = "config"
      B = "env(LOCAL_CONFIG_TEST)"
      C = "env(LOCAL_CONFIG_TEST_UNSET)"`,
    'supabase/functions/.env': 'A=file\nD="quoted value"\n',
  })
  expect(readConfig(directory).edgeRuntime).toEqual({
    policy: 'oneshot',
    secrets: { A: 'config', B: 'from the host', D: 'quoted value' },
  })
  delete process.env.LOCAL_CONFIG_TEST
})

test('each mistake has a code and says what is wanted', () => {
  const config = (text: string) => failure({ 'supabase/config.toml': text })
  const missing = config('[functions.worker]\nentrypoint = "../functions/worker/index.ts"')
  expect(missing.code).toBe('CONFIG_FUNCTION_ENTRYPOINT')
  expect(missing.message).toMatch(/function "worker": no file ".*\/functions\/worker\/index.ts"/)
  expect(config('[functions."a b"]').code).toBe('CONFIG_FUNCTION_SLUG')
  expect(config('[api]\nmax_rows = "many"').message).toBe(
    'Cannot read "api.max_rows" in supabase/config.toml: "many" -> a number',
  )
  expect(config('[edge_runtime]\npolicy = "both"').code).toBe('CONFIG_VALUE')
  expect(config('[api]\nschemas = "public"').code).toBe('CONFIG_VALUE')
  expect(config('a = ').message).toMatch(/^Cannot read ".*config.toml": line 1: /)
  expect(failure({}).code).toBe('CONFIG_UNREADABLE')
})
