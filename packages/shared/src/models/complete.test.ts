import { afterAll, beforeEach, describe, expect, test } from 'vitest'
import type { Rule } from '../../../local/src/practice/rules.ts'
import { startPractice } from '../../../local/src/practice/server.ts'
import { complete } from './complete.ts'
import { ModelError, type ModelErrorKind } from './errors.ts'
import type { CallLimits, ModelMessage, ModelRequest, Provider } from './types.ts'

const practice = await startPractice()
afterAll(() => practice.stop())
beforeEach(async () => {
  await fetch(`${practice.url}/_script`, { method: 'DELETE' })
})

async function script(...rules: Rule[]): Promise<void> {
  const response = await fetch(`${practice.url}/_script`, {
    method: 'POST',
    body: JSON.stringify({ rules }),
  })
  expect(response.status).toBe(200)
}

/** Body of the last request the provider has got. */
async function lastBody(): Promise<unknown> {
  const calls: unknown = await (await fetch(`${practice.url}/_calls`)).json()
  return Array.isArray(calls) ? calls.at(-1)?.body : expect.unreachable()
}

const PROVIDERS: Provider[] = [
  { protocol: 'anthropic', baseUrl: practice.url, apiKey: 'key' },
  { protocol: 'openai', baseUrl: `${practice.url}/v1`, apiKey: 'key' },
]

function request(changes: Partial<ModelRequest> = {}): ModelRequest {
  const messages: ModelMessage[] = [{ role: 'user', content: 'How are you?' }]
  return {
    model: 'some-model',
    system: 'Be brief.',
    messages,
    tools: [],
    maxTokens: 64_000,
    cache: false,
    ...changes,
  }
}

function limits(changes: Partial<CallLimits> = {}): CallLimits {
  return { signal: new AbortController().signal, firstByteMs: 5_000, idleMs: 5_000, ...changes }
}

async function failure(call: Promise<unknown>): Promise<ModelError> {
  const error = await call.then(
    () => expect.unreachable('the call succeeded'),
    (thrown: unknown) => thrown,
  )
  return error instanceof ModelError
    ? error
    : expect.unreachable(`not a ModelError: ${String(error)}`)
}

const TOOL = {
  name: 'lookup_order',
  description: 'Looks up an order',
  inputSchema: {
    type: 'object',
    properties: { order_number: { type: 'string' } },
    required: ['order_number'],
  },
}

describe.each(PROVIDERS)('$protocol', (provider) => {
  const isAnthropic = provider.protocol === 'anthropic'

  test('a plain answer', async () => {
    const answer = await complete(provider, request(), limits())
    expect(answer).toMatchObject({
      text: expect.stringContaining('“How are you?”'),
      toolCalls: [],
      stop: 'end',
      usageMissing: false,
      model: 'some-model',
      requestId: expect.stringMatching(/^req_/),
      degradations: [],
    })
    expect(answer.usage).toMatchObject({ input: 6, cacheRead: 0, reasoning: 0 })
    expect(answer.usage.output).toBeGreaterThan(10)
  })

  test('a tool call, its result, and the answer to it', async () => {
    const messages: ModelMessage[] = [{ role: 'user', content: 'Where is order NW-20417?' }]
    const called = await complete(provider, request({ messages, tools: [TOOL] }), limits())
    const [call] = called.toolCalls
    expect(called.stop).toBe('tool_calls')
    expect(call).toMatchObject({
      name: 'lookup_order',
      arguments: { order_number: 'NW-20417' },
      rawArguments: '{"order_number":"NW-20417"}',
    })
    if (call === undefined) return expect.unreachable()
    messages.push({ role: 'assistant', content: called.text, toolCalls: called.toolCalls })
    messages.push({
      role: 'tool',
      callId: call.id,
      name: call.name,
      content: 'shipped',
      isError: false,
    })
    const done = await complete(provider, request({ messages, tools: [TOOL] }), limits())
    expect(done).toMatchObject({ stop: 'end', text: expect.stringContaining('“shipped”') })
  })

  test('several calls with ids no provider takes back, results and errors together', async () => {
    const calls = ['functions.x:0', 'functions.x:0', 'ok_1'].map((id) => ({
      id,
      name: 'x',
      arguments: { a: 'ü' },
    }))
    await script({ match: { nth: 1 }, respond: { text: 'wait', tool_calls: calls } })
    const first = await complete(provider, request(), limits())
    const ids = first.toolCalls.map((call) => call.id)
    expect(first).toMatchObject({
      text: 'wait',
      stop: 'tool_calls',
      toolCalls: [{ arguments: { a: 'ü' } }, {}, { id: 'ok_1' }],
    })
    expect(new Set(ids).size).toBe(3)
    for (const id of ids) expect(id).toMatch(/^[a-zA-Z0-9_-]{1,64}$/)
    const results = ids.map(
      (callId): ModelMessage => ({ role: 'tool', callId, name: 'x', content: 'no', isError: true }),
    )
    const messages: ModelMessage[] = [
      ...request().messages,
      { role: 'assistant', content: 'wait', toolCalls: first.toolCalls },
      ...results,
      { role: 'user', content: 'and now?' },
    ]
    expect((await complete(provider, request({ messages }), limits())).text).toContain('“and now?”')
    const sent = JSON.stringify(await lastBody())
    expect(sent).toContain(isAnthropic ? '"is_error":true' : '"content":"Error: no"')
  })

  test('structured output', async () => {
    const schema = {
      type: 'object',
      properties: {
        language: { enum: ['de', 'en'] },
        days: { type: 'integer', minimum: 2 },
        note: { type: 'string', pattern: '^x+$' },
      },
      required: ['language', 'days', 'note'],
    }
    const messages: ModelMessage[] = [{ role: 'user', content: 'Ich bin in 1 oder 3 Tagen da.' }]
    const answer = await complete(
      provider,
      request({ messages, outputSchema: { name: 'a b', schema } }),
      limits(),
    )
    expect(JSON.parse(answer.text)).toEqual({ language: 'de', days: 3, note: 'x' })
    expect(answer.degradations).toEqual(
      isAnthropic
        ? [
            'output schema: days.minimum is only described',
            'output schema: note.pattern is only described',
          ]
        : ['output schema: not strict'],
    )
  })

  test('a refusal is an outcome with its text', async () => {
    await script({ match: {}, respond: { refusal: 'I will not' } })
    expect(await complete(provider, request(), limits())).toMatchObject({
      stop: 'refusal',
      refusal: 'I will not',
    })
    await script({ match: {}, respond: { text: 'half a', stop: 'content_filter' } })
    expect(await complete(provider, request(), limits())).toMatchObject({
      stop: 'refusal',
      refusal: expect.any(String),
    })
  })

  test('the token limit; calls beat a plain stop', async () => {
    await script({ match: {}, respond: { text: 'half a', stop: 'max_tokens' } })
    expect((await complete(provider, request(), limits())).stop).toBe('max_tokens')
    await script({
      match: {},
      respond: { tool_calls: [{ name: 'x', arguments: {} }], stop: 'end' },
    })
    expect(await complete(provider, request(), limits())).toMatchObject({
      stop: 'tool_calls',
      toolCalls: [{ rawArguments: '{}' }],
    })
  })

  test('broken tool arguments are kept, not mended, and may stay in the history', async () => {
    await script({
      match: { nth: 1 },
      respond: { tool_calls: [{ name: 'x', arguments: { a: 1 } }] },
      fault: { malformed_json: true },
    })
    const answer = await complete(provider, request(), limits())
    const [call] = answer.toolCalls
    expect(call).toMatchObject({ arguments: undefined, rawArguments: '{"a":1' })
    const messages: ModelMessage[] = [
      ...request().messages,
      { role: 'assistant', content: '', toolCalls: answer.toolCalls },
      { role: 'tool', callId: call?.id ?? '', name: 'x', content: 'not JSON', isError: true },
    ]
    const next = await complete(provider, request({ messages }), limits())
    expect(next.degradations).toEqual([expect.stringContaining('arguments of x sent as {}')])
  })

  test('counts in disjoint classes', async () => {
    const usage = {
      input_tokens: 7,
      output_tokens: 50,
      cache_read_input_tokens: 100,
      cache_creation_input_tokens: 30,
      reasoning_tokens: 20,
    }
    await script({ match: {}, respond: { text: 'x', usage } })
    const answer = await complete(provider, request(), limits())
    const counted = {
      input: 7,
      cacheRead: 100,
      cacheWrite5m: 30,
      cacheWrite1h: 0,
      output: 50,
      reasoning: 20,
    }
    expect(answer).toMatchObject({ usage: counted, usageMissing: false })
  })

  test('zero is a count; missing counts are estimated and marked', async () => {
    await script({
      match: {},
      respond: { text: 'x', usage: { input_tokens: 0, output_tokens: 0 } },
    })
    expect(await complete(provider, request(), limits())).toMatchObject({
      usage: { input: 0, output: 0 },
      usageMissing: false,
    })
    await script({ match: {}, respond: { text: '12345678' }, fault: { no_usage: true } })
    const answer = await complete(provider, request(), limits())
    expect(answer).toMatchObject({ usageMissing: true, usage: { output: 2, cacheRead: 0 } })
    expect(answer.usage.input).toBeGreaterThan(5)
  })

  test.each<[string, NonNullable<Rule['fault']>, ModelErrorKind, object]>([
    [
      '429 with retry-after',
      { status: 429, headers: { 'retry-after': '17' } },
      'rate_limit',
      { status: 429, retryAfterMs: 17_000 },
    ],
    ['529', { status: 529 }, 'overloaded', { status: 529, retryAfterMs: null }],
    ['500 with a page of markup', { status: 500, body: '<html>' }, 'server', { status: 500 }],
    ['401', { status: 401 }, 'auth', { status: 401 }],
    ['404', { status: 404 }, 'not_found', { status: 404 }],
    [
      'an error with status 200',
      { body: { error: { code: 429, message: 'slow down' } } },
      'rate_limit',
      { status: 429 },
    ],
    ['a reset connection', { reset: true }, 'connection', { status: null }],
    [
      'a stream cut in good order',
      { cut_after_chunks: 4 },
      'truncated',
      { status: null, requestId: expect.any(String) },
    ],
    ['a stream torn down', { cut_after_chunks: 4, reset: true }, 'truncated', { status: null }],
    ['no stream at all', { cut_after_chunks: 0 }, 'truncated', { usage: null }],
    ['malformed events', { malformed_json: true }, 'server', { status: null }],
  ])('fails with: %s', async (_, fault, kind, details) => {
    await script({ match: {}, fault })
    expect(await failure(complete(provider, request(), limits()))).toMatchObject({
      kind,
      ...details,
    })
  })

  test('a cut stream tells what was used so far', async () => {
    await script({ match: {}, fault: { cut_after_chunks: 6 } })
    const { usage } = await failure(complete(provider, request(), limits()))
    expect(usage?.input).toBeGreaterThan(5)
    expect(usage?.output).toBeGreaterThan(5)
  })

  test('an error inside the stream keeps its meaning', async () => {
    const body = isAnthropic
      ? { type: 'error', error: { type: 'overloaded_error', message: 'busy' } }
      : { error: { type: 'server_error', code: 503, message: 'busy' } }
    await script({ match: {}, fault: { cut_after_chunks: 4, body } })
    expect(await failure(complete(provider, request(), limits()))).toMatchObject({
      kind: 'overloaded',
      message: 'busy',
    })
  })

  test('silence before the first byte and inside the stream', async () => {
    await script({ match: {}, fault: { hang: true } })
    const silent = await failure(complete(provider, request(), limits({ firstByteMs: 40 })))
    expect(silent).toMatchObject({ kind: 'timeout', message: 'no answer for 40 ms' })
    await script({ match: {}, fault: { hang: true, cut_after_chunks: 5 } })
    const stalled = await failure(complete(provider, request(), limits({ idleMs: 40 })))
    expect(stalled).toMatchObject({ kind: 'timeout', message: 'the stream fell silent for 40 ms' })
  })

  test('the caller stops it, before and during the call', async () => {
    expect(
      await failure(complete(provider, request(), limits({ signal: AbortSignal.abort() }))),
    ).toMatchObject({ kind: 'aborted' })
    await script({ match: {}, fault: { hang: true } })
    const caller = new AbortController()
    const call = failure(complete(provider, request(), limits({ signal: caller.signal })))
    await expect.poll(async () => JSON.stringify(await lastBody())).toContain('How are you?')
    caller.abort()
    expect(await call).toMatchObject({ kind: 'aborted' })
  })

  test('nobody is at the address', async () => {
    const nowhere = { ...provider, baseUrl: 'http://127.0.0.1:1' }
    expect(await failure(complete(nowhere, request(), limits()))).toMatchObject({
      kind: 'connection',
      status: null,
    })
  })
})

test('Anthropic: what is sent', async () => {
  const [provider] = PROVIDERS
  if (provider === undefined) return expect.unreachable()
  const call = { id: 'a.b', name: 'x', arguments: { a: 1 }, rawArguments: '{"a":1}' }
  const messages: ModelMessage[] = [
    { role: 'user', content: 'q' },
    { role: 'assistant', content: '', toolCalls: [call, { ...call, id: 'c' }] },
    { role: 'tool', callId: 'a.b', name: 'x', content: 'r', isError: false },
    { role: 'tool', callId: 'c', name: 'x', content: '', isError: true },
  ]
  await complete(
    provider,
    request({ messages, tools: [TOOL], cache: true, userKey: 'u1' }),
    limits(),
  )
  const mark = { cache_control: { type: 'ephemeral' } }
  const id = expect.stringMatching(/^a_b_[0-9a-f]{8}$/)
  expect(await lastBody()).toEqual({
    model: 'some-model',
    max_tokens: 64_000,
    stream: true,
    system: [{ type: 'text', text: 'Be brief.', ...mark }],
    messages: [
      { role: 'user', content: [{ type: 'text', text: 'q' }] },
      {
        role: 'assistant',
        content: [
          { type: 'tool_use', id, name: 'x', input: { a: 1 } },
          { type: 'tool_use', id: 'c', name: 'x', input: { a: 1 } },
        ],
      },
      {
        role: 'user',
        content: [
          { type: 'tool_result', tool_use_id: id, content: 'r' },
          { type: 'tool_result', tool_use_id: 'c', is_error: true, ...mark },
        ],
      },
    ],
    tools: [
      { name: 'lookup_order', description: 'Looks up an order', input_schema: TOOL.inputSchema },
    ],
    metadata: { user_id: 'u1' },
  })
})

test('OpenAI: what is sent', async () => {
  const provider = PROVIDERS[1]
  if (provider === undefined) return expect.unreachable()
  const schema = {
    type: 'object',
    properties: { a: { type: 'string' } },
    required: ['a'],
    additionalProperties: false,
  }
  await complete(
    provider,
    request({ outputSchema: { name: 'out', schema }, cache: true, userKey: 'u1' }),
    limits(),
  )
  expect(await lastBody()).toEqual({
    model: 'some-model',
    max_completion_tokens: 64_000,
    stream: true,
    stream_options: { include_usage: true },
    messages: [
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: 'How are you?' },
    ],
    response_format: { type: 'json_schema', json_schema: { name: 'out', schema, strict: true } },
    user: 'u1',
  })
})

test('the prompt cache is written once and then read', async () => {
  const [provider] = PROVIDERS
  if (provider === undefined) return expect.unreachable()
  const cached = request({ system: 's'.repeat(4_000), cache: true })
  const first = await complete(provider, cached, limits())
  const messages: ModelMessage[] = [
    ...cached.messages,
    { role: 'assistant', content: first.text, toolCalls: [] },
    { role: 'user', content: 'more' },
  ]
  const second = await complete(provider, { ...cached, messages }, limits())
  expect(first.usage).toMatchObject({ cacheRead: 0, cacheWrite5m: 1003 })
  expect(second.usage).toMatchObject({ cacheRead: 1003 })
})
