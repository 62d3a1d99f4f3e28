import { isStale, isTransient } from '../errors.ts'
import type { Lease } from '../rpc.ts'
import { runTask, type TickContext } from './tick.ts'

export interface WorkerOptions extends Omit<TickContext, 'signal'> {
  /** Name in `tasks.worker`; only for people, the fence is what counts. */
  name: string
  queues: string[]
  concurrency: number
  /** How often to look without being told, ms. */
  pollMs: number
  /** Stop claiming after this many ms and give running tasks back at their next checkpoint; null = never. */
  budgetMs: number | null
  /** Stops at once: model calls are aborted and leases given back. */
  signal: AbortSignal
  /** True also runs the sweep, at most every 10 s: for databases whose pg_cron is missing or stuck. */
  sweeps: boolean
  log: (event: WorkerEvent) => void
}

export type WorkerEvent =
  | { event: 'claimed'; task: number; agent: string; attempt: number }
  | { event: 'left'; task: number; status: string; ms: number }
  | { event: 'lost'; task: number }
  | { event: 'error'; task: number | null; message: string }

/** A worker loop that is running. */
export interface Worker {
  /** Look now: a doorbell rang. False when this worker claims no more, so that another must be started. */
  wake(): boolean
  /** Resolves when the loop has ended and every lease is committed or given back. */
  done: Promise<void>
}

interface Running {
  lease: Lease
  abort: AbortController
  finished: Promise<void>
}

/**
 * Claims and drives tasks until the budget or the signal ends it. The same loop runs in Edge Functions
 * and on hosts; it is woken from outside and looks by itself every `pollMs`.
 */
export function startWorker(options: WorkerOptions): Worker {
  const bell = createBell()
  const endsAt = options.budgetMs === null ? Infinity : options.now() + options.budgetMs
  const loop: Loop = { bell, endsAt, running: new Map(), claiming: true, sweepAt: 0 }
  const done = work(options, loop)
  return {
    wake() {
      bell.ring()
      return loop.claiming
    },
    done,
  }
}

interface Loop {
  bell: Bell
  endsAt: number
  running: Map<number, Running>
  claiming: boolean
  sweepAt: number
}

async function work(options: WorkerOptions, loop: Loop): Promise<void> {
  const heartbeat = setInterval(() => void beat(options, loop), (options.leaseSeconds * 1000) / 3)
  const stop = (): void => loop.bell.ring()
  options.signal.addEventListener('abort', stop)
  try {
    while (!options.signal.aborted && options.now() < loop.endsAt) {
      const claimed = await look(options, loop)
      if (claimed === 0 || loop.running.size >= options.concurrency) {
        await loop.bell.wait(Math.min(options.pollMs, loop.endsAt - options.now()))
      }
    }
  } finally {
    loop.claiming = false
    options.signal.removeEventListener('abort', stop)
    await leave(options, loop)
    clearInterval(heartbeat)
  }
}

/** Claims into the free slots; returns how many tasks came. Trouble is logged and met again at the next look. */
async function look(options: WorkerOptions, loop: Loop): Promise<number> {
  const free = options.concurrency - loop.running.size
  if (free <= 0) return 0
  try {
    await sweepIfDue(options, loop)
    const leases = await options.database.claim({
      worker: options.name,
      queues: options.queues,
      tasks: free,
      leaseSeconds: options.leaseSeconds,
    })
    for (const lease of leases) start(options, loop, lease)
    return leases.length
  } catch (error) {
    options.log({ event: 'error', task: null, message: describe(error) })
    return 0
  }
}

async function sweepIfDue(options: WorkerOptions, loop: Loop): Promise<void> {
  if (!options.sweeps || options.now() < loop.sweepAt) return
  loop.sweepAt = options.now() + 10_000
  await options.database.sweep()
}

function start(options: WorkerOptions, loop: Loop, lease: Lease): void {
  const abort = new AbortController()
  options.log({ event: 'claimed', task: lease.taskId, agent: lease.agent, attempt: lease.attempt })
  const finished = drive(options, loop, { lease, abort }).finally(() => {
    loop.running.delete(lease.fence)
    loop.bell.ring()
  })
  loop.running.set(lease.fence, { lease, abort, finished })
}

async function drive(
  options: WorkerOptions,
  loop: Loop,
  { lease, abort }: { lease: Lease; abort: AbortController },
): Promise<void> {
  const started = options.now()
  try {
    const status = await runTask(
      lease,
      { ...options, signal: abort.signal },
      () => options.now() < loop.endsAt && !options.signal.aborted,
    )
    options.log({
      event: 'left',
      task: lease.taskId,
      status,
      ms: Math.round(options.now() - started),
    })
  } catch (error) {
    if (isStale(error)) return options.log({ event: 'lost', task: lease.taskId })
    options.log({ event: 'error', task: lease.taskId, message: describe(error) })
    await giveUp(options, { lease, error, interrupted: abort.signal.aborted })
  }
}

/**
 * A fault of the machinery or an interruption gives the task back and burns no attempt; a defect
 * (an answer we cannot read, a bug) ends the attempt, so that it cannot circle. Where even that call
 * fails, the lease runs out and the sweep rescues the task.
 */
async function giveUp(
  { database }: WorkerOptions,
  { lease, error, interrupted }: { lease: Lease; error: unknown; interrupted: boolean },
): Promise<void> {
  const call =
    interrupted || isTransient(error)
      ? database.release(lease)
      : database.fail(lease, 'internal', { message: describe(error).slice(0, 2000) })
  await call.catch(() => {})
}

/** Extends the leases; a task whose lease is gone belongs to somebody else and is dropped at once. */
async function beat(options: WorkerOptions, loop: Loop): Promise<void> {
  const all = [...loop.running.values()]
  if (all.length === 0) return
  try {
    const held = await options.database.heartbeat(
      all.map(({ lease }) => lease),
      options.leaseSeconds,
    )
    for (const { lease, abort } of all) {
      if (!held.includes(lease)) abort.abort(new Error('lease lost'))
    }
  } catch (error) {
    options.log({ event: 'error', task: null, message: describe(error) })
  }
}

/** On a signal, aborts what runs; otherwise lets it reach its checkpoint. */
async function leave(options: WorkerOptions, loop: Loop): Promise<void> {
  const abortAll = (): void => {
    for (const { abort } of loop.running.values()) abort.abort(new Error('worker stops'))
  }
  if (options.signal.aborted) abortAll()
  else options.signal.addEventListener('abort', abortAll, { once: true })
  await Promise.all([...loop.running.values()].map(({ finished }) => finished))
}

interface Bell {
  ring(): void
  /** Resolves at the next ring (also one that came before), or after this many ms. */
  wait(ms: number): Promise<void>
}

function createBell(): Bell {
  let rung = false
  let awake: (() => void) | null = null
  return {
    ring() {
      rung = true
      awake?.()
    },
    async wait(ms) {
      if (!rung && ms > 0) {
        await new Promise<void>((settle) => {
          const timer = setTimeout(settle, ms)
          awake = () => {
            clearTimeout(timer)
            settle()
          }
        })
      }
      awake = null
      rung = false
    },
  }
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
