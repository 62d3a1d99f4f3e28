import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openShop, refusal, type Session, type Shop, type Sql } from './actors.ts'
import {
  addMember,
  claimOne,
  commit,
  createTenant,
  createUser,
  enqueueOne,
  fail,
  modelCall,
  modelStep,
  startOne,
  type Tenant,
} from './tenant.ts'

let shop: Shop
let tenant: Tenant

beforeAll(async () => {
  shop = await openShop()
  tenant = await createTenant(shop, {
    tools: { note: { description: 'Writes a note.' } },
    definition: { tools: ['note'] },
  })
  // One row in every table that has a project.
  const lease = await startOne(shop, tenant)
  await enqueueOne(shop, tenant, { after: [lease.task_id] })
  await commit(shop, lease, {
    steps: [modelStep],
    calls: [modelCall(1)],
    outcome: {
      status: 'awaiting_approval',
      card: { title: 'Send?', action: { tool: 'note', args: {}, call_id: 'c1' }, risk: 'high' },
    },
  })
  await enqueueOne(shop, tenant)
  await fail(shop, await claimOne(shop, tenant), 'permission')
  await enqueueOne(shop, tenant)
  // Sealing waits for every transaction of the cluster that is older, those of other test files too.
  for (let round = 0; round < 2000; round += 1) {
    await shop.asService((sql) => sql`select nightshift.sweep()`)
    const [row] = await shop.owner`select exists (select from nightshift.audit_seals) as sealed`
    if (row?.sealed) break
  }
  await shop.asUser(
    tenant.owner,
    (sql) =>
      sql`select nightshift.set_limit(${tenant.project}, 'agent', 'clerk', '{"max_running": 9}')`,
  )
  await shop.asUser(
    tenant.owner,
    (sql) => sql`
      select nightshift.run_rhythm_now(nightshift.set_rhythm(${tenant.project}, 'daily',
        '{"schedule": "0 7 * * *", "act": {"agent": "clerk"}}'))`,
  )
})
afterAll(() => shop.close())

const role = (name: string, action: (user: string) => Promise<unknown>): Promise<unknown> =>
  addMember(shop, tenant, name).then(action)

describe('membership', () => {
  test('whoever creates a project owns it', async () => {
    const rows = await shop.asUser(
      tenant.owner,
      (sql) =>
        sql`select user_id, role from nightshift.members where project_id = ${tenant.project}`,
    )
    expect(rows).toContainEqual({ user_id: tenant.owner, role: 'owner' })
  })

  test('an owner adds, changes and removes members', async () => {
    const user = await addMember(shop, tenant, 'viewer')
    const setRole = (to: string | null): Promise<unknown> =>
      shop.asUser(
        tenant.owner,
        (sql) => sql`select nightshift.set_member(${tenant.project}, ${user}, ${to})`,
      )
    const seen = async (): Promise<number> =>
      (await shop.asUser(user, (sql) => sql`select id from nightshift.projects`)).length
    expect(await seen()).toBe(1)
    await setRole('operator')
    expect(await seen()).toBe(1)
    await setRole(null)
    expect(await seen()).toBe(0)
  })

  test('only owners change members', async () => {
    const user = await createUser(shop)
    for (const name of ['operator', 'reviewer', 'auditor', 'viewer']) {
      const refused = await refusal(
        role(name, (member) =>
          shop.asUser(
            member,
            (sql) => sql`select nightshift.set_member(${tenant.project}, ${user}, 'owner')`,
          ),
        ),
      )
      expect(refused).toMatchObject({ code: 'NS011', status: 403, details: 'role_required' })
      expect(refused.message).toBe(`Cannot change members in this project with role "${name}"`)
      expect(refused.hint).toBe('Needs one of the roles: owner.')
    }
  })

  test('the last owner stays', async () => {
    for (const to of [null, 'viewer']) {
      const refused = await refusal(
        shop.asUser(
          tenant.owner,
          (sql) => sql`select nightshift.set_member(${tenant.project}, ${tenant.owner}, ${to})`,
        ),
      )
      expect(refused).toMatchObject({ code: 'NS001', status: 400 })
    }
  })

  test('unknown roles are refused', async () => {
    const refused = await refusal(addMember(shop, tenant, 'king'))
    expect(refused).toMatchObject({ code: 'NS001', message: 'Unknown role "king"' })
  })

  test('a stranger and an unknown project get the same answer', async () => {
    const stranger = await createUser(shop)
    const ask = (project: string): Promise<unknown> =>
      shop.asUser(
        stranger,
        (sql) => sql`select nightshift.set_member(${project}, ${stranger}, 'owner')`,
      )
    const foreign = await refusal(ask(tenant.project))
    const unknown = await refusal(ask('00000000-0000-4000-8000-000000000000'))
    expect(foreign).toMatchObject({ code: 'NS010', status: 404 })
    expect(foreign.message.replace(tenant.project, 'X')).toBe(
      unknown.message.replace('00000000-0000-4000-8000-000000000000', 'X'),
    )
  })

  test('in SQL a fault is a plain error whose SQLSTATE is the code', async () => {
    const refused = await refusal(
      shop.asUserInSql(
        await createUser(shop),
        (sql) => sql`select nightshift.set_member(${tenant.project}, ${tenant.owner}, null)`,
      ),
    )
    expect(refused).toMatchObject({ code: 'NS010', details: 'project_not_found', status: null })
    expect(refused.hint).toContain('ask an owner')
  })
})

describe('who is the service', () => {
  test('the secret key and sessions of the database itself are', async () => {
    const ask = (sql: Sql | Session): Promise<unknown> =>
      sql`select nightshift.audit_verify(${tenant.project})`
    await shop.asService(ask)
    await ask(shop.owner)
  })
  test('claims without a role are not', async () => {
    const refused = await refusal(
      shop.asService(async (sql) => {
        await sql`select set_config('request.jwt.claims', '{"sub":"00000000-0000-4000-8000-000000000000"}', true)`
        await sql`select nightshift.audit_verify(${tenant.project})`
      }),
    )
    expect(refused.code).toBe('NS010')
  })
  test('a public role without claims is not', async () => {
    const refused = await refusal(
      shop.asUser(tenant.owner, async (sql) => {
        await sql`select set_config('request.jwt.claims', '', true)`
        await sql`select nightshift.audit_verify(${tenant.project})`
      }),
    )
    expect(refused.code).toBe('NS010')
  })
})

describe('row-level security', () => {
  /** Kinds as in pg_class: r tables, v views. */
  const relations = async (kinds: string): Promise<string[]> => {
    const rows = await shop.owner`
      select relname as name from pg_class
      where relnamespace = 'nightshift'::regnamespace and relkind = any (string_to_array(${kinds}, null))`
    return rows.map((row) => row.name)
  }
  /** Tables whose rows belong to nobody in particular. */
  const shared = [
    'agent_templates',
    'failure_policies',
    'models',
    'rhythm_templates',
    'task_transitions',
  ]
  const countAs = async (user: string, table: string): Promise<number> => {
    const [row] = await shop.asUser(
      user,
      (sql) => sql`select count(*) from ${sql(`nightshift.${table}`)}`,
    )
    return Number(row?.count)
  }

  test('an owner sees rows in every table, another tenant none', async () => {
    const other = await createTenant(shop)
    for (const table of await relations('rv')) {
      if (shared.includes(table)) continue
      const [foreign] = await shop.asUser(
        other.owner,
        (sql) => sql`select count(*) from ${sql(`nightshift.${table}`)}
          where to_jsonb(${sql(table)}) ->> ${table === 'projects' ? 'id' : 'project_id'} = ${tenant.project}`,
      )
      expect.soft(Number(foreign?.count), `rows of ${table} for another tenant`).toBe(0)
      if (table === 'v_stranded') continue
      expect
        .soft(await countAs(tenant.owner, table), `rows of ${table} for the owner`)
        .toBeGreaterThan(0)
    }
  })

  test('anon may read nothing and call nothing', async () => {
    for (const table of await relations('rv')) {
      const refused = await refusal(
        shop.asAnon((sql) => sql`select 1 from ${sql(`nightshift.${table}`)}`),
      )
      expect.soft(refused.code, table).toBe('42501')
    }
    const refused = await refusal(shop.asAnon((sql) => sql`select nightshift.enqueue('[]')`))
    expect(refused.code).toBe('42501')
  })

  test('prompts and the audit trail are closed to viewers', async () => {
    const viewer = await addMember(shop, tenant, 'viewer')
    for (const table of ['llm_calls', 'audit_events']) expect(await countAs(viewer, table)).toBe(0)
    for (const table of ['tasks', 'steps', 'cards', 'agents', 'tools', 'members'])
      expect(await countAs(viewer, table)).toBeGreaterThan(0)
    for (const name of ['reviewer', 'auditor', 'operator']) {
      const member = await addMember(shop, tenant, name)
      expect(await countAs(member, 'llm_calls')).toBeGreaterThan(0)
    }
  })

  test('nobody writes tables past the functions', async () => {
    for (const table of await relations('r')) {
      for (const verb of ['delete from', 'truncate']) {
        const write = (sql: Session): Promise<unknown> => sql.unsafe(`${verb} nightshift.${table}`)
        const service = await refusal(shop.asService(write))
        const owner = await refusal(shop.asUser(tenant.owner, write))
        expect.soft([service.code, owner.code], `${verb} ${table}`).toEqual(['42501', '42501'])
      }
    }
    const update = await refusal(
      shop.asService((sql) => sql`update nightshift.tasks set status = 'completed' where true`),
    )
    expect(update.code).toBe('42501')
  })

  test('helpers in nightshift_private are closed to members', async () => {
    const refused = await refusal(
      shop.asUser(tenant.owner, (sql) => sql`select nightshift_private.sweep()`),
    )
    expect(refused.code).toBe('42501')
    const errors = await refusal(
      shop.asUser(tenant.owner, (sql) => sql`select * from nightshift_private.errors`),
    )
    expect(errors.code).toBe('42501')
  })

  test('policies ask for memberships once per statement, not per row', async () => {
    const plan = await shop.asUser(
      tenant.owner,
      (sql) => sql`explain (costs off) select * from nightshift.tasks`,
    )
    const lines = plan.map((row) => row['QUERY PLAN']).join('\n')
    expect(lines).toContain('InitPlan')
    expect(lines).not.toMatch(/Filter:.*my_projects/)
  })
})
