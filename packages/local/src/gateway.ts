import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import type { Access } from './access.ts'
import type { Rpc } from './rest/rpc.ts'
import type { Tables } from './rest/tables.ts'
import { sendJson, sendResponse, toRequest } from './web.ts'

export interface GatewayOptions {
  /** TCP port on 127.0.0.1; a free one when 0. */
  port: number
  access: Access
  rpc: Rpc
  tables: Tables
  auth: { handle(request: Request): Promise<Response> }
  realtime?: {
    handle(request: Request): Promise<Response>
    upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void
  }
  functions?: { handle(slug: string, request: Request): Promise<Response> }
  log?: (line: string) => void
}

export interface Gateway {
  port: number
  /** `http://127.0.0.1:<port>` */
  url: string
  stop(): Promise<void>
}

/** The one HTTP door of the stack, as Kong is in front of the hosted services. */
export async function startGateway(options: GatewayOptions): Promise<Gateway> {
  const { access, realtime, log = () => {} } = options
  const server = createServer({ keepAliveTimeout: 65_000 }, (request, response) => {
    route(request, response, options).catch((cause) => {
      log(
        `gateway: ${request.method} ${request.url}: ${cause instanceof Error ? cause.stack : cause}`,
      )
      if (response.headersSent) response.destroy()
      else sendJson(response, { status: 500, body: { message: 'An unexpected error occurred' } })
    })
  })
  server.on('upgrade', (request, socket, head) => {
    socket.on('error', () => socket.destroy())
    if (!realtime || !request.url?.startsWith('/realtime/v1/')) return socket.destroy()
    const refusal = access.refuse(request, urlOf(request))
    if (!refusal) return realtime.upgrade(request, socket, head)
    const body = JSON.stringify(refusal.body)
    socket.end(
      `HTTP/1.1 401 Unauthorized\r\ncontent-type: application/json\r\n` +
        `content-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
    )
  })
  await new Promise<void>((settle, refuse) => {
    server.once('error', refuse)
    server.listen(options.port, '127.0.0.1', settle)
  })
  const address = server.address()
  const port = typeof address === 'object' && address ? address.port : options.port
  return {
    port,
    url: `http://127.0.0.1:${port}`,
    async stop() {
      // Not to be waited for: it ends with the last WebSocket, and those are Realtime's to close.
      server.close()
      server.closeAllConnections()
    },
  }
}

async function route(
  request: IncomingMessage,
  response: ServerResponse,
  options: GatewayOptions,
): Promise<void> {
  const url = urlOf(request)
  const { pathname } = url
  // Functions answer their own preflights, as hosted.
  if (pathname.startsWith('/functions/v1/'))
    return callFunction(request, response, { url, options })
  response.setHeader('access-control-allow-origin', '*')
  response.setHeader('access-control-expose-headers', exposedHeaders)
  if (request.method === 'OPTIONS') return preflight(request, response)
  if (pathname.startsWith('/rest/v1/')) return rest(request, response, { url, options })
  if (pathname.startsWith('/auth/v1/')) return auth(request, response, { url, options })
  if (pathname.startsWith('/realtime/v1/')) return realtime(request, response, { url, options })
  if (pathname === '/health') return sendJson(response, { status: 200, body: { healthy: true } })
  sendJson(response, {
    status: 404,
    body: { message: 'no Route matched with those values' },
  })
}

interface Context {
  url: URL
  options: GatewayOptions
}

async function rest(
  request: IncomingMessage,
  response: ServerResponse,
  { url, options }: Context,
): Promise<void> {
  const checked = options.access.admit(request, url)
  const admission = checked instanceof Promise ? await checked : checked
  if ('refusal' in admission) return sendJson(response, admission.refusal)
  const { caller } = admission
  if (url.pathname.startsWith('/rest/v1/rpc/')) {
    return options.rpc.handle(request, response, { url, caller })
  }
  const answer = await options.tables.handle(toRequest(request, response, url), caller)
  return sendResponse(answer, response)
}

/** Where a browser arrives by a link in a mail, without a key. */
const openAuthPaths = /^\/auth\/v1\/(verify|callback|authorize|\.well-known\/.*)$/

async function auth(
  request: IncomingMessage,
  response: ServerResponse,
  { url, options }: Context,
): Promise<void> {
  if (!openAuthPaths.test(url.pathname)) {
    const refusal = options.access.refuse(request, url)
    if (refusal) return sendJson(response, refusal)
  }
  return sendResponse(await options.auth.handle(toRequest(request, response, url)), response)
}

async function realtime(
  request: IncomingMessage,
  response: ServerResponse,
  { url, options }: Context,
): Promise<void> {
  const refusal = options.access.refuse(request, url)
  if (refusal) return sendJson(response, refusal)
  if (!options.realtime) return sendJson(response, { status: 404, body: { message: 'not found' } })
  return sendResponse(await options.realtime.handle(toRequest(request, response, url)), response)
}

async function callFunction(
  request: IncomingMessage,
  response: ServerResponse,
  { url, options }: Context,
): Promise<void> {
  const slug = url.pathname.split('/')[3] ?? ''
  const answer = options.functions
    ? await options.functions.handle(slug, toRequest(request, response, url))
    : new Response('Function not found', { status: 404 })
  return sendResponse(answer, response)
}

const exposedHeaders =
  'Content-Encoding, Content-Location, Content-Range, Content-Type, Date, Location, Server, ' +
  'Transfer-Encoding, Range-Unit, Preference-Applied, X-Total-Count, Link, SB-Error-Code'

function preflight(request: IncomingMessage, response: ServerResponse): void {
  const asked = request.headers['access-control-request-headers']
  response.writeHead(200, {
    'access-control-allow-methods': 'GET,HEAD,PUT,PATCH,POST,DELETE,OPTIONS,TRACE,CONNECT',
    'access-control-allow-headers': asked ?? '*',
    'access-control-max-age': '3600',
    'content-length': '0',
    vary: 'Origin',
  })
  response.end()
}

/** A request line or host that makes no URL leads to a path that does not exist. */
function urlOf(request: IncomingMessage): URL {
  const host = request.headers.host ?? '127.0.0.1'
  return URL.parse(request.url ?? '/', `http://${host}`) ?? new URL('http://127.0.0.1/')
}
