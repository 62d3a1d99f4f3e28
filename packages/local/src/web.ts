import type { IncomingMessage, ServerResponse } from 'node:http'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'

/** An incoming Node request as a web Request, its body streaming; aborted when the client leaves. */
export function toRequest(incoming: IncomingMessage, outgoing: ServerResponse, url: URL): Request {
  const headers = new Headers()
  for (const [name, values] of Object.entries(incoming.headersDistinct)) {
    for (const value of values ?? []) headers.append(name, value)
  }
  const gone = new AbortController()
  outgoing.once('close', () => {
    if (!outgoing.writableFinished) gone.abort()
  })
  const method = incoming.method ?? 'GET'
  const init: RequestInit = { method, headers, signal: gone.signal }
  if (method === 'GET' || method === 'HEAD') return new Request(url, init)
  // `duplex` is required for streams and missing in the DOM's types.
  return new Request(url, Object.assign(init, { body: Readable.toWeb(incoming), duplex: 'half' }))
}

/** Sends a web Response; what was set on `outgoing` before stays unless the response has it too. */
export async function sendResponse(response: Response, outgoing: ServerResponse): Promise<void> {
  for (const [name, value] of response.headers) {
    if (name !== 'set-cookie') outgoing.setHeader(name, value)
  }
  const cookies = response.headers.getSetCookie()
  if (cookies.length > 0) outgoing.setHeader('set-cookie', cookies)
  outgoing.writeHead(response.status, response.statusText)
  outgoing.flushHeaders()
  if (!response.body) {
    outgoing.end()
    return
  }
  await pipeline(response.body, outgoing).catch(() => outgoing.destroy())
}

/** Sends a small JSON answer. */
export function sendJson(
  outgoing: ServerResponse,
  answer: { status: number; body: unknown; headers?: Record<string, string> },
): void {
  const text = JSON.stringify(answer.body)
  outgoing.writeHead(answer.status, {
    'content-type': 'application/json; charset=utf-8',
    'content-length': Buffer.byteLength(text),
    ...answer.headers,
  })
  outgoing.end(text)
}
