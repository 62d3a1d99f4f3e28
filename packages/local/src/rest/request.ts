import { isUtf8 } from 'node:buffer'
import type { IncomingMessage } from 'node:http'
import { Problem } from './problem.ts'
import { isFilter } from './shape.ts'

/** A request to /rest/v1/rpc/<name>, read but not yet matched to a function. */
export interface RpcRequest {
  method: 'GET' | 'HEAD' | 'POST'
  schema: string
  name: string
  input: Input
  /** Query parameters that shape the result: select, order, limit, offset and filters. */
  shape: [name: string, value: string][]
  /** First and last row of a `Range` header. */
  range: { first: number; last: number | null } | null
  wantsCount: boolean
  /** Exactly one row is wanted, as an object. */
  wantsObject: boolean
  stripsNulls: boolean
}

export type Input =
  /** The body as it came, and the keys of its top level. */
  | { kind: 'json'; body: string; keys: string[] }
  /** From the query string or a form: one text or, repeated, several. */
  | { kind: 'text'; values: ReadonlyMap<string, string[]> }
  | { kind: 'whole'; type: 'text' | 'bytea'; body: Buffer }

/** Reads the parts of a request. Throws Problem. */
export function readRequest(
  request: IncomingMessage,
  url: URL,
  rest: { schemas: string[]; body: Buffer },
): RpcRequest {
  const method = methodOf(request)
  const isRead = method !== 'POST'
  const query = [...url.searchParams].filter(([name]) => name !== 'apikey')
  const shape = isRead ? query.filter(([name, value]) => isShape(name, value)) : query
  const given = isRead ? query.filter(([name, value]) => !isShape(name, value)) : []
  const prefer = headerOf(request, 'prefer')
  return {
    method,
    schema: schemaOf(
      headerOf(request, isRead ? 'accept-profile' : 'content-profile'),
      rest.schemas,
    ),
    name: nameOf(url),
    input: isRead
      ? { kind: 'text', values: grouped(given) }
      : readBody(rest.body, headerOf(request, 'content-type')),
    shape,
    range: isRead ? rangeOf(headerOf(request, 'range')) : null,
    wantsCount: /\bcount=(exact|planned|estimated)\b/.test(prefer),
    ...readAccept(headerOf(request, 'accept')),
  }
}

function methodOf({ method }: IncomingMessage): RpcRequest['method'] {
  if (method === 'GET' || method === 'HEAD' || method === 'POST') return method
  throw new Problem(405, 'PGRST101', { message: `Cannot use the ${method} method on RPC` })
}

function nameOf(url: URL): string {
  const [, name, rest] = url.pathname.match(/\/rpc\/([^/]+)(\/.*)?$/) ?? []
  if (!name || rest) throw invalidPath()
  return decodePath(name)
}

/** The text of a path segment. Throws Problem. */
export function decodePath(segment: string): string {
  try {
    return withoutNul(decodeURIComponent(segment))
  } catch (cause) {
    throw cause instanceof Problem ? cause : invalidPath()
  }
}

function invalidPath(): Problem {
  return new Problem(404, 'PGRST125', { message: 'Invalid path specified in request URL' })
}

function schemaOf(wanted: string, schemas: string[]): string {
  const schema = wanted || schemas[0] || 'public'
  if (schemas.includes(schema)) return schema
  throw new Problem(406, 'PGRST106', {
    message: `Invalid schema: ${schema}`,
    hint: `Only the following schemas are exposed: ${schemas.join(', ')}`,
  })
}

function readBody(body: Buffer, contentType: string): Input {
  const type = contentType.split(';', 1)[0]?.trim().toLowerCase() ?? ''
  if (type === 'text/plain') return { kind: 'whole', type: 'text', body }
  if (type === 'application/octet-stream') return { kind: 'whole', type: 'bytea', body }
  if (type === 'application/x-www-form-urlencoded') {
    return { kind: 'text', values: grouped([...new URLSearchParams(body.toString('utf8'))]) }
  }
  if (type === '' || type === 'application/json') return readJson(body)
  throw new Problem(400, 'PGRST102', { message: `Content-Type not acceptable: ${type}` })
}

function readJson(body: Buffer): Input {
  if (body.length === 0) return { kind: 'json', body: '{}', keys: [] }
  if (!isUtf8(body)) throw new Problem(400, 'PGRST102', { message: 'Empty or invalid json' })
  const text = body.toString('utf8')
  try {
    const value: unknown = JSON.parse(text)
    const isObject = typeof value === 'object' && value !== null && !Array.isArray(value)
    return { kind: 'json', body: text, keys: isObject ? Object.keys(value) : [] }
  } catch {
    throw new Problem(400, 'PGRST102', { message: 'Empty or invalid json' })
  }
}

/** On a read, what is neither reserved nor looks like `eq.5` is an argument of the function. */
function isShape(name: string, value: string): boolean {
  return /^(select|order|limit|offset|and|or|not\.and|not\.or)$/.test(name) || isFilter(value)
}

function grouped(pairs: [string, string][]): Map<string, string[]> {
  const values = new Map<string, string[]>()
  for (const [name, value] of pairs) {
    values.set(name, [...(values.get(name) ?? []), withoutNul(value)])
  }
  return values
}

/** Text of the query string goes into SQL as it is, and no SQL text can hold a NUL. */
function withoutNul(text: string): string {
  if (!text.includes('\0')) return text
  throw new Problem(400, '22021', {
    message: 'invalid byte sequence for encoding "UTF8": 0x00',
  })
}

function rangeOf(header: string): RpcRequest['range'] {
  const [, first, last] = /^(\d+)-(\d*)$/.exec(header) ?? []
  if (first === undefined) return null
  const range = { first: Number(first), last: last ? Number(last) : null }
  if (range.last === null || range.last >= range.first) return range
  throw new Problem(416, 'PGRST103', {
    message: 'Requested range not satisfiable',
    details:
      'The lower boundary must be lower than or equal to the upper boundary in the Range header.',
  })
}

const objectTypes = new Set(['application/vnd.pgrst.object+json', 'application/vnd.pgrst.object'])
const arrayTypes = new Set([
  '*/*',
  'application/*',
  'application/json',
  'application/vnd.pgrst.array',
  'application/vnd.pgrst.array+json',
])

function readAccept(header: string): Pick<RpcRequest, 'wantsObject' | 'stripsNulls'> {
  for (const entry of (header || '*/*').split(',')) {
    const [type = '', ...parameters] = entry.split(';').map((part) => part.trim().toLowerCase())
    const stripsNulls = parameters.includes('nulls=stripped')
    if (objectTypes.has(type)) return { wantsObject: true, stripsNulls }
    if (arrayTypes.has(type)) return { wantsObject: false, stripsNulls }
  }
  throw new Problem(406, 'PGRST107', {
    message: `None of these media types are available: ${header}`,
  })
}

function headerOf(request: IncomingMessage, name: string): string {
  const value = request.headers[name]
  return typeof value === 'string' ? value : (value?.join(',') ?? '')
}
