// The way in for every npm script. Plain JavaScript for Node 20 and later, without dependencies: it
// installs what is missing, then hands over to the pinned Node 24, which runs TypeScript as it is.
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const bin = join(root, 'node_modules/.bin')
const entry = {
  start: ['apps/cli/src/main.ts', 'start'],
  demo: ['apps/cli/src/main.ts', 'demo'],
  nightshift: ['apps/cli/src/main.ts'],
  test: ['scripts/test.ts'],
  bench: ['scripts/bench.ts'],
  prove: ['scripts/prove.ts'],
}

const [command, ...args] = process.argv.slice(2)
const target = Object.hasOwn(entry, command ?? '') ? entry[command] : undefined
if (!target) {
  console.error(`Unknown command "${command}", known: ${Object.keys(entry).join(', ')}`)
  process.exit(2)
}
install()
handOver([...target, ...args])

/** npm writes a copy of the lock file into node_modules; where it differs, something is missing. */
function install() {
  if (isInstalled()) return
  console.error(
    'Installing dependencies (install scripts of node, deno and Postgres are allowed: they place binaries)',
  )
  const npm = process.env.npm_execpath
  const result = npm?.endsWith('.js')
    ? spawnSync(process.execPath, [npm, 'ci'], { cwd: root, stdio: ['ignore', 2, 2] })
    : spawnSync('npm', ['ci'], {
        cwd: root,
        stdio: ['ignore', 2, 2],
        shell: process.platform === 'win32',
      })
  if (result.status !== 0 || !isInstalled()) {
    console.error('Installation failed: run "npm ci" and read its messages')
    process.exit(result.status || 1)
  }
  spawnSync(process.execPath, [join(root, 'scripts/warm.mjs')], { stdio: ['ignore', 2, 2] })
}

function isInstalled() {
  const installed = join(root, 'node_modules/.package-lock.json')
  if (!existsSync(installed) || !existsSync(join(bin, 'node'))) return false
  const want = packages(join(root, 'package-lock.json'))
  const have = packages(installed)
  return Object.entries(want).every(
    ([path, { version, link, optional }]) =>
      path === '' ||
      link ||
      optional ||
      !path.includes('node_modules') ||
      have[path]?.version === version,
  )
}

function packages(file) {
  return JSON.parse(readFileSync(file, 'utf8')).packages
}

function handOver(command) {
  const [file, ...rest] = command
  const child = spawn(join(bin, 'node'), [join(root, file), ...rest], {
    stdio: 'inherit',
    env: {
      ...process.env,
      PATH: `${bin}${delimiter}${process.env.PATH ?? ''}`,
      TURBO_TELEMETRY_DISABLED: '1',
    },
  })
  // Ctrl-C reaches the child by itself; it decides how to end, and this process waits for it.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.on(signal, () => signal !== 'SIGINT' && child.kill(signal))
  }
  stopWithNpm(child)
  child.on('exit', (code, signal) => process.exit(signal ? 130 : (code ?? 1)))
}

/**
 * At SIGTERM npm ends the shell between itself and this process, and tells nobody else. Said once: to
 * the child a second signal means "at once".
 */
function stopWithNpm(child) {
  if (!process.env.npm_execpath) return
  const parent = process.ppid
  const watch = setInterval(() => {
    if (process.ppid === parent) return
    clearInterval(watch)
    child.kill('SIGTERM')
  }, 250)
  watch.unref()
}
