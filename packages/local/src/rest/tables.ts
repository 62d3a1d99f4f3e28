import { AsyncLocalStorage } from 'node:async_hooks'
import { App, RelationNotFoundError } from '@supabase/lite'
import type { PostgresConnection } from '@supabase/lite/postgres'
import { type Kysely, sql } from 'kysely'
import postgres from 'postgres'
import type { Caller } from '../access.ts'
import type { ApiConfig } from '../config.ts'
import { ConnectionLostError, type Lender, lendConnections } from '../lending.ts'
import { LentConnection } from '../lite.ts'
import type { ArrayType, Catalog, Snapshot } from './catalog.ts'
import { nearest } from './nearest.ts'
import { Problem, problemOf } from './problem.ts'
import { decodePath } from './request.ts'
import { type Session, sessionSettings, setLocally } from './session.ts'
import { exactValues, type WireType, wireTypes } from './wire.ts'

export interface TablesOptions {
  /** Logs in as `authenticator`. */
  url: string
  /** Logs in as superuser; only the catalog is read with it. */
  adminUrl: string
  api: ApiConfig
  catalog: Catalog
}

export interface Tables {
  /** Answers a request below /rest/v1 that is no RPC; never rejects. */
  handle(request: Request, caller: Caller): Promise<Response>
  stop(): Promise<void>
}

/** One request on its way through @supabase/lite. */
interface Visit {
  session: Session
  /** What the database said, when it refused. */
  failure?: unknown
}

const visits = new AsyncLocalStorage<Visit>()

/**
 * Tables and views through @supabase/lite on its Postgres driver. What that does differently from
 * PostgREST is put right around it: see `ApiConnection`.
 */
export function startTables(options: TablesOptions): Tables {
  const { api, catalog } = options
  let arrayTypes: readonly ArrayType[] = []
  const types = (): Record<string, WireType> => wireTypes(arrayTypes)
  const lender = lendConnections({ url: options.url, max: 10, name: 'postgrest tables', types })
  const name = 'postgrest schema cache of tables'
  const catalogLender = lendConnections({ url: options.adminUrl, max: 1, name, types })
  const connection = new ApiConnection(options.url, lender, catalogLender)
  const app = new App({
    connection,
    api: {
      enabled: true,
      schemas: api.schemas,
      extra_search_path: api.extraSearchPath,
      max_rows: api.maxRows,
      // Hosted, the API's login preloads safeupdate: no UPDATE or DELETE without WHERE.
      pg_safe_update: true,
    },
    auth: { enabled: false },
    storage: { enabled: false },
    // Keys and tokens were checked before.
    options: { server: { apiKeys: false, disableStudio: true } },
  })
  const forget = catalog.onReload((snapshot) => {
    arrayTypes = snapshot.arrayTypes
    lender.renew()
    void connection.clearSchemaCache()
  })

  async function visit(request: Request, caller: Caller): Promise<Response> {
    const { forwarded, schema } = forward(request, api)
    const path = new URL(request.url).pathname.replace('/rest/v1', '')
    const { roleSettings } = await knowing(catalog, `${schema}.${relationOf(path)}`)
    const isRead = request.method === 'GET' || request.method === 'HEAD'
    const session: Session = {
      caller,
      method: request.method,
      path,
      headers: Object.fromEntries(request.headers),
      searchPath: [schema, ...api.extraSearchPath],
      settings: roleSettings.get(caller.role) ?? {},
      readOnly: isRead,
    }
    const stay: Visit = { session }
    const response = await visits.run(stay, async () => app.fetch(forwarded))
    if (stay.failure === undefined) return response
    throw named(problemOf(stay.failure, caller.role), session.path)
  }

  return {
    async handle(request, caller) {
      try {
        return await visit(request, caller)
      } catch (cause) {
        const problem = problemOf(cause, caller.role)
        return Response.json(problem, { status: problem.status, headers: problem.headers })
      }
    },
    async stop() {
      forget()
      await Promise.all([lender.end(), catalogLender.end()])
    },
  }
}

/** A relation that is not known may have been made a moment ago. */
async function knowing(catalog: Catalog, relation: string): Promise<Snapshot> {
  const snapshot = await catalog.current()
  return snapshot.relations.has(relation) ? snapshot : catalog.settled()
}

function relationOf(path: string): string {
  return decodePath(path.split('/')[1] ?? '')
}

/** The request as lite shall see it: without credentials, with the schema named. */
function forward(request: Request, api: ApiConfig): { forwarded: Request; schema: string } {
  const headers = new Headers(request.headers)
  headers.delete('authorization')
  headers.delete('apikey')
  const isRead = request.method === 'GET' || request.method === 'HEAD'
  const profile = isRead ? 'accept-profile' : 'content-profile'
  const schema = headers.get(profile) ?? api.schemas[0] ?? 'public'
  headers.set(profile, schema)
  const url = new URL(request.url)
  url.searchParams.delete('apikey')
  return { forwarded: new Request(new Request(url, request), { headers }), schema }
}

/** PostgREST qualifies columns in its SQL, so that Postgres names the table in this message. */
function named(problem: Problem, path: string): Problem {
  if (problem.code !== '42703') return problem
  const { status, code, details, hint } = problem
  const relation = relationOf(path)
  const message = problem.message.replace(/^column "([^"]+)" does not exist$/, (_, column) => {
    return `column ${relation}.${column} does not exist`
  })
  return new Problem(status, code, { message, details, hint })
}

type Schema = Awaited<ReturnType<PostgresConnection['introspect']>>

/**
 * The connection lite works on, with these cures:
 * - It never looks for RLS tables to GRANT them to the API roles, which the original does at the
 *   first request; the role and claims are set here instead, and the role's timeouts with them.
 * - It logs in as `authenticator`, who sees no tables: the catalog is read by another login.
 * - What the database refuses is kept for `handle` to translate: lite knows few SQLSTATEs, loses
 *   hints, and prints each error.
 * - JSON, timestamps, bytea and large numbers keep their exact form (wire.ts).
 */
class ApiConnection extends LentConnection {
  readonly #catalog: LentConnection
  #changes = 0
  #reading: Promise<Schema> | undefined

  constructor(url: string, lender: Lender, catalogLender: Lender) {
    super(url, lender)
    this.#catalog = new LentConnection(url, catalogLender)
  }

  override async introspect(): Promise<Schema> {
    this.#reading ??= this.#read().finally(() => {
      this.#reading = undefined
    })
    const schema = await this.#reading
    // lite answers with an empty schema when it cannot read; a real one has auth at least.
    if (schema.tables.length === 0) throw refused(new ConnectionLostError())
    return schema
  }

  override clearSchemaCache(): Promise<void> {
    this.#changes += 1
    return this.#catalog.clearSchemaCache()
  }

  /** A change while the schema is read would leave the old one in lite's cache. */
  async #read(): Promise<Schema> {
    for (;;) {
      const before = this.#changes
      const schema = await this.#catalog.introspect({ useCache: true })
      if (before === this.#changes) return schema
      await this.#catalog.clearSchemaCache()
    }
  }

  override async onPostgrestAST(
    request: Parameters<PostgresConnection['onPostgrestAST']>[0],
  ): ReturnType<PostgresConnection['onPostgrestAST']> {
    const schema = await this.introspect()
    const checked = await super.onPostgrestAST(request).catch((cause: unknown) => {
      if (!(cause instanceof RelationNotFoundError)) throw cause
      throw refused(relationNotFound(cause, [...schema.tables, ...schema.views]))
    })
    return exactValues(checked, schema)
  }

  override withContext<T>(
    _variables: unknown,
    work: (database: Kysely<unknown>) => Promise<T>,
  ): Promise<T> {
    return this.kysely.connection().execute(async (database) => {
      try {
        await sql`begin`.execute(database)
        await sql.raw(setLocally(sessionSettings(currentVisit().session))).execute(database)
        const result = await work(database)
        await sql`commit`.execute(database)
        return result
      } catch (cause) {
        // A rollback on a lost connection would only hide why it was lost.
        if (!isLost(cause)) await sql`rollback`.execute(database)
        if (cause instanceof RangeError) throw refused(stackDepthExceeded())
        throw isFromDatabase(cause) ? refused(cause) : cause
      }
    })
  }
}

function currentVisit(): Visit {
  const visit = visits.getStore()
  if (!visit) throw new Error('Cannot query outside of a request')
  return visit
}

/**
 * Keeps the cause for the answer and gives the error to end lite's part with: any would do, since
 * lite's answer is replaced, but all others it prints.
 */
function refused(cause: unknown): Error {
  currentVisit().failure = cause
  return new Error('Invalid JSON body')
}

/** The driver writes JSON by recursion and gives up some thousand levels before Postgres would. */
function stackDepthExceeded(): Problem {
  return new Problem(500, '54001', {
    message: 'stack depth limit exceeded',
    hint: 'Increase the configuration parameter "max_stack_depth" (currently 2048kB), after ensuring the platform\'s stack depth limit is adequate.',
  })
}

function relationNotFound(
  { schema = 'public', relation, message }: RelationNotFoundError,
  known: { schema: string; name: string }[],
): Problem {
  const names = known.filter((candidate) => candidate.schema === schema).map(({ name }) => name)
  const found = nearest(relation, names)
  const hint = found && `Perhaps you meant the table '${schema}.${found}'`
  return new Problem(404, 'PGRST205', { message, hint })
}

function isFromDatabase(cause: unknown): boolean {
  return cause instanceof postgres.PostgresError || isLost(cause)
}

function isLost(cause: unknown): boolean {
  if (cause instanceof postgres.PostgresError) return /FATAL|PANIC/.test(cause.severity)
  return cause instanceof Error && 'code' in cause && /^E?CONN/.test(String(cause.code))
}
