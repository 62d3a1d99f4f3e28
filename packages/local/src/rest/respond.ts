import type { ServerResponse } from 'node:http'
import type { CallRow } from './call.ts'
import type { Routine } from './catalog.ts'
import { Problem } from './problem.ts'
import type { RpcRequest } from './request.ts'
import type { Shape } from './shape.ts'

const json = 'application/json; charset=utf-8'

/** Sends what a call gave. Throws Problem while nothing has been sent. */
export function sendCall(
  response: ServerResponse,
  done: { row: CallRow; routine: Routine; rpc: RpcRequest; shape: Shape },
): void {
  const { row, routine, rpc, shape } = done
  const own = responseHeaders(row.headers)
  if (routine.result === 'void') {
    response.writeHead(responseStatus(row.status) ?? 204, own)
    response.end()
    return
  }
  const page = pageOf(row, routine, shape)
  const status = responseStatus(row.status) ?? page.status
  const hasBody = status !== 204 && status !== 304
  response.writeHead(status, {
    ...(hasBody
      ? {
          'content-type': rpc.wantsObject
            ? `application/vnd.pgrst.object+json; charset=utf-8`
            : json,
          'content-length': Buffer.byteLength(row.body),
        }
      : {}),
    'content-range': page.range,
    'content-profile': rpc.schema,
    ...(rpc.wantsCount ? { 'preference-applied': 'count=exact' } : {}),
    ...own,
  })
  response.end(hasBody && rpc.method !== 'HEAD' ? row.body : undefined)
}

/** Sends an error in PostgREST's shape. */
export function sendProblem(response: ServerResponse, problem: Problem): void {
  const body = JSON.stringify(problem)
  response.writeHead(problem.status, {
    'content-type': json,
    'content-length': Buffer.byteLength(body),
    ...problem.headers,
  })
  response.end(body)
}

function pageOf(row: CallRow, routine: Routine, shape: Shape): { status: number; range: string } {
  if (!routine.returnsSet) return { status: 200, range: `0-0/${row.total ?? '*'}` }
  const rows = Number(row.rows)
  const { offset } = shape
  const total = row.total === null ? null : Number(row.total)
  if (total !== null && offset > total) {
    throw new Problem(416, 'PGRST103', {
      message: 'Requested range not satisfiable',
      details: `An offset of ${offset} was requested, but there are only ${total} rows.`,
    })
  }
  const span = rows === 0 ? '*' : `${offset}-${offset + rows - 1}`
  return {
    status: total !== null && rows < total ? 206 : 200,
    range: `${span}/${total ?? '*'}`,
  }
}

function responseStatus(value: string | null): number | null {
  if (value === null) return null
  const status = Number(value)
  if (Number.isInteger(status) && status >= 200 && status <= 599) return status
  throw new Problem(500, 'PGRST112', { message: 'response.status guc must be a valid status code' })
}

/** `response.headers`: a JSON array of objects with one key each. */
function responseHeaders(value: string | null): Record<string, string | string[]> {
  const headers: Record<string, string | string[]> = {}
  for (const [name, content] of value === null ? [] : parseHeaders(value)) {
    const before = headers[name]
    headers[name] = before === undefined ? content : [before, content].flat()
  }
  return headers
}

function parseHeaders(value: string): [string, string][] {
  try {
    const list: unknown = JSON.parse(value)
    if (Array.isArray(list)) return list.map(singleHeader)
  } catch {
    // Told below, like every other wrong form.
  }
  throw new Problem(500, 'PGRST111', {
    message:
      'response.headers guc must be a JSON array composed of objects with a single key and a string value',
  })
}

function singleHeader(entry: unknown): [string, string] {
  const pairs: [string, unknown][] =
    typeof entry === 'object' && entry !== null ? Object.entries(entry) : []
  const [name, content] = pairs[0] ?? []
  if (pairs.length !== 1 || name === undefined || typeof content !== 'string') {
    throw new TypeError('not a header')
  }
  return [name.toLowerCase(), content]
}
