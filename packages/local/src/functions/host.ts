import type { FunctionConfig, ProjectConfig } from '../config.ts'
import { cacheModules, type Deno, installedDeno, moduleFiles } from './deno.ts'
import { failure, functionNotFound } from './errors.ts'
import { Undelivered } from './forward.ts'
import { hostedLimits, type Limits } from './limits.ts'
import { watchFiles } from './watch.ts'
import { BootError, Worker } from './worker.ts'

export interface FunctionsOptions {
  /** What `readConfig` found: the functions, their secrets and the worker policy. */
  config: ProjectConfig
  /** Given to every function, beside the secrets of the configuration. */
  env: Record<string, string>
  /** Checks a request to a function with `verify_jwt`; null lets it pass. */
  authorize: (request: Request) => Promise<Response | null>
  /** Where Deno keeps downloaded and compiled modules. */
  denoDir: string
  /** Deno executable; the one of the npm package `deno` when absent. */
  denoBinary?: string
  /** Deviations from the limits of the hosted free plan. */
  limits?: Partial<Limits>
  /** Receives each line the functions write, as `[slug] line`. */
  log?: (line: string) => void
}

export interface WorkerInfo {
  slug: string
  pid: number
  startedAt: Date
  /** Requests it was given so far. */
  requests: number
  /** It finishes what it has begun and gets no new requests. */
  retired: boolean
}

export interface FunctionsHost {
  /** Answers a request to a function, which sees the path `/<slug>/…`; rejects only if `authorize` does. */
  handle(slug: string, request: Request): Promise<Response>
  /** Has the next request start anew, for one function or for all. */
  reload(slug?: string): void
  /** Downloads and compiles the modules of every function, so that all else works offline. */
  warm(): Promise<void>
  /** The living workers. */
  workers(): WorkerInfo[]
  /** Ends all workers, after `beforeunload` with reason `termination`. */
  stop(): Promise<void>
}

/** Serves a project's Edge Functions, each in Deno processes of its own, begun at first use. */
export function startFunctions(options: FunctionsOptions): FunctionsHost {
  const { config, env, authorize, log = () => undefined } = options
  const deno = { binary: options.denoBinary ?? installedDeno(), denoDir: options.denoDir }
  const limits = { ...hostedLimits, ...options.limits }
  const oneshot = config.edgeRuntime.policy === 'oneshot'
  const workers = new Set<Worker>()
  const caching = new Map<string, Promise<string | null>>()
  const watch = hotReload(deno)
  let stopped = false

  function start(target: FunctionConfig): Worker {
    const { slug } = target
    const secrets = { ...config.edgeRuntime.secrets, ...target.env }
    const worker = new Worker({
      config: target,
      deno,
      env: { ...env, ...withoutReserved(secrets) },
      limits,
      log: (line) => log(`[${slug}] ${line}`),
    })
    workers.add(worker)
    void worker.exited.then(() => workers.delete(worker))
    if (!oneshot) watch(worker, target)
    return worker
  }

  function take(target: FunctionConfig): Worker {
    for (const worker of workers) {
      if (worker.slug === target.slug && !worker.retired) return worker
    }
    return start(target)
  }

  async function serve(target: FunctionConfig, request: Request): Promise<Response> {
    const path = workerPath(request)
    for (let again = false; ; again = true) {
      const worker = take(target)
      const response = worker.handle(request, path)
      if (oneshot) worker.retire()
      try {
        return await response
      } catch (error) {
        worker.retire()
        if (!again && (await curable(error, target))) continue
        return failure(error instanceof BootError ? 'BOOT_ERROR' : 'WORKER_ERROR')
      }
    }
  }

  /** Whether a second try may do: the worker had just died, or its modules are cached now. */
  async function curable(error: unknown, target: FunctionConfig): Promise<boolean> {
    if (error instanceof Undelivered) return true
    return error instanceof BootError && error.missingModules && (await cache(target))
  }

  /** Once at a time for each function; false where it failed. */
  async function cache(target: FunctionConfig): Promise<boolean> {
    const { slug } = target
    const running = caching.get(slug) ?? cacheModules(deno, target)
    caching.set(slug, running)
    const failed = await running
    caching.delete(slug)
    if (failed !== null) log(`[${slug}] Cannot cache modules: ${failed}`)
    return failed === null
  }

  return {
    async handle(slug, request) {
      const target = config.functions.get(slug)
      if (!target?.enabled || stopped) return functionNotFound()
      if (target.verifyJwt && request.method !== 'OPTIONS') {
        const refusal = await authorize(request)
        if (refusal) return refusal
      }
      return serve(target, request)
    },
    reload(slug) {
      for (const worker of workers) if (!slug || worker.slug === slug) worker.retire()
    },
    async warm() {
      for (const target of config.functions.values()) if (target.enabled) await cache(target)
    },
    workers: () =>
      [...workers].map(({ slug, pid, startedAt, requests, retired }) => ({
        slug,
        pid,
        startedAt,
        requests,
        retired,
      })),
    async stop() {
      stopped = true
      await Promise.all([...workers].map((worker) => worker.stop('termination')))
    },
  }
}

/** Retires each watched worker as soon as a file of its function changes. */
function hotReload(deno: Deno): (worker: Worker, target: FunctionConfig) => void {
  const graphs = new Map<string, Promise<string[]>>()
  return async (worker, target) => {
    const { slug } = target
    if (
      !(await worker.booted.then(
        () => true,
        () => false,
      ))
    )
      return
    const graph = graphs.get(slug) ?? moduleFiles(deno, target).catch(() => [target.entrypoint])
    graphs.set(slug, graph)
    const close = watchFiles(await graph, worker.startedAt, () => {
      graphs.delete(slug)
      worker.retire()
    })
    void worker.exited.then(close)
  }
}

/** The platform reserves names that begin with SUPABASE_. */
function withoutReserved(secrets: Record<string, string>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(secrets).filter(([name]) => !name.startsWith('SUPABASE_')),
  )
}

/** Functions see `/<slug>/…`: the gateway's prefix is cut off before them. */
function workerPath(request: Request): string {
  const { pathname, search } = new URL(request.url)
  return pathname.replace(/^\/functions\/v1(?=\/)/, '') + search
}
