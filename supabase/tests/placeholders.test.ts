import fc from 'fast-check'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Json, openShop, refusal, type Shop } from './actors.ts'
import { type Graph, openGraph } from './graph.ts'
import { createTenant, enqueue, retry, type Tenant } from './tenant.ts'

let shop: Shop
let tenant: Tenant
beforeAll(async () => {
  shop = await openShop()
})
beforeEach(async () => {
  tenant = await createTenant(shop)
})
afterAll(() => shop.close())

const open = (tasks: Record<string, Json>[]): Promise<Graph> => openGraph(shop, tenant, tasks)

/** What `input` becomes after two tasks with the keys `a` and `b.c` that answered this. */
async function renderAfter(input: Json, outputs: { a: Json; b?: Json }): Promise<Json> {
  const graph = await open([
    { key: 'a' },
    { key: 'b.c' },
    { key: 'last', after: ['a', 'b.c'], input },
  ])
  await graph.complete('b.c', outputs.b ?? null)
  await graph.complete('a', outputs.a)
  const { status, error, input: rendered } = await graph.read('last')
  expect({ status, error }).toEqual({ status: 'pending', error: null })
  return rendered
}

const report = { title: 'Tides', items: [{ n: 1 }, { n: 2 }], empty: null, ok: true }

describe('every placeholder', () => {
  test.each<[string, Json]>([
    ['{{results.a}}', report],
    ['{{results.a.title}}', 'Tides'],
    ['{{results.a.items.1.n}}', 2],
    ['{{results.a.items.-1.n}}', 2],
    ['{{results.a.ok}}', true],
    ['{{results.a.empty}}', null],
    ['{{ results.a.title }}', 'Tides'],
    ['{{results."a"."title"}}', 'Tides'],
    ['{{results."b.c".text}}', 'hello'],
    ['{{prev_result}}', { text: 'hello' }],
    ['{{prev_result.text}}', 'hello'],
    ['{{all_results}}', [report, { text: 'hello' }]],
    ['{{all_results.0.title}}', 'Tides'],
    ['{{all_results.1}}', { text: 'hello' }],
    ['{{input.topic}}', 'sea'],
    ['{{input.deep.0}}', 7],
  ])('%s alone is the value itself', async (text, value) => {
    const rendered = await renderAfter(
      { text, topic: 'sea', deep: [7] },
      { a: report, b: { text: 'hello' } },
    )
    expect(rendered).toEqual({ text: value, topic: 'sea', deep: [7] })
  })

  test.each<[string, string]>([
    ['About {{results.a.title}}.', 'About Tides.'],
    ['{{results.a.items}}', '[{"n":1},{"n":2}]'],
    ['{{results.a.empty}} and {{results.a.ok}}', 'null and true'],
    ['{{results.a.title}}{{results.a.title}}', 'TidesTides'],
    ['{{{{results.a}}', '{{results.a}}'],
    ['{{{{{{results.a.title}}', '{{Tides'],
    ['{{{results.a.title}}}', '{Tides}'],
    ['{{{{ {{{{', '{{ {{'],
    ['{ { }} }', '{ { }} }'],
  ])('%s is text within text', async (text, expected) => {
    expect(await renderAfter({ text: `<${text}>` }, { a: report })).toEqual({
      text: `<${expected}>`,
    })
  })

  test('spaces inside of strings stay when objects become text', async () => {
    const value = { list: [1.5, 'two  "words" \\" {"a": 1}'], 'a: b,  c': 'x, "y": z\\' }
    const rendered = await renderAfter({ text: ' {{results.a}}' }, { a: value })
    expect(rendered).toEqual({ text: ` ${JSON.stringify(value)}` })
  })

  test('strings anywhere in the input are rendered, names and other values stay', async () => {
    const rendered = await renderAfter(
      { '{{results.a}}': [1, null, { x: ['{{results.a}}', '{{results.a}}!'] }], n: 2 },
      { a: 5 },
    )
    expect(rendered).toEqual({ '{{results.a}}': [1, null, { x: [5, '5!'] }], n: 2 })
  })

  test('{{index}} counts the children of a parent in the order of the call', async () => {
    const graph = await open([
      { key: 'group', combinator: 'all' },
      { key: 'x', parent: 'group', input: { n: '{{index}}', text: '#{{index}}' } },
      { key: 'other' },
      { key: 'y', parent: 'group', input: { n: '{{index}}' } },
      { key: 'z', parent: 'group', input: { n: '{{index}}' }, index: 40 },
    ])
    expect((await graph.read('x')).input).toEqual({ n: 0, text: '#0' })
    expect(await graph.read('y')).toMatchObject({ input: { n: 1 }, index: 1, template: false })
    expect(await graph.read('z')).toMatchObject({ input: { n: 40 }, index: 40 })
  })

  test('a parent sees its children: all_results, results by key, prev_result as the group', async () => {
    const input = {
      all: '{{all_results}}',
      one: '{{results.x.n}}',
      group: '{{prev_result.1.n}}',
      before: '{{results.first}}',
    }
    const graph = await open([
      { key: 'first' },
      { key: 'group', combinator: 'all', after: ['first'], input },
      { key: 'x', parent: 'group' },
      { key: 'y', parent: 'group' },
    ])
    await graph.complete('y', { n: 2 })
    await graph.complete('first', 'go')
    expect(await graph.read('group')).toMatchObject({ status: 'awaiting_children', input })
    await graph.complete('x', { n: 1 })
    expect((await graph.read('group')).input).toEqual({
      all: [{ n: 1 }, { n: 2 }],
      one: 1,
      group: 2,
      before: 'go',
    })
  })

  test('all_results keeps the order of after, not of ids', async () => {
    const graph = await open([
      { key: 'a' },
      { key: 'b' },
      { key: 'c', after: ['b', 'a'], input: { all: '{{all_results}}', prev: '{{prev_result}}' } },
    ])
    await graph.complete('a', 'A')
    await graph.complete('b', 'B')
    expect((await graph.read('c')).input).toEqual({ all: ['B', 'A'], prev: 'A' })
  })

  test('results of tasks that were there before', async () => {
    const first = await open([{ key: 'done' }, { key: 'open' }])
    await first.complete('done', { n: 1 })
    const after = [first.ids.get('done') ?? 0]
    const graph = await open([{ key: 'next', after, input: { n: '{{results.done.n}}' } }])
    expect(await graph.read('next')).toMatchObject({ status: 'pending', input: { n: 1 } })
    const waiting = await open([
      { key: 'next', after: [...after, first.ids.get('open') ?? 0], input: '{{all_results}}' },
    ])
    await first.complete('open', 2)
    expect((await waiting.read('next')).input).toEqual([{ n: 1 }, 2])
  })
})

describe('one literal pass', () => {
  test.each([
    '{{results.a}}',
    '{{prev_result}}',
    '{{input.secret}}',
    '{{{{',
    '{{',
    '}}',
    '{{nope}}',
  ])('a result that says %s says just that', async (text) => {
    const rendered = await renderAfter(
      { whole: '{{results.a.text}}', part: '<{{results.a.text}}>', secret: 's' },
      { a: { text } },
    )
    expect(rendered).toEqual({ whole: text, part: `<${text}>`, secret: 's' })
  })

  test('a field of the input is taken as it was handed in', async () => {
    const rendered = await renderAfter(
      { x: '{{input.y}}', y: '{{input.x}}', z: '{{input.w}}!', w: '{{results.a}}' },
      { a: 1 },
    )
    expect(rendered).toEqual({ x: '{{input.x}}', y: '{{input.y}}', z: '{{results.a}}!', w: 1 })
  })

  test('any text comes out as a reference implementation says', async () => {
    const piece = fc.oneof(
      { arbitrary: fc.constantFrom('{', '{{', '{{{{', '}', '}}'), weight: 3 },
      fc.constantFrom('{{results.a}}', '{{ results.a.t }}', '{{input.other}}', '{{prev_result}}'),
      fc.string({ unit: 'grapheme', maxLength: 5 }),
    )
    const value = fc.oneof(
      piece,
      fc.array(piece, { maxLength: 4 }).map((all) => all.join('')),
    )
    await fc.assert(
      fc.asyncProperty(
        fc.array(piece, { maxLength: 8 }).map((all) => all.join('').replaceAll('\0', '')),
        value.map((text) => text.replaceAll('\0', '')),
        async (text, result) => {
          const expected = reference(text, result)
          const input = { text, other: result }
          const [row] = await shop.owner`
            select nightshift_private.substitute(${shop.owner.json(input)}, ${shop.owner.json({
              'results.a': result,
              ' results.a.t ': 7,
              'input.other': null,
              prev_result: { x: [result] },
            })}) -> 'text' as text`
          if (expected !== undefined) expect(row?.text).toEqual(expected)
        },
      ),
      { numRuns: 300 },
    )
  })
})

/** The single pass, written down once more; undefined where enqueue refuses the text. */
function reference(text: string, result: string): Json | undefined {
  const values: Record<string, Json> = {
    'results.a': result,
    ' results.a.t ': 7,
    'input.other': null,
    prev_result: { x: [result] },
  }
  const token = /\{\{\{\{|\{\{[^{}]*\}\}/g
  const literals = text.split(token)
  const tokens = [...text.matchAll(token)].map(([found]) => found)
  const known = tokens.every((found) => found === '{{{{' || found.slice(2, -2) in values)
  if (!known || literals.some((literal) => literal.includes('{{'))) return undefined
  const valueIn = (found: string): Json => values[found.slice(2, -2)] ?? null
  const [only] = tokens
  if (tokens.length === 1 && only && only !== '{{{{' && only === text) return valueIn(only)
  return literals
    .map((literal, place) => {
      const found = tokens[place]
      if (found === undefined) return literal
      if (found === '{{{{') return `${literal}{{`
      const value = valueIn(found)
      return literal + (typeof value === 'string' ? value : JSON.stringify(value))
    })
    .join('')
}

describe('what is not there', () => {
  test.each<[Json, string]>([
    ['{{results.a.missing}}', 'the result has no such field'],
    ['{{results.a.title.deeper}}', 'the result has no such field'],
    ['{{results.a.items.9}}', 'the result has no such field'],
    ['{{prev_result.title}}', 'the result has no such field'],
    ['{{all_results.5}}', 'the result has no such field'],
  ])('%s fails the task and says so', async (text, reason) => {
    const graph = await open([
      { key: 'a' },
      { key: 'b' },
      { key: 'last', after: ['a', 'b'], input: { text } },
      { key: 'then', after: ['last'] },
    ])
    await graph.complete('a', report)
    await graph.complete('b', 5)
    expect(await graph.read('last')).toMatchObject({
      status: 'failed',
      failure_class: 'dependency',
      input: { text },
      error: { placeholder: text, message: `Placeholder "${text}" has no value: ${reason}` },
    })
    expect((await graph.read('then')).status).toBe('failed')
  })

  test.each<[string, Record<string, Json>, string, RegExp]>([
    [
      'an unknown name',
      { input: '{{prev_reslt}}' },
      'NS060',
      /"{{prev_reslt}}" in the input of task later: nothing is called like that/,
    ],
    ['text that never closes', { input: 'a {{ b' }, 'NS060', /it is not closed/],
    ['no path', { input: '{{results..a}}' }, 'NS060', /it is no path/],
    ['nothing', { input: '{{}}' }, 'NS060', /it is no path/],
    ['results without a key', { input: '{{results}}' }, 'NS060', /it needs a name/],
    ['a part of the index', { input: '{{index.x}}' }, 'NS060', /it is a number/],
    [
      'a key it does not wait for',
      { input: '{{results.b}}' },
      'NS061',
      /waits for none with the key "b"/,
    ],
    ['a field it does not have', { input: { x: '{{input.y}}' } }, 'NS061', /the input has no "y"/],
    ['an index it does not have', { input: '{{index}}' }, 'NS061', /has no index/],
    ['results of nobody', { after: [], input: '{{prev_result}}' }, 'NS061', /waits for no other/],
    ['results of nobody', { after: [], input: '{{all_results}}' }, 'NS061', /waits for no other/],
  ])('%s is refused at enqueue', async (_, over, code, message) => {
    const call = enqueue(shop, tenant, [
      { key: 'a' },
      { key: 'b' },
      { key: 'later', after: ['a'], ...over },
    ])
    const refused = await refusal(call)
    expect(refused).toMatchObject({ code, status: 422 })
    expect(refused.message).toMatch(message)
  })

  test('a key that two dependencies have is refused', async () => {
    const [one, two] = [await open([{ key: 'same' }]), await open([{ key: 'same' }])]
    const after = [one.ids.get('same') ?? 0, two.ids.get('same') ?? 0]
    const refused = await refusal(enqueue(shop, tenant, [{ after, input: '{{results.same}}' }]))
    expect(refused.message).toContain('waits for several with the key "same"')
  })

  test('a missing value of tasks that have ended is refused at enqueue', async () => {
    const graph = await open([{ key: 'a' }])
    await graph.complete('a', {})
    const after = [graph.ids.get('a') ?? 0]
    const refused = await refusal(enqueue(shop, tenant, [{ after, input: '{{prev_result.x}}' }]))
    expect(refused).toMatchObject({ code: 'NS061' })
  })

  test('retry renders what is there by then', async () => {
    const graph = await open([
      { key: 'a' },
      { key: 'b', after: ['a'], input: { n: '{{results.a.n}}' } },
    ])
    await graph.lose('a')
    const [a = 0, b = 0] = graph.ids.values()
    expect((await refusal(retry(shop, tenant, b))).message).toContain('task b')
    expect((await graph.read('b')).status).toBe('failed')
    await retry(shop, tenant, a)
    expect(await retry(shop, tenant, b)).toBe('blocked')
    await graph.complete('a', { n: 3 })
    expect(await graph.read('b')).toMatchObject({ status: 'pending', input: { n: 3 } })
  })

  test('retry of what was rendered keeps the input', async () => {
    const graph = await open([{ key: 'a' }, { key: 'b', after: ['a'], input: ['{{prev_result}}'] }])
    await graph.complete('a', '{{prev_result}}')
    await graph.lose('b')
    expect(await retry(shop, tenant, graph.ids.get('b') ?? 0)).toBe('pending')
    expect(await graph.read('b')).toMatchObject({ input: ['{{prev_result}}'], template: false })
  })
})

describe('data stays data', () => {
  const text = 'Dear {{name}}, {{prev_result}} {{ {{{{'

  test('in tasks that stand alone', async () => {
    const graph = await open([{ key: 'mail', input: { text } }])
    expect(await graph.read('mail')).toMatchObject({ input: { text }, template: false })
  })

  test('in elements that say so', async () => {
    const graph = await open([
      { key: 'a' },
      { key: 'mail', after: ['a'], input: { text }, template: false },
    ])
    await graph.complete('a', 'x')
    expect((await graph.read('mail')).input).toEqual({ text })
  })

  test('in plain inserts', async () => {
    const [row] = await shop.asUser(
      tenant.owner,
      (sql) => sql`
        insert into nightshift.tasks (project_id, agent, input)
        values (${tenant.project}, 'clerk', ${sql.json({ text })}) returning input, template`,
    )
    expect(row).toEqual({ input: { text }, template: false })
  })

  test('a task that stands alone is a template when it says so', async () => {
    const graph = await open([{ key: 'x', template: true, input: { a: 1, b: '{{input.a}} {{{{' } }])
    expect((await graph.read('x')).input).toEqual({ a: 1, b: '1 {{' })
  })
})

describe('limits', () => {
  test('a rendered input beyond 256 KB fails the task', async () => {
    const half = 'x'.repeat(140_000)
    const graph = await open([
      { key: 'a' },
      { key: 'twice', after: ['a'], input: '{{prev_result}}{{prev_result}}' },
      { key: 'once', after: ['a'], input: '{{prev_result}}' },
    ])
    await graph.complete('a', half)
    const { error, failure_class } = await graph.read('twice')
    expect({ error, failure_class }).toMatchObject({
      failure_class: 'dependency',
      error: { message: expect.stringContaining('more than 262144 bytes') },
    })
    expect((await graph.read('once')).input).toBe(half)
  })

  test('escapes count as they are stored', async () => {
    const graph = await open([{ key: 'a' }, { key: 'b', after: ['a'], input: '<{{prev_result}}>' }])
    await graph.complete('a', Array(40_000).fill('"'))
    expect((await graph.read('b')).error?.message).toMatch(/it has \d+ bytes, allowed are 262144/)
  })

  test('thousands of placeholders cannot fill the memory', async () => {
    const graph = await open([
      { key: 'a' },
      { key: 'b', after: ['a'], input: Array(10_000).fill('{{prev_result}}') },
    ])
    await graph.complete('a', 'x'.repeat(200_000))
    expect((await graph.read('b')).error?.message).toContain('more than 262144 bytes')
  })

  test('levels count after rendering', async () => {
    const nested = (levels: number): Json => (levels === 0 ? 1 : [nested(levels - 1)])
    const graph = await open([
      { key: 'a' },
      { key: 'b', after: ['a'], input: ['{{prev_result}}'] },
      { key: 'c', after: ['a'], input: '{{prev_result}}' },
    ])
    await graph.complete('a', nested(64))
    expect((await graph.read('b')).error?.message).toContain('deeper than 64 levels')
    expect((await graph.read('c')).status).toBe('pending')
  })

  test('the schema of the agent is checked after rendering', async () => {
    const schema = { type: 'object', properties: { n: { type: 'number' } } }
    tenant = await createTenant(shop, { definition: { input_schema: schema } })
    const graph = await open([
      { key: 'a' },
      { key: 'good', after: ['a'], input: { n: '{{prev_result.n}}' } },
      { key: 'bad', after: ['a'], input: { n: '{{prev_result.text}}' } },
    ])
    await graph.complete('a', { n: 1, text: 'one' })
    expect(await graph.read('good')).toMatchObject({ status: 'pending', input: { n: 1 } })
    expect((await graph.read('bad')).error?.message).toBe(
      'Rendered input cannot be taken: it does not fit the schema of agent "clerk": $.n is string, wanted number',
    )
    const refused = await refusal(
      enqueue(shop, tenant, [{ template: true, input: { x: 'one', n: '{{input.x}}' } }]),
    )
    expect(refused.code).toBe('NS021')
  })
})

test('what was rendered is on the trail', async () => {
  const graph = await open([{ key: 'a' }, { key: 'b', after: ['a'], input: '{{prev_result}}' }])
  await graph.complete('a', { n: 1 })
  const [event] = await shop.owner`
    select meta from nightshift.audit_events where task_id = ${graph.ids.get('b') ?? 0} and action = 'task.rendered'`
  const [digest] = await shop.owner`
    select nightshift_private.sha256_hex(input::text) as input_digest from nightshift.tasks where id = ${graph.ids.get('b') ?? 0}`
  expect(event?.meta).toEqual({ ...digest })
})

test('the same call with the same idempotency keys is the same graph', async () => {
  const call = (): Promise<{ id: number; created: boolean }[]> =>
    enqueue(shop, tenant, [
      { key: 'g', combinator: 'all', idempotency_key: 'g' },
      { parent: 'g', input: { n: '{{index}}' }, idempotency_key: 'x' },
      { after: ['g'], input: '{{prev_result}}', idempotency_key: 'y' },
    ])
  const first = await call()
  const second = await call()
  expect(second.map((row) => row.id)).toEqual(first.map((row) => row.id))
  expect(second.every((row) => !row.created)).toBe(true)
})
