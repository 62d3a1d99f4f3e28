import { type IncomingMessage, request as requestHttp } from 'node:http'
import { request as requestHttps } from 'node:https'
import { isIP, type Socket } from 'node:net'

/** One HTTP request, followed over redirects and reported as libcurl would inside pg_net. */
export interface Transfer {
  method: string
  url: string
  /** Name and value, in order; both may repeat what is sent anyway. */
  headers: [name: string, value: string][]
  body: Uint8Array | null
  /** Limit for everything together; none when 0 or less. */
  timeoutMilliseconds: number
}

/** A row of `net._http_response` without its id: either a status or an error. */
export interface Outcome {
  statusCode: number | null
  contentType: string | null
  headers: Record<string, string> | null
  content: string | null
  timedOut: boolean
  error: string | null
}

interface Hop {
  method: string
  url: URL
  headers: [string, string][]
  body: Uint8Array | null
}

interface Reply {
  status: number
  headers: [string, string][]
  body: Buffer
}

/** When, in `performance.now()`, the steps of a connection were reached. */
interface Marks {
  started: number
  resolved?: number
  connected?: number
}

// curl 8.3 stops here; before, only the timeout stopped it.
const maxRedirects = 30

/** Performs the transfer. Never rejects, except with the reason of `stop` when that is aborted. */
export async function perform(transfer: Transfer, stop: AbortSignal): Promise<Outcome> {
  const limit = transfer.timeoutMilliseconds
  const deadline = limit > 0 ? AbortSignal.timeout(limit) : new AbortController().signal
  const signal = AbortSignal.any([stop, deadline])
  const marks: Marks = { started: performance.now() }
  try {
    const url = URL.parse(transfer.url)
    if (!url) return failure('URL using bad/illegal format or missing URL')
    return await follow({ ...transfer, url }, { signal, marks })
  } catch (cause) {
    stop.throwIfAborted()
    if (deadline.aborted) return { ...failure(timeoutText(limit, marks)), timedOut: true }
    return failure(errorText(cause))
  }
}

async function follow(first: Hop, run: { signal: AbortSignal; marks: Marks }): Promise<Outcome> {
  let hop = first
  let firstReply: Reply | undefined
  for (let count = 0; count <= maxRedirects; count += 1) {
    if (!/^https?:$/.test(hop.url.protocol)) return failure('Unsupported protocol')
    const reply = await exchange(hop, run)
    firstReply ??= reply
    const location = find(reply.headers, 'location')
    if (reply.status < 300 || reply.status > 399 || !location) return success(reply, firstReply)
    hop = redirected(hop, { status: reply.status, url: new URL(location, hop.url), first })
  }
  return failure('Number of redirects hit maximum amount')
}

/** 301 to 303 drop the body and turn a POST into a GET; secrets stay with the first host. */
function redirected(hop: Hop, to: { status: number; url: URL; first: Hop }): Hop {
  const dropsBody = to.status >= 301 && to.status <= 303
  const isSameHost = to.url.origin === to.first.url.origin
  return {
    url: to.url,
    method: dropsBody && hop.method === 'POST' ? 'GET' : hop.method,
    body: dropsBody ? null : hop.body,
    headers: hop.headers.filter(
      ([name]) => isSameHost || !/^(authorization|cookie|host)$/i.test(name),
    ),
  }
}

function exchange(hop: Hop, run: { signal: AbortSignal; marks: Marks }): Promise<Reply> {
  return new Promise((settle, refuse) => {
    const request = hop.url.protocol === 'https:' ? requestHttps : requestHttp
    const outgoing = request(hop.url, {
      method: hop.method,
      headers: wireHeaders(hop).flat(),
      agent: false,
      signal: run.signal,
    })
    outgoing.once('socket', (socket) => watch(socket, hop.url, run.marks))
    outgoing.once('error', refuse)
    outgoing.once('response', (incoming) => read(incoming).then(settle, refuse))
    outgoing.end(hop.body ?? undefined)
  })
}

function wireHeaders(hop: Hop): [string, string][] {
  const given = (name: string): boolean => find(hop.headers, name) !== undefined
  const headers: [string, string][] = []
  if (!given('host')) headers.push(['Host', hop.url.host])
  if (!given('accept')) headers.push(['Accept', '*/*'])
  headers.push(...hop.headers)
  if (hop.body || hop.method === 'POST') {
    headers.push(['Content-Length', String(hop.body?.length ?? 0)])
  }
  if (hop.body && !given('content-type')) {
    headers.push(['Content-Type', 'application/x-www-form-urlencoded'])
  }
  return headers
}

function watch(socket: Socket, url: URL, marks: Marks): void {
  const mark = (): number => performance.now() - marks.started
  if (isIP(url.hostname.replace(/^\[|\]$/g, ''))) marks.resolved ??= mark()
  socket.once('lookup', () => {
    marks.resolved ??= mark()
  })
  socket.once(url.protocol === 'https:' ? 'secureConnect' : 'connect', () => {
    marks.connected ??= mark()
  })
}

async function read(incoming: IncomingMessage): Promise<Reply> {
  const parts: Buffer[] = []
  try {
    for await (const part of incoming) parts.push(part)
  } catch (cause) {
    throw new Error('Transferred a partial file', { cause })
  }
  const headers: [string, string][] = []
  for (let index = 0; index + 1 < incoming.rawHeaders.length; index += 2) {
    headers.push([incoming.rawHeaders[index] ?? '', incoming.rawHeaders[index + 1] ?? ''])
  }
  return { status: incoming.statusCode ?? 0, headers, body: Buffer.concat(parts) }
}

function find(headers: [string, string][], name: string): string | undefined {
  return headers.findLast(([candidate]) => candidate.toLowerCase() === name)?.[1]
}

/** After redirects pg_net stores the headers of the first reply beside the rest of the last one (measured). */
function success(reply: Reply, firstReply: Reply): Outcome {
  const end = reply.body.indexOf(0)
  const content = reply.body.subarray(0, end < 0 ? undefined : end).toString('utf8')
  return {
    statusCode: reply.status,
    contentType: find(reply.headers, 'content-type') ?? null,
    headers: Object.fromEntries(firstReply.headers),
    content: content || null,
    timedOut: false,
    error: null,
  }
}

function failure(error: string): Outcome {
  return {
    statusCode: null,
    contentType: null,
    headers: null,
    content: null,
    timedOut: false,
    error,
  }
}

/** libcurl's sentence for what Node reports; the pairs were measured with pg_net 0.20.4 on libcurl 7.88. */
function errorText(cause: unknown): string {
  const code = textOf(cause, 'code')
  if (/^(ENOTFOUND|EAI_)/.test(code)) return "Couldn't resolve host name"
  if (code === 'ECONNRESET') {
    return textOf(cause, 'syscall') === 'read'
      ? 'Failure when receiving data from the peer'
      : 'Server returned nothing (no headers, no data)'
  }
  if (/^HPE_INVALID_(CONSTANT|VERSION)$/.test(code)) return 'Unsupported protocol'
  if (code.startsWith('HPE_')) return 'Weird server reply'
  if (/CERT|UNABLE_TO_VERIFY/.test(code)) return 'SSL peer certificate or SSH remote key was not OK'
  if (code === 'EPROTO' || code.startsWith('ERR_SSL')) return 'SSL connect error'
  if (/^E[A-Z]+$/.test(code)) return "Couldn't connect to server"
  return cause instanceof Error ? cause.message : String(cause)
}

function textOf(cause: unknown, field: 'code' | 'syscall'): string {
  const value: unknown = cause instanceof Error ? Reflect.get(cause, field) : undefined
  return typeof value === 'string' ? value : ''
}

function timeoutText(limit: number, marks: Marks): string {
  const total = performance.now() - marks.started
  const dns = marks.resolved ?? total
  const handshake = (marks.connected ?? total) - dns
  const http = total - dns - handshake
  const [a, b, c, d] = [total, dns, handshake, http].map((value) => value.toFixed(6))
  return `Timeout of ${limit} ms reached. Total time: ${a} ms (DNS time: ${b} ms, TCP/SSL handshake time: ${c} ms, HTTP Request/Response time: ${d} ms)`
}
