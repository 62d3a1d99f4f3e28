import { setTimeout as delay } from 'node:timers/promises'
import type postgres from 'postgres'
import { openSession } from '../session.ts'

/** A function the API may call. */
export interface Routine {
  schema: string
  name: string
  parameters: Parameter[]
  /** `void` answers nothing, `composite` has columns, `scalar` is one value. */
  result: 'void' | 'composite' | 'scalar'
  returnsSet: boolean
  isVolatile: boolean
  /** Settings of the function that PostgREST makes before the call. */
  settings: Record<string, string>
}

export interface Parameter {
  /** Empty for an unnamed one. */
  name: string
  /** With its schema where it is not in pg_catalog. */
  type: string
  isRequired: boolean
  isVariadic: boolean
}

/** What the API knows of the database; replaced as a whole when the schema changes. */
export interface Snapshot {
  /** Overloads by `<schema>.<name>`. */
  routines: ReadonlyMap<string, Routine[]>
  /** Tables and views as `<schema>.<name>`. */
  relations: ReadonlySet<string>
  /** `alter role … set …` of the roles a caller can have. */
  roleSettings: ReadonlyMap<string, Record<string, string>>
  /** Arrays of anything but rows. */
  arrayTypes: readonly ArrayType[]
}

/** An array type and that of its elements, by oid; of a domain the type below it. */
export interface ArrayType {
  oid: number
  element: number
}

export interface Catalog {
  /** The newest snapshot; waits for a reload that has begun. */
  current(): Snapshot | Promise<Snapshot>
  /** The newest snapshot after every change that is committed by now. */
  settled(): Promise<Snapshot>
  /** Called now and after each reload. Returns the function that ends it. */
  onReload(listener: (snapshot: Snapshot) => void): () => void
  stop(): Promise<void>
}

const reconnectMilliseconds = 200

/**
 * Reads the exposed schemas and reads them again at NOTIFY pgrst, which 25_rest.sql sends on DDL,
 * and after the connection was lost. `url` logs in as `authenticator`.
 */
export async function openCatalog(url: string, schemas: string[]): Promise<Catalog> {
  const listeners = new Set<(snapshot: Snapshot) => void>()
  let session: { sql: postgres.Sql; closed: Promise<void> } | undefined
  let snapshot: Snapshot | undefined
  let reloading: Promise<Snapshot> | undefined
  let isStale = false
  let isStopped = false

  async function read(): Promise<Snapshot> {
    let found: Snapshot
    do {
      isStale = false
      found = await readSnapshot(session?.sql, schemas)
    } while (isStale)
    snapshot = found
    for (const listener of listeners) listener(found)
    return found
  }

  /** One read at a time; a change during it makes it read once more before anyone gets an answer. */
  function reload(): Promise<Snapshot> {
    isStale = true
    reloading ??= read().finally(() => {
      reloading = undefined
    })
    return reloading
  }

  /** Opens a session and reads. */
  async function connect(): Promise<void> {
    const closed = Promise.withResolvers<void>()
    const sql = await openSession({
      url,
      name: 'postgrest schema cache',
      // A read that fails because the connection went is made good by the next session.
      listen: { pgrst: () => void reload().catch(() => {}) },
      onClose: closed.resolve,
    })
    session = { sql, closed: closed.promise }
    // Nothing is in reach, so every type name comes with its schema.
    await sql`set search_path = ''`
    await reload()
  }

  /** Opens the next session whenever one has ended. */
  async function follow(): Promise<void> {
    while (!isStopped) {
      await session?.closed
      session = undefined
      await delay(reconnectMilliseconds, undefined, { ref: false })
      if (!isStopped) await connect().catch(() => session?.sql.end({ timeout: 0 }))
    }
  }

  await connect()
  const following = follow()
  return {
    current: () => reloading ?? snapshot ?? reload(),
    async settled() {
      // What the session was notified of before this query arrives with its answer.
      await session?.sql.unsafe('select 1').catch(() => {})
      return reloading ?? snapshot ?? reload()
    },
    onReload(listener) {
      listeners.add(listener)
      if (snapshot) listener(snapshot)
      return () => listeners.delete(listener)
    },
    async stop() {
      isStopped = true
      await session?.sql.end({ timeout: 1 })
      await following
    },
  }
}

async function readSnapshot(sql: postgres.Sql | undefined, schemas: string[]): Promise<Snapshot> {
  if (!sql) throw new Error('The connection to the database is lost')
  return {
    routines: await readRoutines(sql, schemas),
    relations: await readRelations(sql, schemas),
    roleSettings: await readSettings(sql),
    arrayTypes: await sql<ArrayType[]>`
      select a.oid, coalesce(nullif(e.typbasetype, 0), e.oid) as element
      from pg_type e
      join pg_type a on a.oid = e.typarray
      where e.typtype <> 'c'`,
  }
}

interface RoutineRow {
  schema: string
  name: string
  result: Routine['result']
  returns_set: boolean
  is_volatile: boolean
  settings: string[]
  parameters: Parameter[]
}

async function readRoutines(sql: postgres.Sql, schemas: string[]): Promise<Map<string, Routine[]>> {
  const rows = await sql<RoutineRow[]>`
    select n.nspname as schema, p.proname as name, p.proretset as returns_set,
      p.provolatile = 'v' as is_volatile, coalesce(to_json(p.proconfig), '[]') as settings,
      case
        when p.prorettype = 'void'::regtype then 'void'
        when p.proargmodes && '{o,b,t}'::"char"[] or r.typtype = 'c' or b.typtype = 'c' then 'composite'
        else 'scalar'
      end as result,
      coalesce((
        select json_agg(json_build_object(
          'name', coalesce(a.name, ''),
          -- A bare "character" or "bit" would cut the value to length 1.
          'type', regexp_replace(format_type(a.type, null), '^(character|bit)(?=$|\\[)', '\\1 varying'),
          'isRequired', a.position <= p.pronargs - p.pronargdefaults,
          'isVariadic', a.mode is not distinct from 'v') order by a.position)
        from (
          select p.proargnames[i.ordinality] as name, i.mode, i.type,
            row_number() over (order by i.ordinality) as position
          from unnest(coalesce(p.proallargtypes, p.proargtypes::oid[]), p.proargmodes)
            with ordinality as i (type, mode, ordinality)
          where i.mode is null or i.mode in ('i', 'b', 'v')
        ) as a
      ), '[]') as parameters
    from pg_proc p
    join pg_namespace n on n.oid = p.pronamespace
    join pg_type r on r.oid = p.prorettype
    left join pg_type b on b.oid = r.typbasetype
    where p.prokind = 'f' and n.nspname in ${sql(schemas)}
      and p.prorettype not in ('trigger'::regtype, 'event_trigger'::regtype)
    order by n.nspname, p.proname, p.oid`
  const routines = new Map<string, Routine[]>()
  for (const row of rows) {
    const key = `${row.schema}.${row.name}`
    const routine: Routine = {
      schema: row.schema,
      name: row.name,
      parameters: row.parameters,
      result: row.result,
      returnsSet: row.returns_set,
      isVolatile: row.is_volatile,
      settings: hoisted(row.settings),
    }
    routines.set(key, [...(routines.get(key) ?? []), routine])
  }
  return routines
}

/** Settings of a function that only work when made before it runs (db-hoisted-tx-settings). */
const hoistedNames = new Set(['statement_timeout', 'default_transaction_isolation'])

function hoisted(settings: string[]): Record<string, string> {
  const pairs = settings.map((setting): [string, string] => {
    const at = setting.indexOf('=')
    return [setting.slice(0, at).toLowerCase(), setting.slice(at + 1)]
  })
  return Object.fromEntries(pairs.filter(([name]) => hoistedNames.has(name)))
}

async function readRelations(sql: postgres.Sql, schemas: string[]): Promise<Set<string>> {
  const rows = await sql<{ name: string }[]>`
    select n.nspname || '.' || c.relname as name
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'v', 'm', 'f', 'p') and n.nspname in ${sql(schemas)}`
  return new Set(rows.map((row) => row.name))
}

async function readSettings(sql: postgres.Sql): Promise<Map<string, Record<string, string>>> {
  const rows = await sql<{ role: string; name: string; value: string }[]>`
    select r.rolname as role, split_part(s.setting, '=', 1) as name,
      substr(s.setting, strpos(s.setting, '=') + 1) as value
    from pg_db_role_setting d
    join pg_roles r on r.oid = d.setrole
    cross join unnest(d.setconfig) as s (setting)
    join pg_settings g on g.name = split_part(s.setting, '=', 1) and g.context = 'user'
    where d.setdatabase in (0, (select oid from pg_database where datname = current_database()))
      and pg_has_role(r.oid, 'member') and r.rolname <> current_user
    order by d.setdatabase`
  const settings = new Map<string, Record<string, string>>()
  for (const { role, name, value } of rows) {
    settings.set(role, { ...settings.get(role), [name]: value })
  }
  return settings
}
