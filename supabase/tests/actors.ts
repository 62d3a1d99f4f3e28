import postgres from 'postgres'
import { freshDatabase, type TestDatabase } from '../../packages/local/src/testing.ts'

/** Connections whose bigint columns are numbers: ids in tests stay far below 2^53. */
export type Sql = postgres.Sql<{ bigint: number }>
/** A running transaction in somebody's name. */
export type Session = postgres.TransactionSql<{ bigint: number }>
/** A jsonb argument. */
export type Json = postgres.JSONValue

type Run<T> = (sql: Session) => Promise<T> | T

/** One database with everybody who talks to it. */
export interface Shop {
  database: TestDatabase
  /** Login `supabase_admin`, the superuser: for making users and for tampering. */
  admin: Sql
  /** Login `postgres`, who owns the schemas and bypasses row security. */
  owner: Sql
  /** A signed-in person, as PostgREST acts for one. */
  asUser<T>(userId: string, run: Run<T>): Promise<T>
  asAnon<T>(run: Run<T>): Promise<T>
  /** The secret key: workers and backends. */
  asService<T>(run: Run<T>): Promise<T>
  /** As `asUser` without PostgREST's request settings: faults then are plain SQLSTATEs. */
  asUserInSql<T>(userId: string, run: Run<T>): Promise<T>
  /** Turns the clock of all later transactions; null goes back to the real one. */
  setClock(time: Date | null): void
  /** Fixes the draw that lets a lower lane go first, 0 to 1; by default 0.99: strict order of lanes. */
  setDraw(value: number): void
  close(): Promise<void>
}

/** Opens a private database; all API roles act through the login `authenticator`, as in production. */
export async function openShop(options: { template?: 'supabase' | 'project' } = {}): Promise<Shop> {
  const database = await freshDatabase(options)
  const admin = connect(database.adminUrl, 4)
  const owner = connect(database.url, 4)
  const api = connect(database.databaseUrl('authenticator'), 12)
  let clock: Date | null = null
  let draw = 0.99

  const act = <T>(role: string, claims: object, over: { http: boolean; run: Run<T> }): Promise<T> =>
    api.begin(async (sql) => {
      await sql`
        select set_config('role', ${role}, true),
          set_config('request.jwt.claims', ${JSON.stringify({ role, ...claims })}, true),
          set_config('request.method', ${over.http ? 'POST' : ''}, true),
          set_config('nightshift.now', ${clock?.toISOString() ?? ''}, true),
          set_config('nightshift.random', ${String(draw)}, true)`
      return over.run(sql)
    }) as Promise<T>

  return {
    database,
    admin,
    owner,
    asUser: (sub, run) => act('authenticated', { sub }, { http: true, run }),
    asAnon: (run) => act('anon', {}, { http: true, run }),
    asService: (run) => act('service_role', {}, { http: true, run }),
    asUserInSql: (sub, run) => act('authenticated', { sub }, { http: false, run }),
    setClock: (time) => {
      clock = time
    },
    setDraw: (value) => {
      draw = value
    },
    close: async () => {
      await Promise.all([admin, owner, api].map((sql) => sql.end({ timeout: 1 })))
      await database.drop()
    },
  }
}

/** A pool whose notices are dropped. */
export function connect(url: string, max: number): Sql {
  return postgres(url, {
    max,
    onnotice: () => {},
    types: {
      bigint: { to: 20, from: [20], parse: Number, serialize: String },
    },
  })
}

/** What a caller learns from a refusal; `status` is null where PostgREST would map the SQLSTATE. */
export interface Refusal {
  code: string
  message: string
  details: string
  hint: string
  status: number | null
}

/** Waits for a call to be refused and reads the error as PostgREST would. Fails when it is not refused. */
export async function refusal(call: Promise<unknown>): Promise<Refusal> {
  const error = await call.then(
    () => null,
    (cause: unknown) => cause,
  )
  if (!(error instanceof postgres.PostgresError))
    throw new Error('expected a refusal', { cause: error })
  if (error.code !== 'PGRST') {
    const { code, message, detail = '', hint = '' } = error
    return { code, message, details: detail, hint, status: null }
  }
  const { status } = JSON.parse(error.detail ?? '{}')
  return { ...JSON.parse(error.message), status }
}
