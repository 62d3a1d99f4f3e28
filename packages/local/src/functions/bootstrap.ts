/**
 * Runs inside each worker, under Deno, before the function's module: turns plain Deno into what
 * the hosted edge runtime offers. Everything here happens synchronously while this module is
 * evaluated, because the function's module is its sibling in the graph and would not wait.
 */
import { failure } from './errors.ts'
import { type HostMessage, type Setup, setupVariable, type WorkerMessage } from './protocol.ts'

type Handler = (request: Request, info: unknown) => Response | Promise<Response>
type ErrorHandler = (error: unknown) => Response | Promise<Response>

interface ServeOptions {
  handler?: Handler
  hostname?: string
  onError?: ErrorHandler
  onListen?: (address: { hostname: string; port: number }) => void
  port?: number
}

/** The part of Deno used here. */
declare const Deno: {
  addSignalListener: unknown
  env: {
    delete(name: string): void
    get(name: string): string | undefined
    toObject(): Record<string, string>
  }
  exit: (code?: number) => void
  kill: unknown
  memoryUsage(): { rss: number }
  removeSignalListener: unknown
  removeSync: (path: string, options: { recursive: boolean }) => void
  serve: (first: ServeOptions | Handler, second?: Handler) => unknown
  stdin: { readable: ReadableStream<Uint8Array> }
  stdout: { writeSync(bytes: Uint8Array): number }
}

const runtime = { exit: Deno.exit, remove: Deno.removeSync, serve: Deno.serve }
const setup = takeSetup()
let handler: Handler | null = null
let onError: ErrorHandler | null = null
let pending = 0
let hears = false

restrictRuntime()
tell({ type: 'booting', residentMb: Deno.memoryUsage().rss / 2 ** 20 })
listenToHost()

/** Serves what the function's module exports, unless it has called `Deno.serve` itself. */
export function serveModule(module: { default?: unknown }): void {
  const exported = module.default
  if (handler || typeof exported !== 'object' || exported === null || !('fetch' in exported)) return
  const { fetch } = exported
  if (typeof fetch !== 'function')
    throw new TypeError('"fetch" of the default export -> a function')
  open((request, info) => fetch.call(exported, request, info))
}

/** Reads the setup and hides from the function what is the host's and Deno's own. */
function takeSetup(): Setup {
  const setup: Setup = JSON.parse(Deno.env.get(setupVariable) ?? '')
  for (const name of Object.keys(Deno.env.toObject())) {
    if (!setup.visible.includes(name)) Deno.env.delete(name)
  }
  return setup
}

function restrictRuntime(): void {
  const nothing = () => undefined
  Object.assign(Deno, {
    addSignalListener: nothing,
    exit: nothing,
    kill: nothing,
    removeSignalListener: nothing,
    serve,
  })
  Reflect.deleteProperty(globalThis, 'Worker')
  Object.assign(globalThis, { EdgeRuntime: { waitUntil }, addEventListener: hearing() })
}

/** Stands in for `Deno.serve`: address and port are the host's business. */
function serve(first: ServeOptions | Handler, second?: Handler): unknown {
  const options = typeof first === 'function' ? { handler: first } : first
  const given = second ?? options.handler
  if (!given) throw new TypeError('A handler function must be provided.')
  onError = options.onError ?? null
  const addr = { transport: 'tcp', hostname: '0.0.0.0', port: 9999 }
  options.onListen?.(addr)
  open(given)
  const finished = new Promise<void>(() => undefined)
  const shutdown = async () => undefined
  const nothing = () => undefined
  return { addr, finished, shutdown, ref: nothing, unref: nothing, [Symbol.asyncDispose]: shutdown }
}

function open(given: Handler): void {
  const listening = handler !== null
  handler = given
  if (listening) return
  runtime.serve(
    {
      hostname: '127.0.0.1',
      port: 0,
      onListen: ({ port }) => tell({ type: 'ready', port }),
      onError: recover,
    },
    (request, info) => (handler ?? given)(request, info),
  )
}

function recover(error: unknown): Response | Promise<Response> {
  if (onError) return onError(error)
  console.error(error)
  return failure('WORKER_ERROR')
}

/** Keeps the worker alive until the promise settles. A rejection stays unhandled and ends it. */
function waitUntil<Value>(promise: Promise<Value>): Promise<Value> {
  tell({ type: 'pending', count: ++pending })
  void Promise.resolve(promise).finally(() => tell({ type: 'pending', count: --pending }))
  return promise
}

/** `addEventListener` that remembers whether anybody wants to hear `beforeunload`. */
function hearing(): typeof globalThis.addEventListener {
  const add = globalThis.addEventListener
  return (type: string, ...rest: [EventListenerOrEventListenerObject]) => {
    if (type === 'beforeunload') hears = true
    add(type, ...rest)
  }
}

async function listenToHost(): Promise<void> {
  const decoder = new TextDecoder()
  let rest = ''
  for await (const bytes of Deno.stdin.readable) {
    const lines = (rest + decoder.decode(bytes, { stream: true })).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) unload(JSON.parse(line))
  }
  // The host is gone, whatever the way it ended.
  runtime.remove(setup.directory, { recursive: true })
  runtime.exit(0)
}

function unload({ unload: reason }: HostMessage): void {
  dispatchEvent(new CustomEvent('beforeunload', { cancelable: true, detail: { reason } }))
  const heard = hears || typeof Reflect.get(globalThis, 'onbeforeunload') === 'function'
  tell({ type: 'unloaded', heard })
}

function tell(message: WorkerMessage): void {
  Deno.stdout.writeSync(new TextEncoder().encode(`${setup.marker}${JSON.stringify(message)}\n`))
}
