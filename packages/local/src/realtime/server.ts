import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import postgres from 'postgres'
import { type WebSocket, WebSocketServer } from 'ws'
import type { Faults } from '../faults.ts'
import { createAuthorizer } from './authorization.ts'
import type { Services } from './channel.ts'
import { RealtimeError } from './errors.ts'
import { type Address, Hub } from './hub.ts'
import { followMessages } from './messages.ts'
import type { Broadcast, ProtocolVersion } from './protocol.ts'
import { handleBroadcast } from './rest.ts'
import { serveSocket } from './socket.ts'
import { claimsOf, type TokenChecks } from './tokens.ts'

export interface RealtimeOptions extends TokenChecks {
  /** Connection string of the superuser, who may take on any caller's role. */
  adminUrl: string
  /** `faults.realtime` acts on broadcasts from the database, message by message. */
  faults: Faults
  log?: (line: string) => void
}

/** A running Realtime server without a port: the gateway hands it requests. */
export interface Realtime {
  /** Takes over an upgrade of `/realtime/v1/websocket`; refuses a bad key with 401 and JSON. */
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void
  /** Serves the broadcast endpoints under `/realtime/v1/api`. */
  handle(request: Request): Promise<Response>
  /** Open sockets. */
  connections(): number
  stop(): Promise<void>
}

const socketPath = '/realtime/v1/websocket'
const largestFrame = 5_000_000
const serviceRestart = 1012
const closeWaitMs = 500

/**
 * Starts broadcasts over sockets, REST and from the database. Fails when the database cannot be
 * reached or 60_realtime.sql has not run there.
 */
export async function startRealtime(options: RealtimeOptions): Promise<Realtime> {
  const { adminUrl, faults, log = () => {} } = options
  const sql = postgres(adminUrl, { max: 4, idle_timeout: 20, onnotice: () => {} })
  const hub = new Hub()
  const deliver = (address: Address, broadcast: Broadcast): void => {
    if (Math.random() < faults.realtime.loss) return
    const { delayMs } = faults.realtime
    if (delayMs > 0) setTimeout(() => hub.publish(address, broadcast), delayMs).unref()
    else hub.publish(address, broadcast)
  }
  const feed = await followMessages({ sql, deliver, log }).catch(async (cause) => {
    await sql.end({ timeout: 1 })
    throw cause
  })
  const authorizer = createAuthorizer(sql, log)
  const services = { hub, authorizer, tokens: options, log }
  const sockets = new WebSocketServer({ noServer: true, maxPayload: largestFrame })
  return {
    upgrade: (request, socket, head) => {
      socket.on('error', (cause) => log(`socket failed: ${cause.message}`))
      accept(request, services).then(
        (connection) =>
          sockets.handleUpgrade(request, socket, head, (webSocket) =>
            serveSocket(webSocket, connection, services),
          ),
        (cause) => refuse(socket, cause, log),
      )
    },
    handle: (request) => handleBroadcast(request, services),
    connections: () => sockets.clients.size,
    stop: async () => {
      await closeAll(sockets)
      await feed.stop().catch(() => {})
      await sql.end({ timeout: 1 })
    },
  }
}

/** Reads and checks an upgrade request. Throws RealtimeError. */
async function accept(
  request: IncomingMessage,
  services: Services,
): Promise<{ version: ProtocolVersion; token: string; headers: Record<string, string> }> {
  const url = new URL(request.url ?? '/', 'http://localhost')
  if (url.pathname !== socketPath) throw new RealtimeError('NotFound', 'not found')
  const version = url.searchParams.get('vsn') ?? '1.0.0'
  if (version !== '1.0.0' && version !== '2.0.0') {
    throw new RealtimeError('UnsupportedVersion', `protocol version "${version}" is not supported`)
  }
  const headers = extensionHeaders(request)
  const token = headers['x-api-key'] ?? url.searchParams.get('apikey')
  if (!token) throw new RealtimeError('MissingAPIKey', 'API key is missing')
  await claimsOf(token, services.tokens)
  return { version, token, headers }
}

/** Policies on a socket see the headers that begin with `x-`, as on the hosted server. */
function extensionHeaders(request: IncomingMessage): Record<string, string> {
  const pairs = Object.entries(request.headers).filter(([name]) => name.startsWith('x-'))
  return Object.fromEntries(pairs.map(([name, value]) => [name, String(value)]))
}

const refusalStatus: Record<string, string> = {
  NotFound: '404 Not Found',
  UnsupportedVersion: '403 Forbidden',
}

function refuse(socket: Duplex, cause: unknown, log: (line: string) => void): void {
  log(cause instanceof RealtimeError ? cause.reason : `ErrorConnectingToWebsocket: ${cause}`)
  const [status, error] =
    cause instanceof RealtimeError
      ? [refusalStatus[cause.code] ?? '401 Unauthorized', cause.message]
      : ['500 Internal Server Error', 'Error connecting to Realtime']
  const body = JSON.stringify({ error })
  socket.end(
    `HTTP/1.1 ${status}\r\ncontent-type: application/json\r\n` +
      `content-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
  )
}

/** Tells the clients to come back (they reconnect on 1012), then cuts whoever has not hung up. */
async function closeAll(sockets: WebSocketServer): Promise<void> {
  const closed = [...sockets.clients].map(async (socket: WebSocket) => {
    const gone = new Promise<void>((settle) => socket.once('close', () => settle()))
    socket.close(serviceRestart)
    await Promise.race([gone, delay(closeWaitMs, undefined, { ref: false })])
    socket.terminate()
  })
  await Promise.all(closed)
}
