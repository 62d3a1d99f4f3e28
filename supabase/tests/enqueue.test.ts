import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Json, openShop, refusal, type Shop } from './actors.ts'
import {
  type Accepted,
  addMember,
  cancel,
  claimOne,
  complete,
  createTenant,
  createUser,
  enqueue,
  enqueueOne,
  statusesOf,
  type Tenant,
  taskOf,
} from './tenant.ts'

let shop: Shop
let tenant: Tenant
beforeAll(async () => {
  shop = await openShop()
  tenant = await createTenant(shop, {
    definition: {
      input_schema: { type: 'object', properties: { text: { type: 'string' } } },
      budget_usd: 0.5,
    },
  })
})
afterAll(() => shop.close())

/** Enqueues exactly these elements as the owner. */
const raw = (tasks: Json): Promise<Accepted[]> =>
  shop.asUser(
    tenant.owner,
    (sql) => sql<Accepted[]>`select * from nightshift.enqueue(${sql.json(tasks)})`,
  )
const request = (over: Record<string, Json> = {}): Record<string, Json> => ({
  project: tenant.project,
  agent: 'clerk',
  input: {},
  ...over,
})
const countTasks = async (): Promise<number> => {
  const [row] =
    await shop.owner`select count(*) from nightshift.tasks where project_id = ${tenant.project}`
  return Number(row?.count)
}

describe('accepted', () => {
  test('one call, several tasks, answered in order with their keys', async () => {
    const rows = await raw([request({ key: 'a' }), request(), request({ key: 'b', lane: 0 })])
    expect(rows.map(({ key, status, created }) => ({ key, status, created }))).toEqual([
      { key: 'a', status: 'pending', created: true },
      { key: null, status: 'pending', created: true },
      { key: 'b', status: 'pending', created: true },
    ])
    const ids = rows.map((row) => row.id)
    expect(ids).toEqual([...ids].sort((a, b) => a - b))
  })

  test('a single object is one task', async () => {
    expect(await raw(request())).toHaveLength(1)
  })

  test('all fields arrive', async () => {
    const parent = await enqueueOne(shop, tenant)
    const [row] = await raw([
      request({
        input: { text: 'hi' },
        lane: 1,
        queue: 'special',
        run_at: '2030-01-01T00:00:00Z',
        deadline_at: '2031-01-01T00:00:00+02:00',
        idempotency_key: 'all-fields',
        subject: 'person-1',
        purpose: 'support',
        labels: ['x', 'y'],
        budget_usd: 0.25,
        parent,
      }),
    ])
    const [task] = await shop.owner`select * from nightshift.tasks where id = ${row?.id ?? 0}`
    expect(task).toMatchObject({
      status: 'scheduled',
      lane: 1,
      queue: 'special',
      run_at: new Date('2030-01-01T00:00:00Z'),
      deadline_at: new Date('2030-12-31T22:00:00Z'),
      subject: 'person-1',
      purpose: 'support',
      labels: ['x', 'y'],
      budget_usd: '0.250000',
      parent_id: parent,
      created_by: tenant.owner,
      input: { text: 'hi' },
    })
  })

  test('what is not said comes from the agent', async () => {
    const id = await enqueueOne(shop, tenant)
    const [task] = await shop.owner`select * from nightshift.tasks where id = ${id}`
    expect(task).toMatchObject({
      queue: tenant.queue,
      budget_usd: '0.500000',
      lane: 2,
      max_attempts: 4,
    })
  })

  test('a task after others is blocked until they complete', async () => {
    const [first, second] = await raw([request({ key: 'one' }), request({ after: ['one'] })])
    expect(second?.status).toBe('blocked')
    const third = await enqueueOne(shop, tenant, { after: [first?.id ?? 0, String(second?.id)] })
    expect(await taskOf(shop, third)).toMatchObject({ status: 'blocked', open_dependencies: 2 })
  })

  test('after a completed task nothing is waited for', async () => {
    const other = await createTenant(shop)
    const done = await enqueueOne(shop, other)
    await complete(shop, [await claimOne(shop, other)])
    const [row] = await enqueue(shop, other, [{ after: [done] }])
    expect(row?.status).toBe('pending')
  })

  test('a parent with a combinator waits for its children', async () => {
    const rows = await raw([
      request({ key: 'p', combinator: 'all' }),
      request({ parent: 'p' }),
      request({ parent: 'p' }),
    ])
    expect(rows.map((row) => row.status)).toEqual(['awaiting_children', 'pending', 'pending'])
  })

  test('1,000 tasks in one call', async () => {
    const rows = await raw(Array.from({ length: 1000 }, (_, i) => request({ key: `k${i}` })))
    expect(new Set(rows.map((row) => row.id)).size).toBe(1000)
    expect(rows.every((row) => row.created && row.status === 'pending')).toBe(true)
  })

  test('the service enqueues for any project', async () => {
    const [row] = await shop.asService(
      (sql) => sql`select * from nightshift.enqueue(${sql.json([request()])})`,
    )
    expect(row?.created).toBe(true)
  })
})

describe('refused', () => {
  const refusals: [string, Json[] | (() => Json), string, number, RegExp][] = [
    [
      'an unknown field',
      () => [request({ colour: 'red' })],
      'NS002',
      400,
      /^Unknown field "colour" in task #1$/,
    ],
    ['no object', ['text'], 'NS001', 400, /^task #1 must be a JSON object$/],
    ['no array', () => 'text', 'NS001', 400, /must be an array/],
    ['nothing', [], 'NS001', 400, /1 to 10000/],
    ['no project', [{ agent: 'clerk' }], 'NS001', 400, /^task #1.project is missing$/],
    [
      'a project that is no id',
      () => [request({ project: '-'.repeat(36) })],
      'NS001',
      400,
      /project does not match/,
    ],
    ['no agent', () => [{ project: tenant.project }], 'NS001', 400, /agent is missing/],
    [
      'an unknown agent',
      () => [request({ agent: 'nobody' })],
      'NS020',
      422,
      /^Cannot find agent "nobody"/,
    ],
    [
      'input that does not fit',
      () => [request({ input: { text: 1 } })],
      'NS021',
      422,
      /\$\.text is number, wanted string/,
    ],
    [
      'a lane out of range',
      () => [request({ lane: 6 })],
      'NS001',
      400,
      /lane is 6, wanted at most 5/,
    ],
    ['half a lane', () => [request({ lane: 1.5 })], 'NS001', 400, /lane is number, wanted integer/],
    ['a bad queue', () => [request({ queue: 'No!' })], 'NS001', 400, /queue does not match/],
    [
      'a time that is none',
      () => [request({ run_at: 'soon' })],
      'NS001',
      400,
      /run_at is "soon", wanted an ISO 8601 time/,
    ],
    [
      'a day that does not exist',
      () => [request({ deadline_at: '2026-02-31T00:00:00Z' })],
      'NS001',
      400,
      /deadline_at/,
    ],
    ['a budget below zero', () => [request({ budget_usd: -1 })], 'NS001', 400, /budget_usd/],
    ['a budget beyond numbers', () => [request({ budget_usd: 1e30 })], 'NS001', 400, /budget_usd/],
    [
      'a key used twice',
      () => [request({ key: 'a' }), request({ key: 'a' })],
      'NS001',
      400,
      /^Key "a" is used twice/,
    ],
    [
      'an unknown dependency',
      () => [request({ key: 'b', after: ['a'] })],
      'NS025',
      422,
      /^Cannot find dependency "a" of task b$/,
    ],
    [
      'a dependency on a later element',
      () => [request({ after: ['z'] }), request({ key: 'z' })],
      'NS025',
      422,
      /"z" of task #1/,
    ],
    ['a dependency on itself', () => [request({ key: 'me', after: ['me'] })], 'NS025', 422, /"me"/],
    ['an unknown parent', () => [request({ parent: 999_999_999 })], 'NS025', 422, /"999999999"/],
    [
      'an unknown combinator',
      () => [request({ key: 'p', combinator: 'most' })],
      'NS001',
      400,
      /combinator must be one of/,
    ],
    [
      'a combinator without key',
      () => [request({ combinator: 'all' })],
      'NS001',
      400,
      /needs a "key"/,
    ],
    [
      'a group without children',
      () => [request({ key: 'p', combinator: 'all' })],
      'NS001',
      400,
      /needs children/,
    ],
    [
      'too much',
      () => [request({ input: { text: 'x'.repeat(262_144) } })],
      'NS022',
      413,
      /^Payload "input" has 262156 bytes, allowed are 262144$/,
    ],
    [
      'a subject without end',
      () => [request({ subject: 'x'.repeat(256) })],
      'NS001',
      400,
      /subject/,
    ],
  ]
  test.each(refusals)('%s', async (_name, tasks, code, status, message) => {
    const before = await countTasks()
    const refused = await refusal(raw(typeof tasks === 'function' ? tasks() : tasks))
    expect(refused).toMatchObject({ code, status })
    expect(refused.message).toMatch(message)
    expect(refused.hint).not.toBe('')
    expect(await countTasks()).toBe(before)
  })

  test('the known fields are named', async () => {
    const { hint } = await refusal(raw([request({ priority: 1 })]))
    expect(hint).toBe(
      'Known fields: after, agent, budget_usd, combinator, concurrency_key, deadline_at, idempotency_key, index, input, key, labels, lane, parent, project, purpose, queue, quorum, run_at, subject, template.',
    )
  })

  test('nesting beyond 64 levels', async () => {
    const nested = (levels: number): Json =>
      levels === 0 ? 'x'.repeat(200) : { down: nested(levels - 1) }
    expect(await raw([request({ input: nested(64) })])).toHaveLength(1)
    expect(await refusal(raw([request({ input: nested(65) })]))).toMatchObject({
      code: 'NS023',
      status: 422,
    })
    const arrays = JSON.parse(`${'['.repeat(3000)}${']'.repeat(3000)}`)
    expect(await refusal(raw([request({ input: { arrays } })]))).toMatchObject({ code: 'NS023' })
  })

  test('what Postgres itself refuses: NUL, a lone surrogate, 50,000 levels', async () => {
    const send = (text: string): Promise<unknown> =>
      shop.asUser(
        tenant.owner,
        (sql) => sql`select * from nightshift.enqueue(${text}::text::jsonb)`,
      )
    expect((await refusal(send('[{"input":"\\u0000"}]'))).code).toBe('22P05')
    expect((await refusal(send('[{"input":"\\ud800"}]'))).code).toBe('22P02')
    expect((await refusal(send(`${'['.repeat(50_000)}${']'.repeat(50_000)}`))).code).toBe('54001')
  })

  test('all or none: one bad element and nothing is kept', async () => {
    const before = await countTasks()
    await refusal(raw([request(), request({ key: 'x' }), request({ input: { text: 1 } })]))
    expect(await countTasks()).toBe(before)
  })

  test('a foreign project looks like an unknown one', async () => {
    const other = await createTenant(shop)
    const foreign = await refusal(raw([request({ project: other.project, agent: 'nobody' })]))
    const unknown = await refusal(
      raw([request({ project: '00000000-0000-4000-8000-000000000000', agent: 'nobody' })]),
    )
    expect(foreign).toMatchObject({ code: 'NS010', status: 404 })
    expect({ ...foreign, message: '' }).toEqual({ ...unknown, message: '' })
  })

  test('a task of another project is no dependency and no parent', async () => {
    const other = await createTenant(shop)
    const theirs = await enqueueOne(shop, other)
    expect((await refusal(raw([request({ after: [theirs] })]))).code).toBe('NS025')
    expect((await refusal(raw([request({ parent: theirs })]))).code).toBe('NS025')
    const mixed = shop.asService(
      (sql) =>
        sql`select * from nightshift.enqueue(${sql.json([
          { project: other.project, agent: 'clerk', key: 'theirs' },
          request({ after: ['theirs'] }),
        ])})`,
    )
    expect((await refusal(mixed)).code).toBe('NS025')
  })

  test('a dependency that has failed or was cancelled, and a parent that has ended', async () => {
    const ended = await enqueueOne(shop, tenant)
    await cancel(shop, tenant, ended)
    const after = await refusal(raw([request({ after: [ended] })]))
    expect(after).toMatchObject({ code: 'NS028', status: 409 })
    expect(after.message).toBe(`Cannot wait for task ${ended}: it is "cancelled"`)
    expect(await refusal(raw([request({ parent: ended })]))).toMatchObject({
      code: 'NS029',
      status: 409,
    })
  })

  test.each(['reviewer', 'auditor', 'viewer'])('a %s may not enqueue', async (role) => {
    const member = await addMember(shop, tenant, role)
    const refused = await refusal(
      shop.asUser(member, (sql) => sql`select * from nightshift.enqueue(${sql.json([request()])})`),
    )
    expect(refused).toMatchObject({ code: 'NS011', status: 403 })
    expect(refused.hint).toBe('Needs one of the roles: owner, operator.')
  })
})

describe('idempotency keys', () => {
  test('the same key with the same content is the same task', async () => {
    const ask = (): Promise<Accepted[]> =>
      raw([request({ idempotency_key: 'mail-1', input: { text: 'a' }, budget_usd: 0.5 })])
    const [first] = await ask()
    const [again] = await ask()
    expect(again).toEqual({ ...first, created: false })
  })

  test('a default and its explicit value are the same content', async () => {
    const [first] = await raw([request({ idempotency_key: 'mail-2' })])
    const [again] = await raw([
      request({ idempotency_key: 'mail-2', budget_usd: 0.5, lane: 2, purpose: 'operations' }),
    ])
    expect(again).toMatchObject({ id: first?.id, created: false })
  })

  test.each<[string, Record<string, Json>]>([
    ['input', { input: { text: 'other' } }],
    ['lane', { lane: 0 }],
    ['budget', { budget_usd: 0.1 }],
    ['subject', { subject: 'somebody' }],
  ])('other content (%s) is refused', async (name, over) => {
    const idempotency_key = `content-${name}`
    const [first] = await raw([request({ idempotency_key })])
    const refused = await refusal(raw([request({ idempotency_key, ...over })]))
    expect(refused).toMatchObject({ code: 'NS024', status: 409 })
    expect(refused.message).toBe(
      `Idempotency key "${idempotency_key}" was used with other content by task ${first?.id}`,
    )
  })

  test('twice in one call is one task, with other content none', async () => {
    const rows = await raw([
      request({ idempotency_key: 'twin', key: 'a' }),
      request({ idempotency_key: 'twin', key: 'b' }),
      request({ after: ['b'] }),
    ])
    expect(rows[1]).toMatchObject({ id: rows[0]?.id, created: false })
    expect(rows[2]?.status).toBe('blocked')
    const refused = await refusal(
      raw([
        request({ idempotency_key: 'twin2' }),
        request({ idempotency_key: 'twin2', input: { text: 'x' } }),
      ]),
    )
    expect(refused.code).toBe('NS024')
  })

  test('keys of two projects do not meet', async () => {
    const other = await createTenant(shop)
    const [mine] = await raw([request({ idempotency_key: 'shared' })])
    const [theirs] = await enqueue(shop, other, [
      { idempotency_key: 'shared', input: { text: 'x' } },
    ])
    expect(theirs).toMatchObject({ created: true })
    expect(theirs?.id).not.toBe(mine?.id)
  })

  test('a repeated group is found again even after it ended', async () => {
    const group = (): Json[] => [
      request({ key: 'p', combinator: 'all', idempotency_key: 'group' }),
      request({ parent: 'p', idempotency_key: 'group-1' }),
      request({ parent: 'p', idempotency_key: 'group-2', after: [] }),
    ]
    const first = await raw(group())
    await cancel(shop, tenant, first[0]?.id ?? 0)
    const again = await raw(group())
    expect(again.map((row) => row.id)).toEqual(first.map((row) => row.id))
    expect(again.every((row) => !row.created)).toBe(true)
  })

  test('20 sessions with the same keys at once make each task once', async () => {
    const calls = Array.from({ length: 20 }, () =>
      raw([
        request({ idempotency_key: 'race-1', key: 'a' }),
        request({ idempotency_key: 'race-2', after: ['a'] }),
      ]),
    )
    const answers = await Promise.all(calls)
    expect(new Set(answers.map((rows) => rows.map((row) => row.id).join())).size).toBe(1)
    expect(answers.flat().filter((row) => row.created)).toHaveLength(2)
  })
})

describe('plain inserts', () => {
  test('an operator inserts the columns of the caller', async () => {
    const operator = await addMember(shop, tenant, 'operator')
    const [row] = await shop.asUser(
      operator,
      (sql) => sql`insert into nightshift.tasks (project_id, agent, input, lane, labels)
        values (${tenant.project}, 'clerk', ${sql.json({ text: 'hi' })}, 1, '{a}') returning *`,
    )
    expect(row).toMatchObject({
      status: 'pending',
      created_by: operator,
      agent_version: 1,
      queue: tenant.queue,
    })
  })

  test.each<[string, string]>([
    ['status', "'completed'"],
    ['id', '5'],
    ['created_by', 'gen_random_uuid()'],
    ['spent_usd', '0'],
    ['attempt', '0'],
    ['fence', '1'],
    ['agent_version', '1'],
    ['combinator', "'all'"],
    ['created_at', 'now()'],
  ])('not the column %s', async (column, value) => {
    for (const as of [
      shop.asService,
      (run: Parameters<typeof shop.asService>[0]) => shop.asUser(tenant.owner, run),
    ]) {
      const refused = await refusal(
        as((sql) =>
          sql.unsafe(
            `insert into nightshift.tasks (project_id, agent, ${column}) values ('${tenant.project}', 'clerk', ${value})`,
          ),
        ),
      )
      expect(refused.code).toMatch(/^(42501|428C9)$/)
    }
  })

  test('the same checks hold as for enqueue', async () => {
    const insert = (agent: string, input: Json, project = tenant.project): Promise<unknown> =>
      shop.asUser(
        tenant.owner,
        (sql) => sql`insert into nightshift.tasks (project_id, agent, input)
        values (${project}, ${agent}, ${sql.json(input)})`,
      )
    expect((await refusal(insert('nobody', {}))).code).toBe('NS020')
    expect((await refusal(insert('clerk', { text: 1 }))).code).toBe('NS021')
    expect((await refusal(insert('clerk', { text: 'x'.repeat(300_000) }))).code).toBe('NS022')
    expect((await refusal(insert('clerk', {}, crypto.randomUUID()))).code).toBe('NS010')
  })

  test('a stranger, a viewer and anon are refused', async () => {
    const insert = `insert into nightshift.tasks (project_id, agent) values ('${tenant.project}', 'clerk')`
    const stranger = await createUser(shop)
    const viewer = await addMember(shop, tenant, 'viewer')
    expect((await refusal(shop.asUser(stranger, (sql) => sql.unsafe(insert)))).code).toBe('NS010')
    expect((await refusal(shop.asUser(viewer, (sql) => sql.unsafe(insert)))).code).toBe('NS011')
    expect((await refusal(shop.asAnon((sql) => sql.unsafe(insert)))).code).toBe('42501')
  })

  test('a child of a task that has ended is refused', async () => {
    const parent = await enqueueOne(shop, tenant)
    await cancel(shop, tenant, parent)
    const refused = await refusal(
      shop.asUser(
        tenant.owner,
        (sql) => sql`insert into nightshift.tasks (project_id, agent, parent_id)
        values (${tenant.project}, 'clerk', ${parent})`,
      ),
    )
    expect(refused.code).toBe('NS029')
  })
})

test('an enqueue waits for a dependency that is just ending, whichever way it ends', async () => {
  const other = await createTenant(shop)
  for (let trial = 0; trial < 10; trial += 1) {
    const first = await enqueueOne(shop, other)
    const lease = await claimOne(shop, other)
    const [, rows] = await Promise.all([
      complete(shop, [lease]),
      enqueue(shop, other, [{ after: [first] }]),
    ])
    const [second] = await statusesOf(shop, [rows[0]?.id ?? 0])
    expect(second).toBe('pending')
    await complete(shop, [await claimOne(shop, other)])
  }
})
