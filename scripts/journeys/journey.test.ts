import { nightshift } from '@nightshift/client'
import type { SupabaseClient } from '@supabase/supabase-js'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Person, type System, startSystem } from './harness.ts'

// One story on one stack, told by people who have nothing but supabase-js: Ann owns a shop, Olaf
// operates it, Vera looks on. Mallory has a project of her own, knows every id, and gets nowhere.

let system: System
let ann: Person
let olaf: Person
let vera: Person
let mallory: Person
let project: string
let theirs: string
let task: number
let card: { id: number; digest: string }

const unknownProject = '00000000-0000-4000-8000-000000000000'
const unknownId = 987_654_321

beforeAll(async () => {
  system = await startSystem()
  // Numbers that stand for nothing else, so that answers can be compared without them.
  await system.sql`alter table nightshift.tasks alter column id restart with 41000001`
  await system.sql`alter table nightshift.cards alter column id restart with 42000001`
  ann = await system.signUp('ann')
  olaf = await system.signUp('olaf')
  vera = await system.signUp('vera')
  mallory = await system.signUp('mallory')
})
afterAll(() => system.stop())

interface Heard {
  event: string
  payload: Record<string, unknown>
}

/** Joins a private topic and collects what is said there; rejects with the server's reason. */
async function listen(client: SupabaseClient, topic: string): Promise<Heard[]> {
  const heard: Heard[] = []
  await client.realtime.setAuth()
  const channel = client
    .channel(topic, { config: { private: true } })
    .on('broadcast', { event: '*' }, ({ event, payload }) => heard.push({ event, payload }))
  try {
    await new Promise<void>((settle, refuse) => {
      channel.subscribe((status, cause) => {
        if (status === 'SUBSCRIBED') settle()
        else refuse(cause ?? new Error(status))
      })
    })
  } catch (cause) {
    await client.removeChannel(channel)
    throw cause
  }
  return heard
}

async function statusOf(id: number): Promise<string> {
  const { data } = await ann.db.from('tasks').select('status').eq('id', id).single().throwOnError()
  return data.status
}

/** A worker that writes down a step changes the task, not its status. */
function withoutRepeats(statuses: unknown[]): unknown[] {
  return statuses.filter((status, index) => status !== statuses[index - 1])
}

/** The clerk asks for a refund first and says so afterwards, for mails that hold this text. */
function refundScript(contains: string): unknown[] {
  const call = { name: 'send_refund', arguments: { order: contains, amount: 49.9 } }
  return [
    { match: { contains, nth: 1 }, respond: { tool_calls: [call] } },
    { match: { contains, nth: 2 }, respond: { text: 'Refunded.' } },
  ]
}

async function openProject(owner: Person, name: string): Promise<string> {
  const { data: id } = await owner.db.rpc('create_project', { name }).throwOnError()
  const tool = {
    description: 'Refund money',
    effects: 'external',
    risk: 'high',
    input_schema: {
      type: 'object',
      required: ['order', 'amount'],
      properties: { order: { type: 'string' }, amount: { type: 'number', minimum: 0 } },
    },
  }
  await owner.db
    .rpc('set_tool', { project: id, name: 'send_refund', definition: tool })
    .throwOnError()
  const clerk = { instructions: 'Answer the mail.', tier: 'cheap', tools: ['send_refund'] }
  await owner.db.rpc('set_agent', { project: id, name: 'clerk', definition: clerk }).throwOnError()
  return id
}

test('after sign-up Ann opens a project, adds a tool and an agent, and lets others in', async () => {
  project = await openProject(ann, 'Bike shop')
  for (const [person, role] of [
    [olaf, 'operator'],
    [vera, 'viewer'],
  ] as const) {
    await ann.db.rpc('set_member', { project, user_id: person.id, role }).throwOnError()
  }
  const { data } = await olaf.db.from('members').select('user_id,role').throwOnError()
  expect(new Map(data.map((member) => [member.user_id, member.role]))).toEqual(
    new Map([
      [ann.id, 'owner'],
      [olaf.id, 'operator'],
      [vera.id, 'viewer'],
    ]),
  )
})

test('Olaf enqueues, Ann hears of it live, decides the card, and finds everything in the log', async () => {
  const shopNews = await listen(ann.client, `nightshift:project:${project}`)
  await system.script(refundScript('order 4711'))
  const { data: enqueued } = await olaf.db
    .rpc('enqueue', {
      tasks: [
        {
          project,
          agent: 'clerk',
          input: { mail: 'Money back for order 4711, please' },
          subject: 'kim@example.com',
          purpose: 'customer-support',
        },
      ],
    })
    .throwOnError()
  expect(enqueued).toEqual([
    { id: expect.any(Number), key: null, status: 'pending', created: true },
  ])
  task = enqueued[0].id

  await expect.poll(() => statusOf(task), { timeout: 15_000 }).toBe('awaiting_approval')
  const taskNews = await listen(ann.client, `nightshift:task:${task}`)
  const { data: shown } = await ann.db
    .from('cards')
    .select('*')
    .eq('task_id', task)
    .single()
    .throwOnError()
  card = { id: shown.id, digest: shown.digest }
  expect(shown).toMatchObject({
    status: 'open',
    risk: 'high',
    title: 'send refund: order 4711 · 49.9',
    action: { tool: 'send_refund', args: { order: 'order 4711', amount: 49.9 } },
  })
  const { data: decision } = await ann.db
    .rpc('decide', {
      card_id: card.id,
      verb: 'approve',
      digest: card.digest,
      note: 'a good customer',
      args: null,
      idempotency_key: 'first',
    })
    .throwOnError()
  expect(decision).toMatchObject({ card: card.id, task, verb: 'approve', decided_by: ann.id })
  await expect.poll(() => statusOf(task), { timeout: 15_000 }).toBe('completed')

  await expect
    .poll(() => withoutRepeats(taskNews.map(({ payload }) => payload.status)))
    .toEqual(['pending', 'running', 'completed'])
  for (const { event, payload } of taskNews) {
    expect(event).toBe('task')
    expect(payload).toEqual({
      id: task,
      status: expect.any(String),
      version: expect.any(Number),
    })
  }
  const told = () => shopNews.flatMap(({ payload }) => payload.tasks as Record<string, unknown>[])
  await expect
    .poll(() => withoutRepeats(told().map(({ status }) => status)))
    .toEqual(['pending', 'running', 'awaiting_approval', 'pending', 'running', 'completed'])
  for (const { event, payload } of shopNews) {
    expect(event).toBe('tasks')
    // Realtime itself adds the id of the message.
    expect(Object.keys(payload).sort()).toEqual(['id', 'tasks'])
    expect(payload.id).toMatch(/^[0-9a-f-]{36}$/)
  }
  for (const each of told()) {
    expect(each).toEqual({ id: task, status: expect.any(String), version: expect.any(Number) })
  }
  const versions = told().map(({ version }) => Number(version))
  expect(versions).toEqual([...new Set(versions)].sort((a, b) => a - b))
  await ann.client.removeAllChannels()
})

test('the finished task shows its steps, calls and events to the owner', async () => {
  const mine = { project_id: project, task_id: task }
  const { data: steps } = await ann.db
    .from('steps')
    .select('seq,kind,action,output')
    .match(mine)
    .order('seq')
    .throwOnError()
  expect(steps.map(({ seq, kind }) => `${seq} ${kind}`)).toEqual([
    '1 model_call',
    '2 ask',
    '3 decision',
    '4 tool_call',
    '5 model_call',
  ])
  const { data: calls } = await ann.db
    .from('llm_calls')
    .select('*')
    .match(mine)
    .order('id')
    .throwOnError()
  expect(calls.map((call) => call.step_seq)).toEqual([1, 5])
  for (const call of calls) {
    expect(call).toMatchObject({
      agent: 'clerk',
      created_by: olaf.id,
      subject: 'kim@example.com',
      purpose: 'customer-support',
      provider: 'practice',
      error: null,
    })
    expect(JSON.stringify(call.prompt)).toContain('order 4711')
  }
  const { data: events } = await ann.db
    .from('audit_events')
    .select('action,actor_kind,actor')
    .eq('task_id', task)
    .order('id')
    .throwOnError()
  const actions = events.map(({ action }) => action)
  expect(actions.filter((action) => action !== 'model.called')).toEqual([
    'task.enqueued',
    'task.running',
    'task.awaiting_approval',
    'task.pending',
    'card.decided',
    'task.running',
    'task.completed',
  ])
  expect(actions.filter((action) => action === 'model.called')).toHaveLength(2)
  const actorOf = (wanted: string) => events.find(({ action }) => action === wanted)
  expect(actorOf('task.enqueued')).toMatchObject({ actor_kind: 'person', actor: olaf.id })
  expect(actorOf('card.decided')).toMatchObject({ actor_kind: 'person', actor: ann.id })
  expect(actorOf('task.completed')).toMatchObject({ actor_kind: 'worker' })
  const { data: verified } = await ann.db.rpc('audit_verify', { project }).throwOnError()
  expect(verified).toMatchObject({ ok: true, calls: 2, findings: [] })
})

test('a plain insert is a task too, and only the columns of the caller can be written', async () => {
  const { data: inserted } = await olaf.db
    .from('tasks')
    .insert({ project_id: project, agent: 'clerk', input: { mail: 'When do you open?' }, lane: 1 })
    .select('id,status,lane,created_by')
    .single()
    .throwOnError()
  expect(inserted).toEqual({
    id: expect.any(Number),
    status: 'pending',
    lane: 1,
    created_by: olaf.id,
  })
  await expect.poll(() => statusOf(inserted.id), { timeout: 15_000 }).toBe('completed')
  const { error, status } = await olaf.db
    .from('tasks')
    .insert({ project_id: project, agent: 'clerk', spent_usd: 0, attempt: 3 })
  expect([status, error?.code]).toEqual([403, '42501'])
  for (const refused of [
    await olaf.db.from('tasks').update({ lane: 0 }).eq('id', inserted.id),
    await olaf.db.from('tasks').delete().eq('id', inserted.id),
    await ann.db.from('audit_events').delete().eq('task_id', task),
    await ann.db.from('members').update({ role: 'owner' }).eq('user_id', olaf.id),
  ]) {
    expect([refused.status, refused.error?.code]).toEqual([403, '42501'])
  }
})

test('the client library enqueues, watches to the end, and decides', async () => {
  await system.script(refundScript('order 4712'))
  const input = { mail: 'Money back for order 4712' }
  const [enqueued] = await nightshift(olaf.client).enqueue({ project, agent: 'clerk', input })
  const seen: string[] = []
  for await (const change of nightshift(ann.client).watchTask(enqueued?.id ?? 0)) {
    expect(change).toMatchObject({ id: enqueued?.id, agent: 'clerk', failure_class: null })
    seen.push(change.status)
    if (change.status !== 'awaiting_approval') continue
    const { data } = await ann.db
      .from('cards')
      .select('id,digest')
      .eq('task_id', change.id)
      .single()
      .throwOnError()
    const decision = { card: data.id, digest: data.digest, note: 'no' } as const
    expect(await nightshift(ann.client).decide({ ...decision, verb: 'reject' })).toMatchObject({
      card: data.id,
      verb: 'reject',
    })
    await expect(
      nightshift(olaf.client).decide({ ...decision, verb: 'approve' }),
    ).rejects.toMatchObject({ code: 'NS041', status: 409, hint: 'The first decision stands.' })
  }
  expect(seen).toContain('awaiting_approval')
  expect(seen.at(-1)).toBe('completed')
  expect(await nightshift(ann.client).verify(project)).toMatchObject({ ok: true })
})

/** What belongs to no project: everyone signed in may read it. */
const catalogs = [
  'agent_templates',
  'failure_policies',
  'models',
  'rhythm_templates',
  'task_transitions',
]

/** Tables and views of the exposed schema, and whether their rows belong to projects. */
async function relations(): Promise<{ name: string; owned: boolean }[]> {
  return system.sql`
    select c.relname as name, c.relname = 'projects' or exists (
      select from pg_attribute a where a.attrelid = c.oid and a.attname = 'project_id') as owned
    from pg_class c
    where c.relnamespace = 'nightshift'::regnamespace and c.relkind in ('r', 'v', 'm', 'p')
    order by c.relname collate "C"`
}

test('another tenant sees her own rows in every table, and not one of the others', async () => {
  theirs = await openProject(mallory, 'Another shop')
  await mallory.db
    .rpc('enqueue', { tasks: { project: theirs, agent: 'clerk', input: { mail: 'Hello' } } })
    .throwOnError()
  const found = await relations()
  expect(found.filter((relation) => !relation.owned).map(({ name }) => name)).toEqual(catalogs)
  const owned = found.filter((relation) => relation.owned)
  const filled = 'projects members agents tools tasks steps cards llm_calls audit_events'.split(' ')
  expect(owned.map(({ name }) => name)).toEqual(expect.arrayContaining(filled))
  for (const { name } of owned) {
    const key = name === 'projects' ? 'id' : 'project_id'
    const { data: all } = await mallory.db.from(name).select('*').throwOnError()
    expect(all.filter((row) => row[key] !== theirs)).toEqual([])
    const { data: foreign } = await mallory.db
      .from(name)
      .select('*')
      .eq(key, project)
      .throwOnError()
    expect(foreign).toEqual([])
    const [{ count } = { count: 0 }] = await system.sql`
      select count(*)::int from nightshift.${system.sql(name)} where ${system.sql(key)} = ${project}`
    // What is hidden is there.
    if (filled.includes(name)) expect([name, count > 0]).toEqual([name, true])
  }
})

test('another tenant cannot join the topics; unknown ones answer the same', async () => {
  const refusal = (client: SupabaseClient, topic: string) =>
    listen(client, topic).then(
      () => 'joined',
      (cause: Error) => cause.message.replaceAll(topic, '<topic>'),
    )
  const topics = [
    `nightshift:project:${project}`,
    `nightshift:project:${unknownProject}`,
    `nightshift:task:${task}`,
    `nightshift:task:${unknownId}`,
    'nightshift:wake',
  ]
  for (const stranger of [mallory.client, system.client()]) {
    const answers = new Set<string>()
    for (const topic of topics) answers.add(await refusal(stranger, topic))
    expect([...answers]).toEqual([expect.stringMatching(/^"?Unauthorized: /)])
  }
  expect(await refusal(mallory.client, `nightshift:project:${theirs}`)).toBe('joined')
  await mallory.client.removeAllChannels()
})

/** What a caller may try with a project, a task and a card, each with the error that a stranger gets. */
function attempts(
  { db }: Person,
  at: { project: string; task: number; card: number },
): Record<string, PromiseLike<{ status: number; data: unknown; error: unknown }>> {
  const request = { project: at.project, agent: 'clerk', input: {} }
  const inMine = { project: theirs, agent: 'clerk', input: {} }
  return {
    decide: db.rpc('decide', { card_id: at.card, verb: 'approve', digest: card.digest }),
    cancel: db.rpc('cancel', { task_id: at.task, reason: 'mine' }),
    retry: db.rpc('retry', { task_id: at.task }),
    task_tree: db.rpc('task_tree', { task_id: at.task }),
    enqueue: db.rpc('enqueue', { tasks: [request] }),
    enqueue_child: db.rpc('enqueue', { tasks: [{ ...inMine, parent: at.task }] }),
    enqueue_after: db.rpc('enqueue', { tasks: [{ ...inMine, after: [at.task] }] }),
    insert: db.from('tasks').insert({ project_id: at.project, agent: 'clerk' }),
    insert_child: db
      .from('tasks')
      .insert({ project_id: theirs, agent: 'clerk', parent_id: at.task }),
    audit_verify: db.rpc('audit_verify', { project: at.project }),
    set_member: db.rpc('set_member', { project: at.project, user_id: mallory.id, role: 'owner' }),
    set_tool: db.rpc('set_tool', {
      project: at.project,
      name: 'x',
      definition: { description: 'x' },
    }),
    set_agent: db.rpc('set_agent', {
      project: at.project,
      name: 'x',
      definition: { instructions: 'x' },
    }),
  }
}

test('another tenant cannot act, and learns nothing: known and unknown ids answer the same', async () => {
  const before = await system.sql`select id, status, version from nightshift.tasks order by id`
  const known = attempts(mallory, { project, task, card: card.id })
  const unknown = attempts(mallory, { project: unknownProject, task: unknownId, card: unknownId })
  const codes: Record<string, unknown> = {}
  const withoutIds = (answer: unknown): string =>
    [project, unknownProject, task, card.id, unknownId].reduce<string>(
      (text, id) => text.replaceAll(String(id), '<id>'),
      JSON.stringify(answer),
    )
  for (const [name, attempt] of Object.entries(known)) {
    const { status, data, error } = await attempt
    const reference = await unknown[name]
    expect([name, withoutIds({ status, data, error })]).toEqual([
      name,
      withoutIds({ status: reference?.status, data: reference?.data, error: reference?.error }),
    ])
    codes[name] = [status, error ? Reflect.get(error, 'code') : data]
  }
  expect(codes).toEqual({
    decide: [404, 'NS040'],
    cancel: [404, 'NS032'],
    retry: [404, 'NS032'],
    task_tree: [200, []],
    enqueue: [404, 'NS010'],
    enqueue_child: [422, 'NS025'],
    enqueue_after: [422, 'NS025'],
    insert: [404, 'NS010'],
    insert_child: [409, '23503'],
    audit_verify: [404, 'NS010'],
    set_member: [404, 'NS010'],
    set_tool: [404, 'NS010'],
    set_agent: [404, 'NS010'],
  })
  expect(await system.sql`select id, status, version from nightshift.tasks order by id`).toEqual(
    before,
  )
})

test('a viewer reads the work but not prompts or log, and can change nothing', async () => {
  for (const name of ['tasks', 'steps', 'cards', 'agents']) {
    const { data } = await vera.db.from(name).select('*').throwOnError()
    expect([name, data.length > 0]).toEqual([name, true])
  }
  for (const name of ['llm_calls', 'audit_events']) {
    expect((await vera.db.from(name).select('*').throwOnError()).data).toEqual([])
  }
  for (const [name, attempt] of Object.entries(attempts(vera, { project, task, card: card.id }))) {
    const { status, error } = await attempt
    if (name === 'task_tree') expect(status).toBe(200)
    else if (['enqueue_child', 'enqueue_after', 'insert_child'].includes(name))
      expect([name, status]).toEqual([name, 404])
    else expect([name, status, error && Reflect.get(error, 'code')]).toEqual([name, 403, 'NS011'])
  }
})

/** Functions of the exposed schema with the names of their arguments, and whether people may call them. */
async function functions(): Promise<{ name: string; args: string[]; forPeople: boolean }[]> {
  return system.sql`
    select p.proname as name, coalesce(p.proargnames[1:p.pronargs], '{}') as args,
      has_function_privilege('authenticated', p.oid, 'execute') as "forPeople"
    from pg_proc p where p.pronamespace = 'nightshift'::regnamespace order by 1`
}

test('people cannot call what is for workers', async () => {
  const forWorkers = (await functions()).filter(({ forPeople }) => !forPeople)
  expect(forWorkers.map(({ name }) => name)).toEqual([
    'claim',
    'commit_tick',
    'complete',
    'fail',
    'gather_runs',
    'heartbeat',
    'load_session',
    'release',
    'sweep',
  ])
  for (const { name, args } of forWorkers) {
    const { status, error } = await ann.db.rpc(
      name,
      Object.fromEntries(args.map((arg) => [arg, null])),
    )
    expect([name, status, error?.code]).toEqual([name, 403, '42501'])
  }
})

test('without a session nothing can be read and nothing be called', async () => {
  const anon = system.client().schema('nightshift')
  for (const { name } of await relations()) {
    const { status, data, error } = await anon.from(name).select('*')
    expect([name, status, error?.code, data]).toEqual([name, 401, '42501', null])
  }
  for (const { name, args } of await functions()) {
    const { status, data, error } = await anon.rpc(
      name,
      Object.fromEntries(args.map((arg) => [arg, null])),
    )
    expect([name, status, error?.code, data]).toEqual([name, 401, '42501', null])
  }
  const { status, error } = await anon.from('tasks').insert({ project_id: project, agent: 'clerk' })
  expect([status, error?.code]).toEqual([401, '42501'])
})
