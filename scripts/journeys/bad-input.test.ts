import { ClientError, type NewTask, nightshift } from '@nightshift/client'
import { createClient } from '@supabase/supabase-js'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Person, type System, startSystem } from './harness.ts'

// What people and programs hand in by mistake or on purpose, over every way in: the answer has a stable
// code, the right status, a sentence and a hint, and nothing is written. Each bad task comes after a
// good one in the same call, which must not stay behind.

let system: System
let ann: Person
let project: string
let foreign: string
let before: unknown

beforeAll(async () => {
  system = await startSystem({ hostWorker: false })
  ann = await system.signUp('ann')
  const other = await system.signUp('other')
  project = (await ann.db.rpc('create_project', { name: 'Shop' }).throwOnError()).data
  foreign = (await other.db.rpc('create_project', { name: 'Other' }).throwOnError()).data
  const input_schema = {
    type: 'object',
    required: ['text'],
    properties: { text: { type: 'string' }, more: {} },
  }
  // A queue without workers: what is counted changes by the calls of this file only.
  const definition = { instructions: 'Answer.', queue: 'nobody', input_schema }
  await ann.db.rpc('set_agent', { project, name: 'clerk', definition }).throwOnError()
  await ann.db.rpc('enqueue', { tasks: good({ idempotency_key: 'taken' }) }).throwOnError()
})
afterAll(() => system.stop())

beforeEach(async () => {
  before = await counts()
})
afterEach(async () => {
  expect(await counts()).toEqual(before)
})

async function counts(): Promise<unknown> {
  return system.sql`select
    (select count(*) from nightshift.tasks) as tasks, (select count(*) from nightshift.steps) as steps,
    (select count(*) from nightshift.task_dependencies) as dependencies,
    (select count(*) from nightshift.audit_events) as events`
}

function good(more: object = {}): Record<string, unknown> {
  return { project, agent: 'clerk', input: { text: 'hello' }, ...more }
}

/** A refusal as every way in shows it, with the ids of this run by name. */
interface Refusal {
  status: number
  code: string
  message: string
  hint: string | null
}

function named(refusal: Refusal): Refusal {
  const { status, code, hint } = refusal
  const message = refusal.message.replaceAll(project, '<project>').replaceAll(foreign, '<foreign>')
  return { status, code, message, hint }
}

async function post(path: string, body: string): Promise<Refusal> {
  const response = await fetch(`${system.urls.api}/rest/v1/${path}`, {
    method: 'POST',
    headers: {
      apikey: system.keys.publishableKey,
      authorization: `Bearer ${ann.token}`,
      'content-profile': 'nightshift',
      'content-type': 'application/json',
    },
    body,
  })
  return named({ status: response.status, ...(await response.json()) })
}

/** The ways in. Each hands in a good task and then the bad one. */
const ways = {
  http: (bad: unknown) => post('rpc/enqueue', JSON.stringify({ tasks: [good(), bad] })),
  rpc: async (bad: unknown) => {
    const { status, error } = await ann.db.rpc('enqueue', { tasks: [good(), bad] })
    if (!error) throw new Error('the task was accepted')
    return named({ ...error, status })
  },
  insert: async (bad: object) => {
    const { project: project_id, ...rest } = bad as Record<string, unknown>
    const row = { project_id: project, agent: 'clerk', input: { text: 'hello' }, lane: 2 }
    const rows = [row, { ...row, ...rest, project_id }]
    const { status, error } = await ann.db.from('tasks').insert(rows)
    if (!error) throw new Error('the task was accepted')
    return named({ ...error, status })
  },
  library: async (bad: unknown) => refusalOf([good(), bad]),
}

async function refusalOf(tasks: unknown): Promise<Refusal> {
  try {
    await nightshift(ann.client).enqueue(tasks as NewTask[])
  } catch (cause) {
    if (cause instanceof ClientError) return named(cause)
    throw cause
  }
  throw new Error('the task was accepted')
}

function refusal(status: number, code: string, [message, hint]: [string, string?]): Refusal {
  return { status, code, message, hint: hint ?? null }
}

const correctIt = 'The message names what was wanted; correct the call.'
const invalid = (message: string) => refusal(400, 'NS001', [message, correctIt])
const wrongInput = (reason: string) =>
  refusal(422, 'NS021', [
    `Input of "clerk" does not fit its schema: ${reason}`,
    'Read its input_schema in nightshift.agents or nightshift.tools.',
  ])
const unknownAgent = refusal(422, 'NS020', [
  'Cannot find agent "clrek" in project "<project>"',
  'Create it with set_agent, or check the spelling.',
])
const tooLarge = (bytes: number) =>
  refusal(413, 'NS022', [
    `Payload "input" has ${bytes} bytes, allowed are 262144`,
    'Store large content in Storage and pass its path.',
  ])
const tooDeep = refusal(422, 'NS023', [
  'Payload "input" is nested deeper than 64 levels',
  'Flatten it, or pass it as text.',
])
const unstorable = (name: string) =>
  refusal(400, 'NS001', [
    `Payload "${name}" contains a NUL character or half of a surrogate pair`,
    'Replace it, for example by U+FFFD.',
  ])
const notYours = refusal(404, 'NS010', [
  'Cannot find project "<foreign>" among yours',
  'Check the id, or ask an owner to add you as a member.',
])
const knownFields = expect.stringMatching(
  /^Known fields: after, agent, .*, run_at, subject, template\.$/,
)

function nested(levels: number): unknown {
  let value: unknown = 1
  for (let level = 0; level < levels; level += 1) value = [value]
  return value
}

const megabytes = (count: number): string => 'x'.repeat(count * 1_000_000)

type Row = [name: string, way: keyof typeof ways, bad: () => object, expected: Refusal]

/** The same answer whichever way the task comes in. */
function everyWay(name: string, bad: () => object, expected: Refusal): Row[] {
  return (['http', 'rpc', 'insert', 'library'] as const).map((way) => [name, way, bad, expected])
}

test.for<Row>([
  ...everyWay('an unknown agent', () => good({ agent: 'clrek' }), unknownAgent),
  ...everyWay(
    'a missing field of the input',
    () => good({ input: {} }),
    wrongInput('$.text is missing'),
  ),
  ...everyWay(
    'an input of the wrong type',
    () => good({ input: [1] }),
    wrongInput('$ is array, wanted object'),
  ),
  ...everyWay('a project of others', () => good({ project: foreign }), notYours),
  ...everyWay('66 levels', () => good({ input: { text: '', more: nested(65) } }), tooDeep),
  // The database counts its own spelling of JSON, with spaces.
  ['10 MB', 'http', () => good({ input: { text: megabytes(10) } }), tooLarge(10_000_012)],
  ['10 MB', 'insert', () => good({ input: { text: megabytes(10) } }), tooLarge(10_000_012)],
  ['10 MB', 'library', () => good({ input: { text: megabytes(10) } }), tooLarge(10_000_011)],
  [
    'an idempotency key of other content',
    'http',
    () => good({ idempotency_key: 'taken', input: { text: 'something else' } }),
    refusal(409, 'NS024', [
      'Idempotency key "taken" was used with other content by task 1',
      'Use a new key for new content.',
    ]),
  ],
  [
    'an idempotency key of other content',
    'library',
    () => good({ idempotency_key: 'taken', lane: 0 }),
    refusal(409, 'NS024', [
      'Idempotency key "taken" was used with other content by task 1',
      'Use a new key for new content.',
    ]),
  ],
  [
    'an idempotency key that is taken',
    'insert',
    () => good({ idempotency_key: 'taken' }),
    refusal(409, '23505', ['duplicate key value violates unique constraint "tasks_idempotency"']),
  ],
  [
    'a field that nobody knows',
    'http',
    () => good({ agnet: 'clerk' }),
    refusal(400, 'NS002', ['Unknown field "agnet" in task #2', knownFields]),
  ],
  [
    'a field that nobody knows',
    'library',
    () => good({ agnet: 'clerk' }),
    refusal(400, 'NS002', ['Unknown field "agnet" in task #2', knownFields]),
  ],
  [
    'a column that nobody knows',
    'insert',
    () => good({ agnet: 'clerk' }),
    refusal(400, 'PGRST204', ["Could not find the 'agnet' column of 'tasks' in the schema cache"]),
  ],
  [
    'a lane in words',
    'http',
    () => good({ lane: 'high' }),
    invalid('task #2.lane is string, wanted integer'),
  ],
  [
    'a lane in words',
    'insert',
    () => good({ lane: 'high' }),
    refusal(400, '22P02', ['invalid input syntax for type smallint: "high"']),
  ],
  [
    'a lane out of range',
    'http',
    () => good({ lane: 6 }),
    invalid('task #2.lane is 6, wanted at most 5'),
  ],
  [
    'a lane out of range',
    'insert',
    () => good({ lane: 6 }),
    refusal(400, '23514', [
      'new row for relation "tasks" violates check constraint "tasks_lane_check"',
    ]),
  ],
  [
    'half a lane',
    'rpc',
    () => good({ lane: 1.5 }),
    invalid('task #2.lane is number, wanted integer'),
  ],
  [
    'a time in words',
    'rpc',
    () => good({ run_at: 'soon' }),
    invalid('task #2.run_at is "soon", wanted an ISO 8601 time'),
  ],
  [
    'a negative budget',
    'rpc',
    () => good({ budget_usd: -1 }),
    invalid('task #2.budget_usd is -1, wanted at least 0'),
  ],
  [
    'an endless subject',
    'http',
    () => good({ subject: megabytes(10) }),
    invalid('task #2.subject has 10000000 characters, wanted at most 255'),
  ],
  [
    'a project that is no id',
    'library',
    () => good({ project: 'shop' }),
    invalid(
      'task #2.project does not match the pattern ^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$',
    ),
  ],
  [
    'a task that waits for itself',
    'library',
    () => good({ key: 'a', after: ['a'] }),
    refusal(422, 'NS025', [
      'Cannot find dependency "a" of task a',
      'Name an earlier key of the same call or the id of a task of the same project.',
    ]),
  ],
  [
    'a bigint',
    'library',
    () => good({ input: { text: '', more: 1n } }),
    refusal(400, 'NS001', [
      'Payload "input" is not JSON: Do not know how to serialize a BigInt',
      'Pass texts, numbers, lists and plain objects.',
    ]),
  ],
  ['depth 50,000', 'library', () => good({ input: { text: '', more: nested(50_000) } }), tooDeep],
  [
    'depth 50,000 in a field that nobody knows',
    'library',
    () => good({ agnet: nested(50_000) }),
    refusal(422, 'NS023', [
      'Payload "request" is nested deeper than 67 levels',
      'Flatten it, or pass it as text.',
    ]),
  ],
  ['NUL', 'library', () => good({ input: { text: '\u0000' } }), unstorable('input')],
  ['NUL in the subject', 'library', () => good({ subject: 'kim\u0000' }), unstorable('request')],
  [
    'half of a surrogate pair',
    'library',
    () => good({ input: { text: '\ud83d' } }),
    unstorable('input'),
  ],
  [
    'half of a surrogate pair in the key',
    'library',
    () => good({ key: '\ude42' }),
    unstorable('request'),
  ],
])('%s by %s', async ([, way, bad, expected]) => {
  expect(await ways[way](bad())).toEqual(expected)
})

const listWanted = invalid('Argument "tasks" must be an array of 1 to 10000 task objects')

test.for<[name: string, tasks: () => unknown, expected: Refusal]>([
  ['nothing', () => null, listWanted],
  ['a text', () => 'clerk', listWanted],
  ['a number', () => 7, listWanted],
  ['an empty list', () => [], listWanted],
  ['10,001 tasks', () => Array(10_001).fill(good()), listWanted],
  ['a number among tasks', () => [good(), 7], invalid('task #2 must be a JSON object')],
  ['an empty object', () => ({}), invalid('task #1.project is missing')],
  [
    'two tasks with one key',
    () => [good({ key: 'a' }), good({ key: 'a' })],
    invalid('Key "a" is used twice in one call'),
  ],
])('%s', async ([, tasks, expected]) => {
  expect(await post('rpc/enqueue', JSON.stringify({ tasks: tasks() }))).toEqual(expected)
})

test('the library takes one task or a list of them', async () => {
  for (const tasks of [null, undefined, 'clerk', 7]) {
    expect(await refusalOf(tasks)).toEqual(invalid('task #1 must be a JSON object'))
  }
  expect(await refusalOf([])).toEqual(listWanted)
  expect(await refusalOf(Array(10_001).fill(good()))).toEqual(listWanted)
})

test.for<[name: string, call: string, args: () => object, expected: Refusal]>([
  [
    'a project without a name',
    'create_project',
    () => ({ name: '' }),
    invalid('Name of a project must have 1 to 120 characters'),
  ],
  [
    'a role that nobody knows',
    'set_member',
    () => ({ project, user_id: ann.id, role: 'boss' }),
    invalid('Unknown role "boss"'),
  ],
  [
    'a member who never signed up',
    'set_member',
    () => ({ project, user_id: foreign, role: 'viewer' }),
    invalid('Cannot find user "<foreign>"'),
  ],
  [
    'a setting of the wrong type',
    'set_agent',
    () => ({ project, name: 'clerk', definition: { instructions: 'x', max_steps: 'many' } }),
    invalid('agent "clerk".max_steps is string, wanted integer'),
  ],
  [
    'a reason of 10 MB',
    'cancel',
    () => ({ task_id: 1, reason: megabytes(10) }),
    refusal(413, 'NS022', [
      'Payload "reason" has 10000002 bytes, allowed are 8192',
      'Store large content in Storage and pass its path.',
    ]),
  ],
  [
    'a task in words',
    'cancel',
    () => ({ task_id: 'the last one' }),
    refusal(400, '22P02', ['invalid input syntax for type bigint: "the last one"']),
  ],
])('%s', async ([, call, args, expected]) => {
  const { status, error } = await ann.db.rpc(call, args())
  if (!error) throw new Error('the call was accepted')
  expect(named({ ...error, status })).toEqual(expected)
})

describe('what only Postgres or PostgREST can refuse keeps their codes', () => {
  const deep = '['.repeat(50_000) + ']'.repeat(50_000)
  const bodies: [name: string, text: string, expected: Refusal][] = [
    ['NUL', '"a\\u0000"', refusal(400, '22P05', ['unsupported Unicode escape sequence'])],
    [
      'NUL as a name',
      '{"\\u0000": 1}',
      refusal(400, '22P05', ['unsupported Unicode escape sequence']),
    ],
    [
      'a high surrogate alone',
      '"\\ud800"',
      refusal(400, '22P02', ['invalid input syntax for type json']),
    ],
    [
      'a low surrogate alone',
      '"\\udc00"',
      refusal(400, '22P02', ['invalid input syntax for type json']),
    ],
    [
      'depth 50,000',
      deep,
      refusal(500, '54001', [
        'stack depth limit exceeded',
        'Increase the configuration parameter "max_stack_depth" (currently 2048kB), after ensuring the platform\'s stack depth limit is adequate.',
      ]),
    ],
  ]

  test.for(bodies)('%s', async ([, text, expected]) => {
    const task = JSON.stringify(good()).replace(/}}$/, `,"more":${text}}}`)
    expect(await post('rpc/enqueue', `{"tasks":[${JSON.stringify(good())},${task}]}`)).toEqual(
      expected,
    )
    const row = task.replace('"project"', '"project_id"')
    expect(await post('tasks', row)).toEqual(expected)
  })

  test('a body that is no JSON', async () => {
    const expected = refusal(400, 'PGRST102', ['Empty or invalid json'])
    expect(await post('rpc/enqueue', '{"tasks": [')).toEqual(expected)
    expect(await post('tasks', '{"project_id": ')).toEqual(expected)
    expect(await post('rpc/enqueue', '{"tasks": "\u0000"}')).toEqual(expected)
  })

  test('an argument that nobody knows', async () => {
    expect(await post('rpc/enqueue', '{"task": []}')).toEqual(
      refusal(404, 'PGRST202', [
        'Could not find the function nightshift.enqueue(task) in the schema cache',
        'Perhaps you meant to call the function nightshift.enqueue(tasks)',
      ]),
    )
  })
})

test('a server that does not answer has a code too', async () => {
  const nobody = createClient('http://127.0.0.1:9', system.keys.publishableKey)
  await expect(nightshift(nobody).cancel(1)).rejects.toMatchObject({
    code: 'connection',
    status: 0,
    hint: 'Check the address and the network.',
  })
})
