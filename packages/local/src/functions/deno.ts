import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import type { FunctionConfig } from '../config.ts'

/** A Deno executable and the directory of its caches. */
export interface Deno {
  binary: string
  denoDir: string
}

/** The Deno that the npm package `deno` brought. */
export function installedDeno(): string {
  const require = createRequire(import.meta.url)
  const directory = dirname(require.resolve('deno/package.json'))
  const binary = join(directory, process.platform === 'win32' ? 'deno.exe' : 'deno')
  if (existsSync(binary)) return binary
  throw new Error(`Cannot find Deno at "${binary}": run "npm rebuild deno"`)
}

/** Variables for Deno itself, the same for `warm` and workers so that both see one cache. */
export function denoEnvironment({ denoDir }: Deno): Record<string, string> {
  return {
    DENO_DIR: denoDir,
    // The hosted bundler does not look into package.json; without this, local runs would.
    DENO_NO_PACKAGE_JSON: '1',
    DENO_NO_UPDATE_CHECK: '1',
    DENO_TLS_CA_STORE: 'system,mozilla',
    NO_COLOR: '1',
    ...pick(process.env, ['HOME', 'NPM_CONFIG_REGISTRY']),
  }
}

function pick(from: NodeJS.ProcessEnv, names: string[]): Record<string, string> {
  return Object.fromEntries(names.flatMap((name) => (from[name] ? [[name, from[name]]] : [])))
}

/** Module resolution as the hosted bundler does it: the function's own config and nothing else. */
function resolution({ denoConfig, importMap }: FunctionConfig): string[] {
  const imports = importMap ? ['--no-config', `--import-map=${importMap}`] : ['--no-config']
  return [
    '--no-lock',
    '--node-modules-dir=none',
    ...(denoConfig ? ['--config', denoConfig] : imports),
  ]
}

const bootstrap = new URL('bootstrap.ts', import.meta.url).href

/**
 * Arguments that run a function with the rights of the hosted runtime: network, its environment,
 * one private directory; no processes, no native code, no prompt. Modules are part of the static
 * graph of the main module and therefore need no read permission.
 */
export function runArguments(
  config: FunctionConfig,
  limits: { directory: string; memoryMb: number },
): string[] {
  const main = [
    `import { serveModule } from ${JSON.stringify(bootstrap)}`,
    `import * as module from ${JSON.stringify(pathToFileURL(config.entrypoint).href)}`,
    'serveModule(module)',
  ].join('\n')
  return [
    'run',
    '--no-prompt',
    '--cached-only',
    ...resolution(config),
    '--allow-net',
    '--allow-env',
    '--allow-sys=hostname',
    `--allow-read=${limits.directory}`,
    `--allow-write=${limits.directory}`,
    `--v8-flags=--max-old-space-size=${limits.memoryMb}`,
    `data:text/javascript,${encodeURIComponent(main)}`,
  ]
}

const run = promisify(execFile)

/**
 * Downloads and compiles all a function needs; the only step that may use a registry. Resolves
 * with Deno's reason where it cannot, with null where it could.
 */
export async function cacheModules(deno: Deno, config: FunctionConfig): Promise<string | null> {
  const command = ['cache', '--quiet', ...resolution(config), bootstrap, config.entrypoint]
  return new Promise((resolve) => {
    const env = { ...process.env, ...denoEnvironment(deno) }
    execFile(deno.binary, command, { env }, (error, _stdout, stderr) => {
      // A backtrace of Deno's own follows the reason after an empty line.
      resolve(error && (stderr.split('\n\n', 1)[0] || error.message))
    })
  })
}

/** The local files a function consists of, its Deno config included. */
export async function moduleFiles(deno: Deno, config: FunctionConfig): Promise<string[]> {
  const { stdout } = await run(
    deno.binary,
    ['info', '--json', ...resolution(config), config.entrypoint],
    { env: denoEnvironment(deno), maxBuffer: 2 ** 28 },
  )
  const graph: { modules: { local?: string; specifier: string }[] } = JSON.parse(stdout)
  const files = graph.modules.flatMap(({ local, specifier }) =>
    local && specifier.startsWith('file:') ? [local] : [],
  )
  return [...files, config.denoConfig, config.importMap].filter((path) => path !== null)
}
