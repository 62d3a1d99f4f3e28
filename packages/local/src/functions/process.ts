import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import {
  type HostMessage,
  type Setup,
  setupVariable,
  type UnloadReason,
  type WorkerMessage,
} from './protocol.ts'

export interface ProcessOptions {
  /** Executable and arguments. */
  command: [string, ...string[]]
  directory: string
  /** What the function sees. */
  env: Record<string, string>
  /** What only Deno sees. */
  denoEnv: Record<string, string>
  /** CPU time in seconds after which the kernel kills the process, should the host be gone. */
  cpuSeconds: number
  onLine: (line: string) => void
  onMessage: (message: WorkerMessage) => void
}

/** A Deno process that runs the bootstrap and one function. */
export interface WorkerProcess {
  /** 0 when the process could not be started. */
  readonly pid: number
  /** Resolves when the process has ended and its output is read. */
  readonly exited: Promise<Exit>
  unload(reason: UnloadReason): void
  kill(): void
}

export interface Exit {
  /** What was written to stderr, its last lines. */
  errors: string[]
  /** V8 gave up because the heap limit was reached. */
  outOfMemory: boolean
}

const errorsKept = 50
/** Length at which the hosted platform cuts a log line. */
const lineLength = 10_000

export function startProcess(options: ProcessOptions): WorkerProcess {
  const { directory, env } = options
  const setup: Setup = { marker: randomUUID(), visible: Object.keys(env), directory }
  const child = spawn(...limited(options), {
    cwd: directory,
    env: { ...env, ...options.denoEnv, [setupVariable]: JSON.stringify(setup) },
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  const exit: Exit = { errors: [], outOfMemory: false }
  const onLine = (line: string) => options.onLine(line.slice(0, lineLength))
  readLines(child.stdout, (line) => {
    const at = line.indexOf(setup.marker)
    if (at !== 0 && line) onLine(at < 0 ? line : line.slice(0, at))
    if (at >= 0) options.onMessage(JSON.parse(line.slice(at + setup.marker.length)))
  })
  readLines(child.stderr, (line) => {
    // After this line V8 prints a hundred lines of native frames.
    if (exit.outOfMemory) return
    exit.outOfMemory = line.includes('Fatal JavaScript out of memory')
    exit.errors = [...exit.errors, line].slice(-errorsKept)
    onLine(line)
  })
  // A worker that dies while a message is on its way is no error of ours.
  child.stdin.on('error', () => undefined)
  return {
    pid: child.pid ?? 0,
    exited: ended(child, exit),
    unload: (reason) => {
      const message: HostMessage = { unload: reason }
      if (child.stdin.writable) child.stdin.write(`${JSON.stringify(message)}\n`)
    },
    kill: () => child.kill('SIGKILL'),
  }
}

/**
 * The bootstrap ends itself when the host is gone, but cannot while the function is in an endless
 * loop; then the kernel ends it.
 */
function limited({ command, cpuSeconds }: ProcessOptions): [string, string[]] {
  const [binary, ...rest] = command
  if (process.platform === 'win32') return [binary, rest]
  return ['/bin/sh', ['-c', `ulimit -t ${cpuSeconds}; exec "$0" "$@"`, ...command]]
}

function readLines(stream: Readable, onLine: (line: string) => void): void {
  createInterface({ input: stream, crlfDelay: Number.POSITIVE_INFINITY }).on('line', onLine)
}

function ended(child: ChildProcess, exit: Exit): Promise<Exit> {
  return new Promise((resolve) => {
    child.once('close', () => resolve(exit))
    child.once('error', (error) => resolve({ ...exit, errors: [error.message] }))
  })
}
