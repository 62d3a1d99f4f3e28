import type { Caller } from './authorization.ts'
import type { Services } from './channel.ts'
import { RealtimeError } from './errors.ts'
import { type JsonObject, objectOf } from './protocol.ts'
import { type Claims, claimsOf } from './tokens.ts'

const batchPath = '/realtime/v1/api/broadcast'
const singlePath = /^\/realtime\/v1\/api\/broadcast\/([^/]+)\/events\/([^/]+)$/

interface BatchMessage {
  topic: string
  event: string
  payload: JsonObject
  private: boolean
}

/** Field name to what is wrong with it, in the words of the server's changesets. */
type FieldErrors = Record<string, string[]>

/**
 * Serves `POST /realtime/v1/api/broadcast` (a batch: 202 even when private messages are dropped for
 * lack of rights) and `POST …/broadcast/<topic>/events/<event>` (one message: 403 without rights).
 */
export async function handleBroadcast(request: Request, services: Services): Promise<Response> {
  const url = new URL(request.url)
  const single = singlePath.exec(url.pathname)
  if (request.method !== 'POST' || (!single && url.pathname !== batchPath)) {
    return Response.json({ message: 'not found' }, { status: 404 })
  }
  const claims = await authenticate(request, services)
  if (!claims) return Response.json({ message: 'Unauthorized' }, { status: 401 })
  const caller = { claims, headers: Object.fromEntries(request.headers) }
  if (!single) return broadcastBatch(request, caller, services)
  const [, topic = '', event = ''] = single.map(decodeURIComponent)
  const address = { topic, private: url.searchParams.get('private') === 'true' }
  return broadcastSingle(request, caller, { ...services, address, event })
}

async function authenticate(request: Request, services: Services): Promise<Claims | null> {
  const bearer = /^bearer (\S+)$/i.exec(request.headers.get('authorization') ?? '')?.[1]
  const token = bearer ?? request.headers.get('apikey')
  if (!token) return null
  return claimsOf(token, services.tokens).catch((cause) => {
    if (cause instanceof RealtimeError) return null
    throw cause
  })
}

async function broadcastBatch(
  request: Request,
  caller: Caller,
  services: Services,
): Promise<Response> {
  const body = await parseJson(request)
  if (body === undefined) return badRequest()
  const batch = readBatch(objectOf(body).messages)
  if ('errors' in batch) return Response.json({ errors: batch.errors }, { status: 422 })
  const rights = new Map<string, Promise<boolean>>()
  for (const { topic, event, payload, ...address } of batch.messages) {
    if (address.private && !rights.has(topic)) rights.set(topic, mayWrite(topic, caller, services))
    if (address.private && !(await rights.get(topic))) continue
    const content = { payload, event, type: 'broadcast' }
    services.hub.publish({ topic, ...address }, { kind: 'text', payload: content })
  }
  return new Response('', { status: 202 })
}

async function broadcastSingle(
  request: Request,
  caller: Caller,
  target: Services & { address: { topic: string; private: boolean }; event: string },
): Promise<Response> {
  const { address, event, hub } = target
  const type = request.headers.get('content-type')?.split(';')[0]?.trim().toLowerCase()
  if (type && type !== 'application/json' && type !== 'application/octet-stream') {
    const error = 'Unsupported Media Type. Use application/json or application/octet-stream'
    return Response.json({ error }, { status: 415 })
  }
  const encoding = type === 'application/octet-stream' ? 'binary' : 'json'
  const body = encoding === 'binary' ? await request.arrayBuffer() : await parseJson(request)
  if (body === undefined) return badRequest()
  if (address.private && !(await mayWrite(address.topic, caller, target))) {
    return Response.json({ message: 'Unauthorized' }, { status: 403 })
  }
  hub.publish(address, {
    kind: 'event',
    event,
    encoding,
    body: body instanceof ArrayBuffer ? Buffer.from(body) : Buffer.from(jsonBody(body)),
  })
  return new Response('', { status: 202 })
}

/** The server's JSON parser wraps anything but an object under `_json`; so does this. */
function jsonBody(body: unknown): string {
  const isObject = typeof body === 'object' && body !== null && !Array.isArray(body)
  return JSON.stringify(isObject ? body : { _json: body })
}

async function mayWrite(topic: string, caller: Caller, services: Services): Promise<boolean> {
  try {
    return await services.authorizer.mayWrite(topic, caller)
  } catch (cause) {
    if (!(cause instanceof RealtimeError)) throw cause
    services.log(cause.reason)
    return false
  }
}

function readBatch(
  value: unknown,
): { messages: BatchMessage[] } | { errors: { messages: (string | FieldErrors)[] } } {
  if (value === undefined || value === null) return { errors: { messages: ["can't be blank"] } }
  if (!Array.isArray(value)) return { errors: { messages: ['is invalid'] } }
  if (value.length === 0) return { errors: { messages: ["can't be blank"] } }
  const messages = value.map((message) => objectOf(message))
  const errors = messages.map(fieldErrors)
  if (errors.some((fields) => Object.keys(fields).length > 0))
    return { errors: { messages: errors } }
  return {
    messages: messages.map((message) => ({
      topic: String(message.topic),
      event: String(message.event),
      payload: objectOf(message.payload),
      private: message.private === true,
    })),
  }
}

function fieldErrors(message: JsonObject): FieldErrors {
  const errors: FieldErrors = {}
  for (const name of ['topic', 'event']) {
    const value = message[name]
    if (value === undefined || value === null || value === '') errors[name] = ["can't be blank"]
    else if (typeof value !== 'string') errors[name] = ['is invalid']
  }
  const { payload } = message
  if (payload === undefined || payload === null) errors.payload = ["can't be blank"]
  else if (typeof payload !== 'object' || Array.isArray(payload)) errors.payload = ['is invalid']
  return errors
}

async function parseJson(request: Request): Promise<unknown> {
  try {
    return await request.json()
  } catch {
    return undefined
  }
}

function badRequest(): Response {
  return Response.json({ message: 'Bad Request' }, { status: 400 })
}
