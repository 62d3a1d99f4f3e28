import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openShop, refusal, type Session, type Shop, type Sql } from './actors.ts'
import {
  addMember,
  claimOne,
  commit,
  complete,
  createTenant,
  createUser,
  enqueue,
  enqueueOne,
  modelCall,
  modelStep,
  startOne,
  sweep,
  type Tenant,
} from './tenant.ts'

interface Report {
  ok: boolean
  events: number
  calls: number
  seals: number
  unsealed: number
  head: string | null
  findings: { check: string; object: string; detail: string }[]
}

let shop: Shop
beforeAll(async () => {
  shop = await openShop()
})
afterAll(() => shop.close())

const verify = async (tenant: Tenant, user = tenant.owner): Promise<Report> => {
  const [row] = await shop.asUser(
    user,
    (sql) => sql<{ report: Report }[]>`select nightshift.audit_verify(${tenant.project}) as report`,
  )
  if (!row) throw new Error('audit_verify answered nothing')
  return row.report
}

/** Sweeps until all is sealed: transactions of sibling test files hold the horizon back for a moment. */
async function seal(tenant: Tenant): Promise<Report> {
  for (const deadline = Date.now() + 10_000; Date.now() < deadline; ) {
    await sweep(shop)
    const report = await verify(tenant)
    if (report.unsealed === 0) return report
  }
  throw new Error('events stay unsealed')
}

/** A project with two sealed batches: a task with two model calls, and one that came later. */
async function history(): Promise<Tenant> {
  const tenant = await createTenant(shop)
  const lease = await startOne(shop, tenant)
  await commit(shop, lease, { steps: [modelStep], calls: [modelCall(1)] })
  await seal(tenant)
  await commit(shop, lease, {
    after: 1,
    steps: [modelStep],
    calls: [modelCall(1)],
    outcome: { status: 'completed', output: {} },
  })
  await enqueueOne(shop, tenant)
  await seal(tenant)
  return tenant
}

describe('events', () => {
  test('one per transition, with who did it', async () => {
    const tenant = await createTenant(shop)
    const lease = await startOne(shop, tenant, { input: { secret: 'swordfish' } })
    await commit(shop, lease, {
      steps: [modelStep],
      calls: [modelCall(1, { prompt: { text: 'swordfish' } })],
      outcome: {
        status: 'awaiting_approval',
        card: { title: 'swordfish', action: { tool: 't', args: 'swordfish' }, risk: 'low' },
      },
    })
    const [card] =
      await shop.owner`select id, digest from nightshift.cards where task_id = ${lease.task_id}`
    await shop.asUser(
      tenant.owner,
      (sql) => sql`select nightshift.decide(${card?.id}, 'approve', ${card?.digest})`,
    )
    await complete(shop, [await claimOne(shop, tenant)], { text: 'swordfish' })
    const events = await shop.owner`
      select action, actor_kind, actor from nightshift.audit_events where task_id = ${lease.task_id} order by id`
    const person = { actor_kind: 'person', actor: tenant.owner }
    const worker = { actor_kind: 'worker', actor: 'worker' }
    expect([...events]).toEqual([
      { action: 'task.enqueued', ...person },
      { action: 'task.running', ...worker },
      { action: 'model.called', actor_kind: 'worker', actor: `task ${lease.task_id}` },
      { action: 'task.awaiting_approval', ...worker },
      { action: 'task.pending', ...person },
      { action: 'card.decided', ...person },
      { action: 'task.running', ...worker },
      { action: 'task.completed', ...worker },
    ])
    const [leak] = await shop.owner`
      select count(*) from nightshift.audit_events e where e.project_id = ${tenant.project} and e::text like '%swordfish%'`
    expect(leak?.count).toBe(0)
  })

  test('definitions and memberships leave events too', async () => {
    const tenant = await createTenant(shop, { tools: { note: { description: 'x' } } })
    const viewer = await addMember(shop, tenant, 'viewer')
    await shop.asUser(
      tenant.owner,
      (sql) => sql`select nightshift.set_member(${tenant.project}, ${viewer}, null)`,
    )
    const events = await shop.owner`
      select action, object_id from nightshift.audit_events where project_id = ${tenant.project} order by id`
    expect([...events]).toEqual([
      { action: 'members.insert', object_id: tenant.owner },
      { action: 'tools.insert', object_id: 'note' },
      { action: 'agents.insert', object_id: 'clerk' },
      { action: 'members.insert', object_id: viewer },
      { action: 'members.delete', object_id: viewer },
    ])
  })

  test('an event lives and dies with the transaction it describes', async () => {
    const tenant = await createTenant(shop)
    const body = { project: tenant.project, agent: 'clerk', input: {} }
    const actions = (sql: Sql | Session): Promise<readonly { same: boolean }[]> =>
      sql<
        { same: boolean }[]
      >`select xid = pg_current_xact_id() as same from nightshift.audit_events
        where project_id = ${tenant.project} and action = 'task.enqueued'`
    await shop
      .asUser(tenant.owner, async (sql) => {
        await sql`select nightshift.enqueue(${sql.json(body)})`
        expect([...(await actions(sql))]).toEqual([{ same: true }])
        throw new Error('roll back')
      })
      .catch(() => {})
    expect(await actions(shop.owner)).toHaveLength(0)
  })

  test('1,000 tasks in one call leave 1,000 events', async () => {
    const tenant = await createTenant(shop)
    await enqueue(
      shop,
      tenant,
      Array.from({ length: 1000 }, () => ({})),
    )
    const [row] = await shop.owner`
      select count(*), count(distinct object_id) as tasks from nightshift.audit_events
      where project_id = ${tenant.project} and action = 'task.enqueued'`
    expect(row).toEqual({ count: 1000, tasks: 1000 })
  })
})

describe('append-only', () => {
  const tables = ['audit_events', 'audit_seals', 'llm_calls', 'steps']
  const statements = (table: string): string[] => [
    `update nightshift.${table} set project_id = gen_random_uuid() where true`,
    `delete from nightshift.${table} where true`,
    `truncate nightshift.${table}`,
    `truncate nightshift.${table} cascade`,
  ]

  test.each(tables)('%s for the owner of the tables', async (table) => {
    await history()
    for (const statement of [
      ...statements(table),
      'truncate nightshift.tasks cascade',
      'truncate nightshift.projects cascade',
    ]) {
      const refused = await refusal(shop.owner.unsafe(statement))
      expect(refused, statement).toMatchObject({ code: 'NS050', details: 'append_only' })
    }
  })

  test.each(tables)('%s for the service', async (table) => {
    for (const statement of [
      ...statements(table),
      `insert into nightshift.${table} default values`,
    ]) {
      const refused = await refusal(shop.asService((sql) => sql.unsafe(statement)))
      expect(refused.code, statement).toBe('42501')
    }
  })
})

describe('audit_verify', () => {
  test('finds nothing on a healthy project', async () => {
    const tenant = await history()
    const report = await verify(tenant)
    expect(report).toMatchObject({ ok: true, calls: 2, unsealed: 0, findings: [] })
    expect(report.seals).toBeGreaterThanOrEqual(2)
    expect(report.head).toMatch(/^[0-9a-f]{64}$/)
    const [row] =
      await shop.owner`select sum(events) as sealed from nightshift.audit_seals where project_id = ${tenant.project}`
    expect(Number(row?.sealed)).toBe(report.events)
  })

  test('is for owners, operators, reviewers and auditors', async () => {
    const tenant = await createTenant(shop)
    for (const role of ['operator', 'reviewer', 'auditor']) {
      expect((await verify(tenant, await addMember(shop, tenant, role))).ok).toBe(true)
    }
    expect((await refusal(verify(tenant, await addMember(shop, tenant, 'viewer')))).code).toBe(
      'NS011',
    )
    expect((await refusal(verify(tenant, await createUser(shop)))).code).toBe('NS010')
  })

  /** What an intruder with superuser rights does, and which check notices. */
  const attacks: [string, string, string[]][] = [
    [
      'an edited event',
      `update audit_events set meta = '{"cost_usd": 0}' where project_id = $1 and action = 'model.called'`,
      ['leaf'],
    ],
    [
      'an event edited together with its leaf',
      `with changed as (update audit_events set actor = 'somebody else' where project_id = $1 and action = 'task.running' returning *)
       update audit_events e set leaf = nightshift_private.audit_leaf(e) from changed where e.id = changed.id;
       update audit_events e set leaf = nightshift_private.audit_leaf(e) where project_id = $1`,
      ['seal'],
    ],
    [
      'a deleted event',
      `delete from audit_events where project_id = $1 and action = 'task.running'`,
      ['seal'],
    ],
    [
      'a deleted first event',
      `delete from audit_events where project_id = $1 and action = 'task.enqueued'`,
      ['seal', 'task'],
    ],
    [
      'an event moved behind the others',
      `insert into audit_events (project_id, at, xid, actor_kind, actor, action, object_type, object_id, meta, leaf)
         select project_id, at, xid, actor_kind, actor, action, object_type, object_id, meta, '' from audit_events
         where project_id = $1 and action = 'agents.insert';
       delete from audit_events where project_id = $1 and action = 'agents.insert' and leaf <> '';
       update audit_events e set leaf = nightshift_private.audit_leaf(e) where project_id = $1`,
      ['seal'],
    ],
    [
      'an edited prompt',
      `update llm_calls set prompt = '"harmless"' where project_id = $1`,
      ['call'],
    ],
    [
      'an edited output',
      `update llm_calls set output = '"harmless"' where project_id = $1`,
      ['call'],
    ],
    [
      'an output edited together with its digest',
      `update llm_calls set output = '"harmless"', content_digest = nightshift_private.call_digest(prompt, '"harmless"', null) where project_id = $1`,
      ['call'],
    ],
    [
      'a deleted model call',
      `delete from llm_calls where project_id = $1`,
      ['missing call', 'step'],
    ],
    [
      'the last seal deleted',
      `delete from audit_seals s where project_id = $1 and number = (select max(number) from audit_seals where project_id = $1)`,
      ['unsealed'],
    ],
    [
      'the first seal deleted',
      `delete from audit_seals where project_id = $1 and number = 1`,
      ['chain', 'unsealed'],
    ],
    [
      'an edited seal',
      `update audit_seals set events = events + 1 where project_id = $1 and number = 1`,
      ['chain', 'seal'],
    ],
    [
      'a back-dated event inside a sealed range',
      `insert into audit_events (project_id, xid, actor_kind, action, object_type, object_id, leaf)
         select project_id, from_xid, 'system', 'task.running', 'task', '1', '' from audit_seals where project_id = $1 and number = 1;
       update audit_events e set leaf = nightshift_private.audit_leaf(e) where project_id = $1`,
      ['seal'],
    ],
    [
      'a back-dated event before all seals',
      `insert into audit_events (project_id, xid, actor_kind, action, object_type, object_id, leaf)
         values ($1, '3', 'system', 'task.running', 'task', '1', '');
       update audit_events e set leaf = nightshift_private.audit_leaf(e) where project_id = $1`,
      ['unsealed'],
    ],
  ]
  test.each(attacks)('finds %s', async (_name, statements, checks) => {
    const tenant = await history()
    await shop.admin.begin(async (sql) => {
      await sql`set local session_replication_role = replica`
      await sql`set local search_path = nightshift`
      await sql.unsafe(statements.replaceAll('$1', `'${tenant.project}'`))
    })
    const report = await verify(tenant)
    expect(report.ok).toBe(false)
    expect([...new Set(report.findings.map((finding) => finding.check))].sort()).toEqual(checks)
  })

  test('one project cannot spoil the report of another', async () => {
    const [spoiled, healthy] = [await history(), await history()]
    await shop.admin.begin(async (sql) => {
      await sql`set local session_replication_role = replica`
      await sql`delete from nightshift.audit_events where project_id = ${spoiled.project}`
    })
    expect((await verify(healthy)).ok).toBe(true)
  })
})

describe('seals', () => {
  test('a transaction that commits late does not slip under a seal', async () => {
    const tenant = await createTenant(shop)
    const body = { project: tenant.project, agent: 'clerk', input: {} }
    let during: Report | undefined
    await shop.asUser(tenant.owner, async (sql) => {
      await sql`select nightshift.enqueue(${sql.json(body)})`
      // Somebody else starts later and commits first; the sweep must not seal beyond the one still open.
      await enqueueOne(shop, tenant)
      await sweep(shop)
      during = await verify(tenant)
    })
    expect(during?.unsealed).toBeGreaterThan(0)
    expect((await verify(tenant)).findings).toEqual([])
    expect(await seal(tenant)).toMatchObject({ ok: true, unsealed: 0 })
  })

  test('parallel writers and sweeps leave a log that verifies', async () => {
    const tenant = await createTenant(shop)
    const work = Array.from({ length: 30 }, async (_, i) => {
      if (i % 5 === 4) await sweep(shop)
      else await enqueueOne(shop, tenant)
    })
    await Promise.all(work)
    expect(await seal(tenant)).toMatchObject({ ok: true, findings: [] })
  })

  test('the Merkle root is RFC 6962', async () => {
    const { createHash } = await import('node:crypto')
    const hash = (...parts: Buffer[]): Buffer =>
      createHash('sha256').update(Buffer.concat(parts)).digest()
    const root = (leaves: Buffer[]): Buffer => {
      if (leaves.length === 1) return leaves[0] ?? Buffer.alloc(0)
      const split = 2 ** Math.ceil(Math.log2(leaves.length) - 1)
      return hash(Buffer.from([1]), root(leaves.slice(0, split)), root(leaves.slice(split)))
    }
    for (const size of [1, 2, 3, 5, 6, 7, 8, 13]) {
      const leaves = Array.from({ length: size }, (_, i) => hash(Buffer.from([0, i])))
      const [row] = await shop.owner`
        select nightshift_private.merkle_root(array_agg(decode(leaf, 'hex') order by place)) as root
        from unnest(${leaves.map((leaf) => leaf.toString('hex'))}::text[]) with ordinality as l (leaf, place)`
      expect(row?.root.toString('hex'), `${size} leaves`).toBe(root(leaves).toString('hex'))
    }
  })
})
