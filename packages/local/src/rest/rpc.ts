import type { IncomingMessage, ServerResponse } from 'node:http'
import postgres from 'postgres'
import type { Caller } from '../access.ts'
import type { ApiConfig } from '../config.ts'
import { lendConnections } from '../lending.ts'
import { readWhole } from './body.ts'
import { type CallRow, callStatement, singularMark } from './call.ts'
import type { Catalog, Routine, Snapshot } from './catalog.ts'
import { Problem, problemOf } from './problem.ts'
import { type RpcRequest, readRequest } from './request.ts'
import { type Choice, chooseRoutine, type Offer } from './resolve.ts'
import { sendCall, sendProblem } from './respond.ts'
import { sessionSettings, setLocally } from './session.ts'
import { readShape, type Shape } from './shape.ts'

export interface RpcOptions {
  /** Logs in as `authenticator`. */
  url: string
  api: ApiConfig
  catalog: Catalog
  /** Bytes of body taken; more is answered 413. Default 20 MB. */
  bodyLimit?: number
  /** Connections to the database, each serving one call at a time. Default 10, as PostgREST. */
  poolSize?: number
}

export interface Rpc {
  /** Answers a request below /rest/v1/rpc/; never rejects. */
  handle(
    request: IncomingMessage,
    response: ServerResponse,
    context: { url: URL; caller: Caller },
  ): Promise<void>
  stop(): Promise<void>
}

const serializationFailure = '40001'
const mostAttempts = 5

/**
 * Calls of stored functions with PostgREST's behaviour. Everything a call needs goes to Postgres in
 * one simple-protocol message: two statements in one implicit transaction, one round trip. Measured
 * at the driver (p50, trivial function): 105 µs; as begin, set, call, commit one after the other
 * 180 µs; the four prepared and pipelined 65 µs, rejected because a plan kept on a connection that
 * changes its role may hold an inlined function, whose right to be called was checked for another.
 */
export function startRpc(options: RpcOptions): Rpc {
  const { api, catalog, bodyLimit = 20_000_000, poolSize = 10 } = options
  const lender = lendConnections({ url: options.url, max: poolSize, name: 'postgrest' })

  async function call(
    request: IncomingMessage,
    context: { url: URL; caller: Caller },
  ): Promise<{ row: CallRow; routine: Routine; rpc: RpcRequest; shape: Shape }> {
    const body = await readWhole(request, bodyLimit)
    const rpc = readRequest(request, context.url, { schemas: api.schemas, body })
    const { snapshot, choice } = await choose(catalog, offerOf(rpc))
    const { routine } = choice
    const shape = limited(readShape(rpc.shape), rpc, routine.returnsSet ? api.maxRows : null)
    const text = [
      ...preamble({ request, caller: context.caller, rpc, routine, snapshot, api }),
      callStatement(choice, rpc, shape),
    ].join(';\n')
    return { row: await attempt(() => lender.use((sql) => run(sql, text))), routine, rpc, shape }
  }

  return {
    async handle(request, response, context) {
      try {
        sendCall(response, await call(request, context))
      } catch (cause) {
        sendProblem(response, problemOf(cause, context.caller.role))
      }
    },
    stop: () => lender.end(),
  }
}

function offerOf({ schema, name, input }: RpcRequest): Offer {
  if (input.kind === 'json') return { schema, name, keys: input.keys, wholeBody: ['json', 'jsonb'] }
  if (input.kind === 'whole') return { schema, name, keys: [], wholeBody: [input.type] }
  return { schema, name, keys: [...input.values.keys()], wholeBody: [] }
}

/** A function that is not known may have been made a moment ago. */
async function choose(
  catalog: Catalog,
  offer: Offer,
): Promise<{ snapshot: Snapshot; choice: Choice }> {
  const snapshot = await catalog.current()
  try {
    return { snapshot, choice: chooseRoutine(snapshot, offer) }
  } catch (cause) {
    const newer = await catalog.settled()
    if (newer === snapshot) throw cause
    return { snapshot: newer, choice: chooseRoutine(newer, offer) }
  }
}

function limited(shape: Shape, rpc: RpcRequest, maxRows: number | null): Shape {
  const first = rpc.range?.first ?? 0
  const last = rpc.range?.last ?? null
  const wanted = [shape.limit, last === null ? null : last - first + 1, maxRows]
  const limits = wanted.filter((limit) => limit !== null)
  return {
    ...shape,
    offset: shape.offset + first,
    limit: limits.length > 0 ? Math.min(...limits) : null,
  }
}

/** The statements before the call: isolation, where a role or function sets it, then all settings. */
function preamble(setup: {
  request: IncomingMessage
  caller: Caller
  rpc: RpcRequest
  routine: Routine
  snapshot: Snapshot
  api: ApiConfig
}): string[] {
  const { request, caller, rpc, routine, snapshot, api } = setup
  const { default_transaction_isolation: isolation, ...settings } = {
    ...snapshot.roleSettings.get(caller.role),
    ...routine.settings,
  }
  const statement = setLocally(
    sessionSettings({
      caller,
      method: rpc.method,
      path: `/rpc/${rpc.name}`,
      headers: request.headers,
      searchPath: [rpc.schema, ...api.extraSearchPath],
      settings,
      readOnly: rpc.method !== 'POST' || !routine.isVolatile,
    }),
  )
  return isolation ? [`set transaction isolation level ${isolation}`, statement] : [statement]
}

async function run(sql: postgres.Sql, text: string): Promise<CallRow> {
  const results: unknown = await sql.unsafe(text).simple()
  const rows: CallRow[] = Array.isArray(results) ? results.at(-1) : []
  const [row] = rows
  if (!row) throw new Problem(500, 'XX000', { message: 'the call gave no row' })
  return row
}

/** PostgREST repeats what failed to serialize; here five times, so that an eternal failure ends. */
async function attempt(work: () => Promise<CallRow>): Promise<CallRow> {
  for (let attempts = 1; ; attempts += 1) {
    try {
      return await work()
    } catch (cause) {
      const code = cause instanceof postgres.PostgresError ? cause.code : ''
      if (code !== serializationFailure || attempts === mostAttempts) throw singular(cause)
    }
  }
}

function singular(cause: unknown): unknown {
  const message = cause instanceof Error ? cause.message : ''
  const [, rows] = new RegExp(`"${singularMark}(\\d+)"$`).exec(message) ?? []
  if (!rows) return cause
  return new Problem(406, 'PGRST116', {
    message: 'Cannot coerce the result to a single JSON object',
    details: `The result contains ${rows} rows`,
  })
}
