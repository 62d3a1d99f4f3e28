import { fork } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import postgres from 'postgres'
import { startApi } from '../api.ts'
import { bootstrapDatabase } from '../bootstrap.ts'
import { createKeys } from '../keys.ts'
import { startPostgres } from '../postgres.ts'

export interface RpcThroughput {
  /** Keep-alive connections, each with one call at a time. */
  clients: number
  calls: number
  callsPerSecond: number
  /** Milliseconds. */
  median: number
  p99: number
}

/** What the client process is told. */
interface Load {
  port: number
  key: string
  clients: number
  calls: number
}

const body = '{"a":1,"b":2}'

/**
 * Calls a trivial function through the gateway from 1 and from 16 keep-alive connections. Postgres
 * and the clients are processes of their own, as in use.
 */
export async function benchRpc(calls = 10_000): Promise<RpcThroughput[]> {
  const folder = mkdtempSync(join(tmpdir(), 'supabase-bench-'))
  const server = await startPostgres({ dataDir: join(folder, 'data'), durable: false })
  try {
    await bootstrapDatabase(server.adminUrl)
    const sql = postgres(server.url, { max: 1, onnotice: () => {} })
    await sql`create function public.add(a int, b int) returns int language sql immutable as 'select a + b'`
    await sql.end()
    const keys = createKeys(folder)
    const gateway = await startApi({
      databaseUrl: (user) => server.databaseUrl('postgres', user),
      api: { schemas: ['public'], extraSearchPath: ['public', 'extensions'], maxRows: 1000 },
      keys,
      port: 0,
    })
    const { port } = gateway
    const key = keys.publishableKey
    await runClients({ port, key, clients: 16, calls: 2000 })
    const results = [
      await runClients({ port, key, clients: 1, calls }),
      await runClients({ port, key, clients: 16, calls }),
    ]
    await gateway.stop()
    return results
  } finally {
    await server.stop('immediate')
    rmSync(folder, { recursive: true, force: true })
  }
}

function runClients(load: Load): Promise<RpcThroughput> {
  return new Promise((settle, refuse) => {
    const child = fork(import.meta.filename, { env: { ...process.env, RPC_BENCH_CLIENT: '1' } })
    child.once('message', (result: RpcThroughput) => {
      child.kill()
      settle(result)
    })
    child.once('error', refuse)
    child.once('exit', (code) => refuse(new Error(`the clients ended with exit code ${code}`)))
    child.send(load)
  })
}

/** Raw sockets: a full HTTP client would measure itself. */
async function applyLoad({ port, key, clients, calls }: Load): Promise<RpcThroughput> {
  const message =
    `POST /rest/v1/rpc/add HTTP/1.1\r\nhost: 127.0.0.1:${port}\r\napikey: ${key}\r\n` +
    `content-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`
  const times: number[] = []
  let left = calls
  const client = (): Promise<void> =>
    new Promise((settle, refuse) => {
      const socket = connect(port, '127.0.0.1').setNoDelay(true).setEncoding('latin1')
      let received = ''
      let started = 0
      const next = (): void => {
        if (left-- <= 0) {
          socket.end()
          settle()
          return
        }
        started = performance.now()
        socket.write(message)
      }
      socket.on('connect', next).on('error', refuse)
      socket.on('data', (chunk: string) => {
        received += chunk
        if (!received.endsWith('\r\n\r\n3')) return
        if (!received.startsWith('HTTP/1.1 200 ')) return refuse(new Error(received))
        times.push(performance.now() - started)
        received = ''
        next()
      })
    })
  const started = performance.now()
  await Promise.all(Array.from({ length: clients }, client))
  const seconds = (performance.now() - started) / 1000
  times.sort((a, b) => a - b)
  return {
    clients,
    calls,
    callsPerSecond: Math.round(calls / seconds),
    median: times[Math.floor(times.length * 0.5)] ?? 0,
    p99: times[Math.floor(times.length * 0.99)] ?? 0,
  }
}

if (process.env.RPC_BENCH_CLIENT) {
  process.once('message', async (load: Load) => {
    process.send?.(await applyLoad(load))
  })
}
