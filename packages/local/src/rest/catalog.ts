import postgres from 'postgres'

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
  /** `alter role … set …` of the roles a caller can have. */
  roleSettings: ReadonlyMap<string, Record<string, string>>
}

export interface Catalog {
  /** The newest snapshot; waits for a reload that has begun. */
  current(): Snapshot | Promise<Snapshot>
  /** Called after each reload. Returns the function that ends it. */
  onReload(listener: () => void): () => void
  stop(): Promise<void>
}

/**
 * Reads the exposed schemas and reads them again at NOTIFY pgrst, which 25_rest.sql sends on DDL.
 * `url` logs in as `authenticator`.
 */
export async function openCatalog(url: string, schemas: string[]): Promise<Catalog> {
  const sql = postgres(url, {
    max: 1,
    idle_timeout: 20,
    fetch_types: false,
    onnotice: () => {},
    // Nothing is in reach, so every type name comes with its schema.
    connection: { search_path: '' },
  })
  const listeners = new Set<() => void>()
  let snapshot: Snapshot | undefined
  let reloading: Promise<Snapshot> | undefined
  let isStale = false

  async function read(): Promise<Snapshot> {
    let found: Snapshot
    do {
      isStale = false
      found = { routines: await readRoutines(sql, schemas), roleSettings: await readSettings(sql) }
    } while (isStale)
    snapshot = found
    for (const listener of listeners) listener()
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

  const refresh = (): void => {
    // A failed read (the database restarts) leaves the old snapshot; `onlisten` reads again.
    reload().catch(() => {})
  }
  await sql.listen('pgrst', refresh, refresh)
  await reload()
  return {
    current: () => reloading ?? snapshot ?? reload(),
    onReload(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    stop: () => sql.end({ timeout: 1 }),
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
