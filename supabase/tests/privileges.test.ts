import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openShop, type Shop } from './actors.ts'

let shop: Shop
beforeAll(async () => {
  shop = await openShop()
})
afterAll(() => shop.close())

const tablePrivileges = [
  'select',
  'insert',
  'update',
  'delete',
  'truncate',
  'references',
  'trigger',
  'maintain',
]

/** Tables and views a role has some right on, as `schema.name right`. */
async function rightsOn(role: string): Promise<string[]> {
  const rows = await shop.owner`
    select c.oid::regclass::text || ' ' || privilege as line
    from pg_class c cross join unnest(${tablePrivileges}::text[]) privilege
    where c.relnamespace in ('nightshift'::regnamespace, 'nightshift_private'::regnamespace) and c.relkind in ('r', 'v')
      and (has_table_privilege(${role}, c.oid, privilege)
        or (privilege in ('select', 'insert', 'update', 'references') and has_any_column_privilege(${role}, c.oid, privilege)))
    order by 1`
  return rows.map((row) => row.line)
}

async function functionsOf(role: string): Promise<string[]> {
  const rows = await shop.owner`
    select p.pronamespace::regnamespace || '.' || p.proname as line from pg_proc p
    where p.pronamespace in ('nightshift'::regnamespace, 'nightshift_private'::regnamespace)
      and has_function_privilege(${role}, p.oid, 'execute') order by 1`
  return rows.map((row) => row.line)
}

const people = [
  'audit_verify',
  'bulk',
  'cancel',
  'create_project',
  'decide',
  'enqueue',
  'install_rhythm',
  'move',
  'next_runs',
  'pause_rhythm',
  'replay',
  'resume_rhythm',
  'retry',
  'run_rhythm_now',
  'set_agent',
  'set_limit',
  'set_member',
  'set_rhythm',
  'set_tool',
  'task_tree',
  'why',
]
const workers = [
  'claim',
  'commit_tick',
  'complete',
  'fail',
  'gather_runs',
  'heartbeat',
  'load_session',
  'release',
  'sweep',
]
/** Give no more than the caller has; they run a query with the rights of a person. */
const gathering = [
  'check_rhythm',
  'prepare_template',
  'query_problem',
  'read_rows',
  'save_rhythm',
  'view_problem',
]
const exposed = (names: string[]): string[] => names.map((name) => `nightshift.${name}`)

describe('privileges', () => {
  test('anon has nothing', async () => {
    expect(await rightsOn('anon')).toEqual([])
    expect(await functionsOf('anon')).toEqual([])
  })

  test('PUBLIC has no function', async () => {
    const rows = await shop.owner`
      select p.oid::regprocedure::text from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
      where p.pronamespace in ('nightshift'::regnamespace, 'nightshift_private'::regnamespace) and a.grantee = 0`
    expect([...rows]).toEqual([])
  })

  test('members call what people need, and the helpers that policies and defaults need', async () => {
    // They run in the name of whoever reads, inserts or has a rhythm gather.
    const helpers = ['is_awake', 'may_hear', 'my_projects', 'now', ...gathering].map(
      (name) => `nightshift_private.${name}`,
    )
    expect(await functionsOf('authenticated')).toEqual([...exposed(people), ...helpers].sort())
  })

  test('the service calls that and the worker functions', async () => {
    const own = ['end_gather', 'gather', 'gather_runs', 'is_awake', 'now', 'take_gathers']
    const helpers = [...own, ...gathering].map((name) => `nightshift_private.${name}`)
    expect(await functionsOf('service_role')).toEqual(
      [...exposed([...people, ...workers]), ...helpers].sort(),
    )
  })

  test.each(['authenticated', 'service_role'])(
    '%s reads and inserts tasks, no more',
    async (role) => {
      const rights = await rightsOn(role)
      expect(rights.filter((right) => !right.endsWith(' select'))).toEqual([
        'nightshift.tasks insert',
      ])
      expect(rights.filter((right) => right.includes('nightshift_private'))).toEqual([])
    },
  )

  test('only the columns of the caller may be inserted', async () => {
    const rows = await shop.owner`
      select attname from pg_attribute where attrelid = 'nightshift.tasks'::regclass and attnum > 0
        and has_column_privilege('authenticated', attrelid, attnum, 'insert') order by attname`
    expect(rows.map((row) => row.attname)).toEqual([
      ...[
        'agent',
        'budget_usd',
        'concurrency_key',
        'deadline_at',
        'idempotency_key',
        'input',
        'labels',
        'lane',
        'parent_id',
      ],
      ...['project_id', 'purpose', 'queue', 'run_at', 'subject'],
    ])
  })

  test('sequences are closed to all', async () => {
    for (const role of ['anon', 'authenticated', 'service_role']) {
      const rows = await shop.owner`
        select relname from pg_class
        where relnamespace in ('nightshift'::regnamespace, 'nightshift_private'::regnamespace)
          and case relkind when 'S' then has_sequence_privilege(${role}, oid, 'usage, select, update') end`
      expect([...rows], role).toEqual([])
    }
  })
})

describe('safety of the definitions', () => {
  test('every exposed table has row security and a policy, every view runs as its reader', async () => {
    const tables = await shop.owner`
      select relname from pg_class c where relnamespace = 'nightshift'::regnamespace and relkind = 'r'
        and not (relrowsecurity and exists (select from pg_policy where polrelid = c.oid))`
    expect([...tables]).toEqual([])
    const views = await shop.owner`
      select relname from pg_class where relnamespace = 'nightshift'::regnamespace and relkind in ('v', 'm')
        and not coalesce('security_invoker=true' = any (reloptions), false)`
    expect([...views]).toEqual([])
  })

  test('every policy is for members only and asks once per statement', async () => {
    const rows = await shop.owner`
      select polname, pg_get_expr(coalesce(polqual, polwithcheck), polrelid) as expression, polroles = array['authenticated'::regrole::oid] as members
      from pg_policy p join pg_class c on c.oid = p.polrelid where c.relnamespace = 'nightshift'::regnamespace`
    expect(rows.length).toBeGreaterThan(10)
    for (const row of rows) {
      expect(row.members, row.polname).toBe(true)
      expect(row.expression, row.polname).toMatch(
        /^true$|= ANY \(ARRAY\( SELECT nightshift_private\.my_projects\(/,
      )
    }
  })

  test('every function has its search_path pinned to nothing', async () => {
    const rows = await shop.owner`
      select p.oid::regprocedure::text from pg_proc p
      where p.pronamespace in ('nightshift'::regnamespace, 'nightshift_private'::regnamespace)
        and not coalesce('search_path=""' = any (proconfig), false)
        -- A body in the SQL standard's form has its names bound when it is created.
        and p.prosqlbody is null`
    expect([...rows]).toEqual([])
  })

  test('no function contains an update or delete without where (refused by safeupdate when hosted)', async () => {
    const rows = await shop.owner`
      select p.oid::regprocedure::text as name, prosrc as body from pg_proc p
      where p.pronamespace in ('nightshift'::regnamespace, 'nightshift_private'::regnamespace)`
    expect(rows.length).toBeGreaterThan(50)
    expect(
      rows.flatMap((row) => unguarded(row.body).map((text) => `${row.name}: ${text}`)),
    ).toEqual([])
  })

  test('the search for unguarded statements finds them', () => {
    expect(unguarded('begin update a.b set x = 1; end')).toEqual(['update a.b set x = 1'])
    expect(unguarded('with d as (delete from a.b returning id) select 1 where true')).toHaveLength(
      1,
    )
    expect(
      unguarded('update a t set x = (select 1 from c where d) ; select 1 where true'),
    ).toHaveLength(1)
    expect(unguarded('update a t set x = 1 -- where\n;')).toHaveLength(1)
    expect(
      unguarded(
        "delete from a where x = ';'; insert into a values (1) on conflict do update set x = 2",
      ),
    ).toEqual([])
    expect(
      unguarded('with u as (update a set x = 1 from b where a.i = b.i returning 1) select 1'),
    ).toEqual([])
    expect(unguarded('select 1 from a for update skip locked')).toEqual([])
  })
})

/** Statements in a function body that change rows without a `where` of their own. */
function unguarded(body: string): string[] {
  const text = body.replaceAll(/--[^\n]*/g, '').replaceAll(/'[^']*'/g, "''")
  const starts = text.matchAll(
    /\b(?:update\s+(?!set\b)[\w."]+(?:\s+(?:as\s+)?\w+)?\s+set|delete\s+from)\b/gi,
  )
  return [...starts]
    .map((start) => ownText(text.slice(start.index)))
    .filter((statement) => !/\bwhere\b/i.test(statement))
}

/** The statement at the start of the text, up to its end, without what stands in parentheses. */
function ownText(text: string): string {
  let depth = 0
  let own = ''
  for (const character of text) {
    if (character === ')') depth -= 1
    if (depth < 0 || (depth === 0 && character === ';')) break
    if (depth === 0) own += character
    if (character === '(') depth += 1
  }
  return own.trim()
}
