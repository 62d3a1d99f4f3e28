import postgres from 'postgres'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type PracticeServer, startPractice } from '../../packages/local/src/practice/server.ts'
import { rpcOver } from '../../packages/shared/src/engine/harness.ts'
import { runTask } from '../../packages/shared/src/engine/tick.ts'
import { complete } from '../../packages/shared/src/models/complete.ts'
import { openDatabase } from '../../packages/shared/src/rpc.ts'
import { type Json, openShop, refusal, type Shop } from './actors.ts'
import { fireAt, gatherRuns, type Run, rhythmOf, runsOf } from './rhythm.ts'
import { addMember, createTenant, sweep, type Tenant } from './tenant.ts'

// A Friday noon; what is gathered lies before it.
const noon = new Date('2027-01-15T12:00:00Z')
const ago = (hours: number): Date => new Date(noon.getTime() - hours * 3_600_000)

let shop: Shop
let busy: Tenant
beforeAll(async () => {
  shop = await openShop()
  shop.setClock(ago(20 * 24))
  busy = await createTenant(shop)
  await fill()
})
afterAll(() => shop.close())

type Row = Record<string, Json | Date>

/** Inserts rows as they would be after some weeks of work; triggers and foreign keys look away. */
async function insert(table: string, rows: Row[]): Promise<void> {
  const full = rows.map((row) => ({ project_id: busy.project, ...row }))
  await shop.admin.begin(async (sql) => {
    await sql`set local session_replication_role = 'replica'`
    for (const row of full)
      await sql`insert into ${sql(`nightshift.${table}`)} ${sql(row as never)}`
  })
}

const task = (over: Row): Row => ({
  agent: 'clerk',
  agent_version: 1,
  stream_id: 1,
  queue: busy.queue,
  status: 'completed',
  created_at: ago(3),
  ...over,
})
const done = (hours: number, over: Row = {}): Row =>
  task({
    status: 'completed',
    output: {},
    started_at: ago(hours + 0.1),
    finished_at: ago(hours),
    ...over,
  })
const failed = (hours: number, over: Row = {}): Row =>
  done(hours, {
    status: 'failed',
    output: null,
    failure_class: 'external',
    error: { message: 'The other side was down' },
    ...over,
  })
const call = (hours: number, over: Row = {}): Row => ({
  task_id: 1,
  step_seq: 1,
  agent: 'clerk',
  agent_version: 1,
  purpose: 'operations',
  model: 'claude-haiku-4-5',
  provider: 'anthropic',
  region: 'us',
  processor: 'Anthropic PBC',
  prompt: {},
  error: { message: 'Overloaded' },
  latency_ms: 900,
  cost_usd: 0.01,
  content_digest: 'x',
  started_at: ago(hours),
  created_at: ago(hours),
  ...over,
})

/** One row and more for each template to find. */
async function fill(): Promise<void> {
  await insert('tasks', [
    failed(1),
    failed(2),
    ...[8, 9, 10, 11, 12].map((days) => done(days * 24, { spent_usd: 0.01 })),
    ...[30, 31, 32, 33, 34].map((hours) =>
      done(hours, { started_at: ago(hours + 5), spent_usd: 0.01 }),
    ),
    done(1, { spent_usd: 3 }),
    ...[0.1, 0.2, 0.3, 0.4].map((hours) => failed(hours)),
    task({
      status: 'pending',
      lane: 1,
      run_at: ago(3),
      labels: ['mail'],
      input: { subject: 'Fire!' },
    }),
    task({ status: 'pending', run_at: ago(30), created_at: ago(30), deadline_at: ago(-0.5) }),
    task({ status: 'running', lease_until: ago(1), started_at: ago(2), progress_at: ago(2) }),
    task({ status: 'blocked', open_dependencies: 1 }),
  ])
  await insert(
    'llm_calls',
    [0.1, 0.2, 0.3, 0.4, 0.5].map((hours) => call(hours)),
  )
  const [first] = await shop.admin`select min(id) as id from nightshift.tasks`
  const action = { tool: 'send', args: {} }
  const [digest] =
    await shop.admin`select nightshift_private.sha256_hex(${shop.admin.json(action)}::jsonb::text) as digest`
  const card = {
    task_id: first?.id,
    step_seq: 1,
    title: 'Send?',
    action,
    digest: digest?.digest,
    risk: 'high',
  }
  await insert('cards', [
    { ...card, created_at: ago(3), deadline_at: ago(-9) },
    {
      ...card,
      created_at: ago(3),
      status: 'decided',
      verb: 'reject',
      note: 'Never write to minors',
      decided_at: ago(1),
    },
  ])
  await insert('rhythms', [
    {
      name: 'ill',
      schedule: '* * * * *',
      act: { agent: 'clerk' },
      active: false,
      paused_reason: 'ill',
    },
  ])
  const [ill] = await shop.admin`select id from nightshift.rhythms where name = 'ill'`
  await insert('rhythm_runs', [
    { rhythm_id: ill?.id, slot: ago(5), outcome: 'failed', reason: 'Cannot gather: no table' },
  ])
  const leaf = Buffer.from('tampered')
  await insert('audit_events', [
    {
      at: ago(2),
      actor_kind: 'system',
      action: 'task.enqueued',
      object_type: 'task',
      object_id: '1',
      leaf: leaf as never,
    },
    {
      at: ago(2),
      actor_kind: 'person',
      action: 'agents.insert',
      object_type: 'agents',
      object_id: 'clerk',
      leaf: leaf as never,
    },
  ])
}

/** Installs a template some days before noon and runs it at noon. */
async function runTemplate(
  tenant: Tenant,
  name: string,
  daysBefore: number,
): Promise<Run | undefined> {
  shop.setClock(ago(daysBefore * 24))
  const id = await install(tenant, name)
  shop.setClock(noon)
  await shop.asUser(tenant.owner, (sql) => sql`select nightshift.run_rhythm_now(${id})`)
  await gatherRuns(shop)
  return (await runsOf(shop, id)).at(-1)
}

async function install(
  tenant: Tenant,
  name: string,
  overrides: Record<string, Json> = {},
): Promise<number> {
  const [row] = await shop.asUser(
    tenant.owner,
    (sql) =>
      sql`select nightshift.install_rhythm(${tenant.project}, ${name}, ${sql.json(overrides)}) as id`,
  )
  return row?.id
}

/** Template, and what its first row holds where there is something to find. */
const templates: [name: string, row: Row][] = [
  ['access-review', { action: 'agents.insert', what: 'clerk' }],
  ['audit-verify-nightly', { check: 'leaf' }],
  ['budget-report', { agent: 'clerk', model: 'claude-haiku-4-5', calls: 5, cost_usd: 0.05 }],
  ['cards-waiting', { title: 'Send?', risk: 'high', on_expiry: 'reject' }],
  ['cost-outliers', { agent: 'clerk', spent_usd: 3, median_usd: 0.01 }],
  ['deadline-watch', { status: 'pending', agent: 'clerk' }],
  ['decision-review', { agent: 'clerk', tool: 'send', rejected: 1, approved: 0 }],
  ['failed-task-digest', { agent: 'clerk', failure_class: 'external', tasks: 6 }],
  ['hourly-health', { problem: 'its worker went silent' }],
  ['inbox-triage', { lane: 1, labels: ['mail'], input: '{"subject": "Fire!"}' }],
  ['memory-maintenance', { verb: 'reject', note: 'Never write to minors' }],
  [
    'model-error-watch',
    { model: 'claude-haiku-4-5', failing: 'more than half', message: 'Overloaded' },
  ],
  ['model-mix-report', { model: 'claude-haiku-4-5', calls: 5, errors: 5, p95_ms: 900 }],
  ['morning-briefing', { agent: 'clerk', completed: 1, failed: 6 }],
  ['project-scan', { agent: 'clerk', tasks: 11, status: 'completed' }],
  ['queue-backlog-watch', { waiting: 'up to 100', late: true }],
  ['retry-candidates', { failure_class: 'external', message: 'The other side was down' }],
  ['rhythm-review', { name: 'ill', failed: 1, why: 'Cannot gather: no table' }],
  ['slow-agent-report', { agent: 'clerk', p95_seconds: 18000, p95_seconds_before: 360 }],
  ['stale-work-sweep', { status: 'pending', agent: 'clerk' }],
  ['unsealed-log-watch', { unsealed_since: '2027-01-15T10:00:00+00:00' }],
  ['weekly-end-to-end-check', {}],
  ['weekly-self-improvement', { what: 'failed', agent: 'clerk', kind: 'external', times: 6 }],
]

test('there are 23 templates, and each is tested', async () => {
  const rows = await shop.owner`select name from nightshift.rhythm_templates order by name`
  expect(rows.map((row) => row.name)).toEqual(templates.map(([name]) => name))
  expect(rows).toHaveLength(23)
})

describe.each(templates)('%s', (name, row) => {
  test('acts where there is something to say', async () => {
    const run = await runTemplate(busy, name, 3)
    expect(run?.reason).toBeNull()
    expect(run?.outcome).toBe(name === 'project-scan' ? 'deciding' : 'acted')
    if (name !== 'weekly-end-to-end-check') expect(run?.gathered?.rows[0]).toMatchObject(row)
  })

  test('is silent where there is nothing', async () => {
    shop.setClock(ago(40 * 24))
    const run = await runTemplate(await createTenant(shop), name, 35)
    if (name === 'weekly-end-to-end-check') expect(run?.outcome).toBe('acted')
    else
      expect(run).toMatchObject({
        outcome: 'skipped',
        reason: 'Rule not met: 0 rows, wanted at least 1',
      })
  })
})

describe('install_rhythm', () => {
  test('makes the agents it needs and leaves those that are there alone', async () => {
    const tenant = await createTenant(shop)
    await shop.asUser(
      tenant.owner,
      (sql) =>
        sql`select nightshift.set_agent(${tenant.project}, 'night-decider', ${sql.json({
          instructions: 'Mine.',
          tier: 'cheap',
          output_schema: {
            type: 'object',
            required: ['act'],
            properties: { act: { type: 'boolean' } },
          },
        })})`,
    )
    await install(tenant, 'project-scan')
    await install(tenant, 'weekly-self-improvement')
    const agents = await shop.owner`
      select name, version, instructions = 'Mine.' as mine, tools from nightshift.agents where project_id = ${tenant.project} and name like 'night%' order by name`
    expect([...agents]).toEqual([
      { name: 'night-decider', version: 1, mine: true, tools: [] },
      { name: 'night-improver', version: 1, mine: false, tools: ['propose_change'] },
      { name: 'night-reporter', version: 1, mine: false, tools: [] },
    ])
    const [tool] =
      await shop.owner`select approval from nightshift.tools where project_id = ${tenant.project}`
    expect(tool?.approval).toBe('ask')
  })

  test('overrides any field, and act field by field', async () => {
    const tenant = await createTenant(shop)
    const id = await install(tenant, 'morning-briefing', {
      name: 'berlin-briefing',
      schedule: '30 6 * * mon-fri',
      time_zone: 'Europe/Berlin',
      act: { agent: 'clerk', lane: 5 },
    })
    expect(await rhythmOf(shop, id)).toMatchObject({
      name: 'berlin-briefing',
      schedule: '30 6 * * mon-fri',
      time_zone: 'Europe/Berlin',
      act: { agent: 'clerk', lane: 5, labels: ['rhythm'] },
      created_by: tenant.owner,
    })
    const [made] =
      await shop.owner`select count(*) from nightshift.agents where project_id = ${tenant.project}`
    expect(made?.count).toBe(1)
  })

  test('refuses unknown templates and fields, and people without the role', async () => {
    expect(await refusal(install(busy, 'world-peace'))).toMatchObject({
      code: 'NS074',
      message: 'Cannot find rhythm template "world-peace"',
    })
    expect((await refusal(install(busy, 'budget-report', { when: 'now' }))).code).toBe('NS002')
    expect((await refusal(install(busy, 'budget-report', { act: [] }))).code).toBe('NS001')
    const viewer = await addMember(shop, busy, 'viewer')
    expect((await refusal(install({ ...busy, owner: viewer }, 'budget-report'))).code).toBe('NS011')
  })
})

describe('with workers and practice models', () => {
  let sql: postgres.Sql
  let practice: PracticeServer
  beforeAll(async () => {
    sql = postgres(shop.database.url, { max: 4, onnotice: () => {} })
    practice = await startPractice({})
  })
  afterAll(async () => {
    await practice.stop()
    await sql.end()
  })

  const script = (rules: Json[]): Promise<Response> =>
    fetch(`${practice.url}/_script`, { method: 'POST', body: JSON.stringify({ rules }) })

  /** Runs one waiting task to where it stops. */
  async function work(): Promise<string> {
    const database = openDatabase(rpcOver(sql))
    const [lease] = await database.claim({
      worker: 'test',
      queues: ['default'],
      tasks: 1,
      leaseSeconds: 90,
    })
    if (!lease) throw new Error('nothing to claim')
    const context = {
      database,
      complete,
      access: {
        practice: {
          apiKey: 'practice',
          baseUrls: { anthropic: practice.url, openai: `${practice.url}/v1` },
        },
      },
      leaseSeconds: 90,
      firstByteMs: 2000,
      idleMs: 2000,
      now: Date.now,
      signal: new AbortController().signal,
    }
    return runTask(lease, context, () => true)
  }

  async function clearQueue(): Promise<void> {
    await shop.owner`select nightshift.cancel(id) from nightshift.tasks where status = 'pending' and queue = 'default'`
  }

  const answers: [act: boolean, outcome: string][] = [
    [false, 'skipped'],
    [true, 'acted'],
  ]
  test.each(answers)(
    'a cheap model that answers act %s: %s, with its reason',
    async (act, outcome) => {
      await clearQueue()
      shop.setClock(null)
      const tenant = await createTenant(shop)
      const id = await install(tenant, 'project-scan', {
        gather: { kind: 'sql', query: `select 'the mail server is down' as news` },
        schedule: '0 9 1 1 *',
      })
      await shop.asUser(tenant.owner, (session) => session`select nightshift.run_rhythm_now(${id})`)
      await gatherRuns(shop)
      await script([
        {
          match: { contains: 'mail server' },
          respond: { text: JSON.stringify({ act, reason: 'Because of the mail server' }) },
        },
      ])
      expect(await work()).toBe('completed')
      await sweep(shop)
      const run = (await runsOf(shop, id))[0]
      expect(run).toMatchObject({ outcome, reason: 'Because of the mail server' })
      expect(run?.task_ids).toHaveLength(act ? 2 : 1)
      const [decider] =
        await shop.owner`select model, agent from nightshift.llm_calls where task_id = ${run?.task_ids[0] ?? 0}`
      expect(decider).toEqual({ model: 'practice-cheap', agent: 'night-decider' })
      if (act) {
        await script([
          {
            match: { contains: 'mail server' },
            respond: { text: '{"headline": "Mail is down", "points": []}' },
          },
        ])
        expect(await work()).toBe('completed')
        const [report] =
          await shop.owner`select output from nightshift.tasks where id = ${run?.task_ids[1] ?? 0}`
        expect(report?.output).toEqual({ headline: 'Mail is down', points: [] })
      }
    },
  )

  test('a deciding task that fails fails the run', async () => {
    await clearQueue()
    shop.setClock(null)
    const tenant = await createTenant(shop)
    const id = await install(tenant, 'project-scan', {
      gather: { kind: 'sql', query: 'select 1 as one' },
    })
    await shop.asUser(tenant.owner, (session) => session`select nightshift.run_rhythm_now(${id})`)
    await gatherRuns(shop)
    const task_id = (await runsOf(shop, id))[0]?.task_ids[0] ?? 0
    await shop.owner`select nightshift.cancel(${task_id})`
    await sweep(shop)
    expect((await runsOf(shop, id))[0]).toMatchObject({
      outcome: 'failed',
      reason: `Cannot decide: task ${task_id} is cancelled`,
    })
  })

  test('self-improvement proposes as cards and changes nothing', async () => {
    await clearQueue()
    shop.setClock(null)
    const tenant = await createTenant(shop)
    const id = await install(tenant, 'weekly-self-improvement', {
      gather: { kind: 'sql', query: `select 'failed' as what, 'clerk' as agent` },
    })
    await shop.asUser(tenant.owner, (session) => session`select nightshift.run_rhythm_now(${id})`)
    await gatherRuns(shop)
    const args = { agent: 'clerk', change: 'Ask before sending', why: 'It failed' }
    await script([
      {
        match: { contains: 'clerk', nth: 1 },
        respond: { tool_calls: [{ name: 'propose_change', arguments: args }] },
      },
      { match: { nth: 2 }, respond: { text: '{"summary": "One proposal"}' } },
    ])
    expect(await work()).toBe('awaiting_approval')
    const [card] =
      await shop.owner`select id, digest, action -> 'args' as args from nightshift.cards where project_id = ${tenant.project}`
    expect(card?.args).toEqual(args)
    await shop.asUser(
      tenant.owner,
      (session) => session`select nightshift.decide(${card?.id}, 'approve', ${card?.digest})`,
    )
    expect(await work()).toBe('completed')
    const [agent] =
      await shop.owner`select version, instructions from nightshift.agents where project_id = ${tenant.project} and name = 'clerk' and active`
    expect(agent).toEqual({ version: 1, instructions: 'Work.' })
  })

  test('the end-to-end check and a report complete out of the box', async () => {
    await clearQueue()
    await script([])
    const tenant = await createTenant(shop)
    await install(tenant, 'weekly-end-to-end-check', { schedule: '0 5 * * *', jitter_seconds: 0 })
    shop.setClock(null)
    const tomorrow = new Date(
      Math.ceil(Date.now() / 86_400_000) * 86_400_000 + 5 * 3_600_000 + 86_400_000,
    )
    await fireAt(shop, tomorrow.toISOString())
    expect(await work()).toBe('completed')
  })
})
