import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { FunctionConfig } from '../config.ts'
import { type Deno, denoEnvironment, runArguments } from './deno.ts'
import { failure } from './errors.ts'
import { forward, ResponseTimeout, Undelivered } from './forward.ts'
import type { Limits } from './limits.ts'
import { type Exit, startProcess, type WorkerProcess } from './process.ts'
import type { UnloadReason, WorkerMessage } from './protocol.ts'
import { supervise } from './supervise.ts'

export interface WorkerOptions {
  config: FunctionConfig
  deno: Deno
  /** What the function sees. */
  env: Record<string, string>
  limits: Limits
  /** Receives the output of the function line by line. */
  log: (line: string) => void
}

const handlerHint = 'add "export default { fetch }" or call "Deno.serve"'

/** The function did not come up; `missingModules` if only because `warm` has not seen it yet. */
export class BootError extends Error {
  override name = 'BootError'
  readonly missingModules: boolean

  constructor(reason: string, missingModules = false) {
    super(reason)
    this.missingModules = missingModules
  }
}

/**
 * One function in one Deno process, from boot to exit: booting -> serving -> retired (no new
 * requests) -> exited. A worker may be ended in any of these states.
 */
export class Worker {
  readonly slug: string
  readonly startedAt = new Date()
  /** Resolves when the function listens; rejects with `BootError`. */
  readonly booted: Promise<void>
  readonly exited: Promise<Exit>

  readonly #options: WorkerOptions
  readonly #directory = mkdtempSync(join(tmpdir(), 'function-'))
  readonly #process: WorkerProcess
  readonly #ready = deferred<void>()
  readonly #unloaded = deferred<boolean>()
  #bareMb = 0
  #exceeded = false
  #idleTimer: NodeJS.Timeout | undefined
  #open = 0
  #pending = 0
  #port = 0
  #requests = 0
  #retired = false
  #told = false
  #unsupervise = () => {}

  constructor(options: WorkerOptions) {
    const { config, deno, env, limits } = options
    this.slug = config.slug
    this.#options = options
    this.#process = startProcess({
      command: [
        deno.binary,
        ...runArguments(config, { directory: this.#directory, memoryMb: limits.memoryMb }),
      ],
      directory: this.#directory,
      env: {
        ...env,
        SB_EXECUTION_ID: randomUUID(),
        SUPABASE_FUNCTION_SLUG: config.slug,
        TMPDIR: this.#directory,
      },
      denoEnv: denoEnvironment(deno),
      cpuSeconds: Math.ceil((limits.bootMs + limits.wallClockMs) / 1000),
      onLine: options.log,
      onMessage: (message) => this.#receive(message),
    })
    this.exited = this.#process.exited.finally(() => this.#cleanUp())
    this.booted = this.#boot()
    // Whoever waits for it gets the error too.
    this.booted.catch(() => undefined)
  }

  get pid(): number {
    return this.#process.pid
  }

  /** Requests given to it so far. */
  get requests(): number {
    return this.#requests
  }

  get retired(): boolean {
    return this.#retired
  }

  /**
   * Passes a request to the function at `path`, once it has booted; answers in its place where it
   * cannot. Rejects with `BootError` or `Undelivered`, both without having touched the request.
   */
  async handle(request: Request, path: string): Promise<Response> {
    const { responseMs } = this.#options.limits
    this.#requests++
    this.#open++
    this.#settle()
    const onEnd = () => {
      this.#open--
      this.#settle()
    }
    await this.booted.catch((error) => {
      onEnd()
      throw error
    })
    try {
      const target = { port: this.#port, path, responseMs, onEnd }
      return await forward(request, target)
    } catch (error) {
      if (error instanceof Undelivered) throw error
      if (error instanceof ResponseTimeout) return timedOut(responseMs)
      return failure((await this.#starved()) ? 'WORKER_LIMIT' : 'WORKER_ERROR')
    }
  }

  /** No new requests; ends as soon as nothing is open any more. */
  retire(): void {
    if (this.#retired) return
    this.#retired = true
    this.#settle()
  }

  /** Ends the worker after `beforeunload` and, if the function listens to it, a time of grace. */
  async stop(reason: UnloadReason): Promise<void> {
    const { graceMs } = this.#options.limits
    this.#retired = true
    this.#unload(reason)
    const grace = delay(graceMs, undefined, { ref: false })
    const heard = await Promise.race([this.#unloaded.promise, grace, this.exited])
    if (heard === true) await Promise.race([grace, this.exited])
    this.#process.kill()
    await this.exited
  }

  async #boot(): Promise<void> {
    const { limits } = this.#options
    const timer = setTimeout(() => {
      this.#options.log(`No handler within ${limits.bootMs} ms: ${handlerHint}`)
      this.#process.kill()
    }, limits.bootMs)
    const exited = this.exited.then(({ errors }) => {
      const missing = errors.some((line) => line.includes('--cached-only is specified'))
      throw new BootError('The worker exited before it could serve', missing)
    })
    await Promise.race([this.#ready.promise, exited]).finally(() => clearTimeout(timer))
    this.#unsupervise = supervise(
      {
        pid: this.pid,
        bareMb: this.#bareMb,
        retire: () => this.retire(),
        unload: (reason) => this.#unload(reason),
        exceed: (limit) => this.#exceed(limit),
      },
      limits,
    )
    this.#settle()
  }

  #receive(message: WorkerMessage): void {
    switch (message.type) {
      case 'booting':
        this.#bareMb = message.residentMb
        break
      case 'ready':
        this.#port = message.port
        this.#ready.resolve()
        break
      case 'pending':
        this.#pending = message.count
        this.#settle()
        break
      case 'unloaded':
        this.#unloaded.resolve(message.heard)
    }
  }

  /** Once nothing is open, drops the worker: at once when retired, else after the idle time. */
  #settle(): void {
    clearTimeout(this.#idleTimer)
    if (this.#open > 0 || this.#pending > 0 || this.#port === 0) return
    const drop = () => void this.stop('early_drop')
    if (this.#retired) drop()
    else this.#idleTimer = setTimeout(drop, this.#options.limits.idleMs)
  }

  #unload(reason: UnloadReason): void {
    if (this.#told) return
    this.#told = true
    this.#process.unload(reason)
  }

  #exceed(limit: string): void {
    this.#exceeded = true
    this.#retired = true
    this.#options.log(`Worker killed: it has used its ${limit}`)
    this.#process.kill()
  }

  /** Whether the worker ended for want of resources, known only once it has ended. */
  async #starved(): Promise<boolean> {
    const exit = await Promise.race([this.exited, delay(1_000, undefined, { ref: false })])
    return this.#exceeded || exit?.outOfMemory === true
  }

  #cleanUp(): void {
    this.#retired = true
    clearTimeout(this.#idleTimer)
    this.#unsupervise()
    rmSync(this.#directory, { recursive: true, force: true })
  }
}

function timedOut(responseMs: number): Response {
  return failure('IDLE_TIMEOUT', `Request idle timeout limit (${responseMs / 1000}s) reached`)
}

/** A promise and the function that resolves it. */
function deferred<Value>(): { promise: Promise<Value>; resolve: (value: Value) => void } {
  let resolve: (value: Value) => void = () => undefined
  const promise = new Promise<Value>((settle) => {
    resolve = settle
  })
  return { promise, resolve }
}
