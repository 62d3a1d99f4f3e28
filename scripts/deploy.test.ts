import { execFile, spawn } from 'node:child_process'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { brotliCompress, constants } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { readConfig } from '../packages/local/src/config.ts'
import { denoEnvironment, installedDeno } from '../packages/local/src/functions/deno.ts'
import { type CaptureServer, type Deployment, startCaptureServer } from './capture-server.ts'

// Proves that the functions deploy: the official CLI bundles and uploads them, and what it uploaded,
// alone in an empty folder, starts on the Deno of the hosted runtime and turns strangers away.

/** What each function answers a caller without credentials: status and code by method. */
const strangers: Record<string, Record<string, [status: number, code: string]>> = {
  tick: { GET: [405, 'method_not_allowed'], POST: [401, 'unauthorized'] },
}

/** What a project has set before its first deployment; nothing listens at the address. */
const settings = {
  NIGHTSHIFT_NUDGE_SECRET: 'a-nudge-secret-of-the-deploy-test',
  SUPABASE_SECRET_KEYS: '{"default":"sb_secret_x"}',
  SUPABASE_URL: 'http://127.0.0.1:9',
}

const root = resolve(import.meta.dirname, '..')
const slugs = [...readConfig(root).functions.values()].flatMap(({ enabled, slug }) =>
  enabled ? [slug] : [],
)
const deno = { binary: installedDeno(), denoDir: join(root, 'node_modules/.cache/deno') }
const execute = promisify(execFile)
let folder: string
let server: CaptureServer

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'nightshift-deploy-'))
  server = await startCaptureServer()
  copyProject()
  await deploy()
  for (const [slug, { files }] of server.deployments) {
    for (const [path, content] of files) write(join('uploaded', slug, path), content)
  }
})

afterAll(async () => {
  await server.stop()
  rmSync(folder, { recursive: true, force: true })
})

test('the CLI uploads every enabled function and asks no other host', () => {
  expect([...server.deployments.keys()].sort()).toEqual(slugs)
  expect(Object.keys(strangers).sort()).toEqual(slugs)
  expect(server.outside).toEqual([])
})

describe.each(slugs)('%s', (slug) => {
  beforeAll(() => cacheModules(slug), 120_000)

  test('uploads its sources and nothing else', () => {
    const { files, metadata } = upload(slug)
    expect(metadata).toEqual({
      entrypoint_path: `functions/${slug}/index.ts`,
      import_map_path: `functions/${slug}/deno.json`,
      name: slug,
      static_patterns: [],
      verify_jwt: false,
    })
    const paths = [...files.keys()]
    expect(paths).toContain(metadata.entrypoint_path)
    expect(paths).toContain(metadata.import_map_path)
    const own = new RegExp(`^(functions/(_kit|${slug})|packages/shared/src)/`)
    expect(paths.filter((path) => !own.test(path) || path.includes('..'))).toEqual([])
    expect(paths.filter((path) => /node_modules|\.env|\.test\./.test(path))).toEqual([])
  })

  test('stays small, npm packages included', async () => {
    const { bytes, packages } = await bundle(slug)
    const callsModels = packages.some((name) => name === 'openai' || name === '@anthropic-ai/sdk')
    expect(bytes).toBeLessThan(callsModels ? 10_000_000 : 3_000_000)
  })

  test('starts on the Deno of the hosted runtime and turns strangers away', async () => {
    const url = await start(slug)
    for (const [method, answer] of Object.entries(strangers[slug] ?? {})) {
      const response = await fetch(url, { method })
      const { code }: { code?: string } = await response.json()
      expect([response.status, code], method).toEqual(answer)
    }
  })
})

/** A copy for the CLI to work on, with bait that must not be uploaded. */
function copyProject() {
  for (const part of ['supabase', 'functions', 'packages/shared']) {
    cpSync(join(root, part), join(folder, 'project', part), {
      recursive: true,
      filter: (path) => !/^(node_modules|\.env.*|\.temp|\.branches)$/.test(basename(path)),
    })
  }
  for (const place of ['packages/shared/src', ...slugs.map((slug) => `functions/${slug}`)]) {
    write(join('project', place, '.env'), 'SECRET=bait')
    write(join('project', place, 'bait.test.ts'), '')
    write(join('project', place, 'node_modules/bait/index.js'), '')
  }
}

function write(path: string, content: string | Uint8Array) {
  mkdirSync(dirname(join(folder, path)), { recursive: true })
  writeFileSync(join(folder, path), content)
}

/** Runs the CLI as a person would, but with the capture server as platform and as only way out. */
async function deploy() {
  const { url } = server
  const profile = { name: 'capture', api_url: url, dashboard_url: url, project_host: 'localhost' }
  write('profile.json', JSON.stringify(profile))
  const cli = join(root, 'node_modules/supabase/dist/supabase.js')
  const project = `--remote=${'project'.padEnd(20, 'x')}`
  await execute(process.execPath, [cli, 'functions', 'deploy', '--use-api', project, '--yes'], {
    cwd: join(folder, 'project'),
    env: {
      HOME: folder,
      HTTP_PROXY: url,
      HTTPS_PROXY: url,
      NO_PROXY: '127.0.0.1',
      PATH: process.env.PATH,
      SUPABASE_ACCESS_TOKEN: `sbp_${'0'.repeat(40)}`,
      SUPABASE_NO_UPDATE_NOTIFIER: '1',
      SUPABASE_PROFILE: join(folder, 'profile.json'),
      SUPABASE_TELEMETRY_DISABLED: '1',
    },
  })
}

function upload(slug: string): Deployment {
  const deployment = server.deployments.get(slug)
  if (!deployment) throw new Error(`Cannot find function "${slug}" among the uploads`)
  return deployment
}

function entrypoint(slug: string): string {
  return join(folder, 'uploaded', slug, upload(slug).metadata.entrypoint_path)
}

/** Modules are found as by the hosted bundler: through the uploaded deno.json alone. */
function resolution(slug: string): string[] {
  const config = join(folder, 'uploaded', slug, upload(slug).metadata.import_map_path)
  return ['--no-lock', '--node-modules-dir=none', '--config', config]
}

/** The only step that may download, and only npm packages. */
async function cacheModules(slug: string) {
  await execute(deno.binary, ['cache', '--quiet', ...resolution(slug), entrypoint(slug)], {
    env: { ...process.env, ...denoEnvironment(deno) },
  })
}

/**
 * Compressed size of what the server stores: the sources and, as its bundler does not shake trees,
 * all files of each npm package in the module graph.
 */
async function bundle(slug: string): Promise<{ bytes: number; packages: string[] }> {
  const { stdout } = await execute(
    deno.binary,
    ['info', '--json', ...resolution(slug), entrypoint(slug)],
    { env: denoEnvironment(deno), maxBuffer: 2 ** 26 },
  )
  const graph: { npmPackages: Record<string, { name: string; version: string }> } =
    JSON.parse(stdout)
  const packages = Object.values(graph.npmPackages)
  const folders = new Set(packages.map(({ name, version }) => cachedPackage(name, version)))
  const content = Buffer.concat([
    ...upload(slug).files.values(),
    ...[...folders].flatMap(filesBelow).map((path) => readFileSync(path)),
  ])
  const compressed = await promisify(brotliCompress)(content, {
    params: { [constants.BROTLI_PARAM_QUALITY]: 6 },
  })
  return { bytes: compressed.length, packages: packages.map(({ name }) => name) }
}

/** Deno keeps packages as `npm/<registry>/<name>/<version>`. */
function cachedPackage(name: string, version: string): string {
  const registries = readdirSync(join(deno.denoDir, 'npm'))
  const candidates = registries.map((one) => join(deno.denoDir, 'npm', one, name, version))
  const found = candidates.find((path) => existsSync(path))
  if (!found) throw new Error(`Cannot find package "${name}@${version}" in "${deno.denoDir}"`)
  return found
}

function filesBelow(path: string): string[] {
  return readdirSync(path, { recursive: true, withFileTypes: true }).flatMap((entry) =>
    entry.isFile() ? [join(entry.parentPath, entry.name)] : [],
  )
}

/** Serves the default export with the rights of the hosted runtime: no files, processes or libraries. */
async function start(slug: string): Promise<string> {
  const edgeRuntime = 'data:text/javascript,globalThis.EdgeRuntime = { waitUntil() {} }'
  const main = `
    import ${JSON.stringify(edgeRuntime)}
    import worker from ${JSON.stringify(pathToFileURL(entrypoint(slug)).href)}
    const onListen = ({ port }) => console.log('listening on', port)
    Deno.serve({ hostname: '127.0.0.1', port: 0, onListen }, (request) => worker.fetch(request))`
  const rights = ['--no-prompt', '--cached-only', '--allow-env', '--allow-net=127.0.0.1']
  const module = `data:text/javascript,${encodeURIComponent(main)}`
  const child = spawn(deno.binary, ['run', ...rights, ...resolution(slug), module], {
    cwd: dirname(entrypoint(slug)),
    env: { ...denoEnvironment(deno), ...settings },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  let errors = ''
  child.stderr.on('data', (text) => {
    errors += text
  })
  return new Promise((settle, reject) => {
    child.on('close', () => reject(new Error(`Function "${slug}" does not start: ${errors}`)))
    createInterface(child.stdout).on('line', (line) => {
      const port = line.match(/^listening on (\d+)$/)?.[1]
      if (port) settle(`http://127.0.0.1:${port}`)
    })
  })
}
