import type Anthropic from '@anthropic-ai/sdk'
import { expect, test } from 'vitest'
import {
  anthropicTools,
  ask,
  chat,
  chatTools,
  failure,
  OUTPUT_SCHEMA,
  practiceForTests,
  QUESTION,
  responsesTools,
} from './testing.ts'

const { anthropic, openai, control, url } = await practiceForTests()

test('Anthropic: a plain answer, whole and streamed, is the same', async () => {
  const whole = await anthropic.messages.create(ask('How are you?'))
  expect(whole).toMatchObject({
    stop_reason: 'end_turn',
    model: 'claude-haiku-5-5',
    usage: { input_tokens: 3 },
  })
  expect(whole.content).toMatchObject([
    { type: 'text', text: expect.stringMatching(/practice answer.*“How are you\?”/) },
  ])
  const streamed = await anthropic.messages.stream(ask('How are you?')).finalMessage()
  expect(streamed.content).toEqual(whole.content)
  expect(streamed.usage.output_tokens).toBe(whole.usage.output_tokens)
})

test('Anthropic: events come in order and in pieces', async () => {
  const types: string[] = []
  for await (const event of await anthropic.messages.create({
    ...ask('x'.repeat(70)),
    stream: true,
  }))
    types.push(event.type)
  expect(types.slice(0, 2)).toEqual(['message_start', 'content_block_start'])
  expect(types.filter((type) => type === 'content_block_delta').length).toBeGreaterThan(5)
  expect(types.slice(-3)).toEqual(['content_block_stop', 'message_delta', 'message_stop'])
})

test('Anthropic: picks the tool whose words fit, answers after the result', async () => {
  const request = { ...ask(QUESTION), tools: anthropicTools }
  const called = await anthropic.messages.stream(request).finalMessage()
  const [call] = called.content
  expect(call).toMatchObject({
    type: 'tool_use',
    name: 'get_weather',
    input: { city: 'Berlin', days: 3 },
  })
  if (call?.type !== 'tool_use') return expect.unreachable()
  const result = {
    type: 'tool_result' as const,
    tool_use_id: call.id,
    content: 'sunny, 21 degrees',
  }
  const messages: Anthropic.MessageParam[] = [
    ...request.messages,
    { role: 'assistant', content: called.content },
    { role: 'user', content: [result] },
  ]
  const done = await anthropic.messages.create({ ...request, messages })
  expect(done).toMatchObject({
    stop_reason: 'end_turn',
    content: [{ text: expect.stringContaining('sunny, 21') }],
  })
  const orphan = await failure(
    anthropic.messages.create({ ...request, messages: messages.toSpliced(1, 1) }),
  )
  expect(orphan).toMatchObject({ status: 400, type: 'invalid_request_error' })
})

test('no tool without a clear overlap; tool_choice forces and forbids', async () => {
  const unrelated = { ...ask('Tell me a joke'), tools: anthropicTools }
  expect((await anthropic.messages.create(unrelated)).stop_reason).toBe('end_turn')
  const forced = await anthropic.messages.create({ ...unrelated, tool_choice: { type: 'any' } })
  expect(forced.stop_reason).toBe('tool_use')
  const named = await openai.chat.completions.create({
    ...chat(QUESTION),
    tools: chatTools,
    tool_choice: { type: 'function', function: { name: 'lookup_order' } },
  })
  expect(named.choices[0]?.message.tool_calls).toMatchObject([
    { function: { name: 'lookup_order' } },
  ])
  const none = await openai.chat.completions.create({
    ...chat(QUESTION),
    tools: chatTools,
    tool_choice: 'none',
  })
  expect(none.choices[0]?.finish_reason).toBe('stop')
})

test('Anthropic: structured output', async () => {
  const message = await anthropic.messages.create({
    ...ask(QUESTION),
    output_config: { format: { type: 'json_schema', schema: OUTPUT_SCHEMA } },
  })
  expect(message.content[0]).toMatchObject({ text: '{"language":"de","days":3}' })
})

test('OpenAI chat: plain, streamed, tools, schema', async () => {
  const whole = await openai.chat.completions.create(chat('How are you?'))
  const text = whole.choices[0]?.message.content
  expect(text).toContain('“How are you?”')
  expect(whole.usage).toMatchObject({
    prompt_tokens: 3,
    total_tokens: 3 + (whole.usage?.completion_tokens ?? 0),
  })
  const stream = openai.chat.completions.stream({
    ...chat('How are you?'),
    stream_options: { include_usage: true },
  })
  const streamed = await stream.finalChatCompletion()
  expect(streamed.choices[0]?.message.content).toBe(text)
  expect(streamed.usage).toEqual(whole.usage)

  const tooled = await openai.chat.completions
    .stream({ ...chat(QUESTION), tools: chatTools })
    .finalChatCompletion()
  const [call] = tooled.choices[0]?.message.tool_calls ?? []
  expect(call).toMatchObject({
    function: { name: 'get_weather', arguments: '{"city":"Berlin","days":3}' },
  })
  expect(tooled.choices[0]?.finish_reason).toBe('tool_calls')

  const filled = await openai.chat.completions.create({
    ...chat(QUESTION),
    response_format: { type: 'json_schema', json_schema: { name: 'x', schema: OUTPUT_SCHEMA } },
  })
  expect(filled.choices[0]?.message.content).toBe('{"language":"de","days":3}')
})

test('OpenAI chat: usage is streamed only if asked for', async () => {
  let usage = 0
  for await (const chunk of await openai.chat.completions.create({
    ...chat('hello'),
    stream: true,
  })) {
    if (chunk.usage || chunk.choices.length === 0) usage += 1
  }
  expect(usage).toBe(0)
})

test('OpenAI Responses: plain, tools and schema, whole and streamed', async () => {
  const request = { model: 'gpt-6.1-terra', input: QUESTION }
  const tools = responsesTools
  expect((await openai.responses.create(request)).output_text).toContain('“Wie wird das Wetter')
  const streamed = await openai.responses.stream(request).finalResponse()
  expect(streamed.output_text).toBe((await openai.responses.create(request)).output_text)
  const called = await openai.responses.stream({ ...request, tools }).finalResponse()
  const [call] = called.output
  expect(call).toMatchObject({
    type: 'function_call',
    name: 'get_weather',
    arguments: '{"city":"Berlin","days":3}',
  })
  if (call?.type !== 'function_call') return expect.unreachable()
  const done = await openai.responses.create({
    ...request,
    tools,
    input: [
      { role: 'user', content: QUESTION },
      call,
      { type: 'function_call_output', call_id: call.call_id, output: 'rain' },
    ],
  })
  expect(done.output_text).toContain('“rain”')
  const format = { type: 'json_schema' as const, name: 'x', schema: OUTPUT_SCHEMA }
  expect((await openai.responses.create({ ...request, text: { format } })).output_text).toBe(
    '{"language":"de","days":3}',
  )
})

test('embeddings are unit vectors, nearer for texts that share words', async () => {
  const input = ['a refund for the broken lamp', 'Refunds of lamps', 'das Wetter in Paris']
  const { data } = await openai.embeddings.create({ model: 'text-embedding-3-small', input })
  const [first = [], second = [], third = []] = data.map((item) => item.embedding)
  const dot = (left: number[], right: number[]) =>
    left.reduce((sum, value, index) => sum + value * (right[index] ?? 0), 0)
  expect(first).toHaveLength(1536)
  expect(dot(first, first)).toBeCloseTo(1, 5)
  expect(dot(first, second)).toBeGreaterThan(dot(first, third) + 0.3)
  const floats = await openai.embeddings.create({
    model: 'm',
    input: input[0] ?? '',
    encoding_format: 'float',
  })
  expect(floats.data[0]?.embedding).toEqual(first)
})

test('prompt caches: written at first sight, read later, forgotten on reset', async () => {
  const cached = (content: string): Anthropic.MessageCreateParamsNonStreaming => ({
    ...ask(content),
    system: [
      { type: 'text', text: 's'.repeat(4_000), cache_control: { type: 'ephemeral', ttl: '1h' } },
    ],
    cache_control: { type: 'ephemeral' },
  })
  const first = (await anthropic.messages.create(cached('12345678'))).usage
  expect(first).toMatchObject({
    input_tokens: 1,
    cache_read_input_tokens: 0,
    cache_creation_input_tokens: 1002,
  })
  expect(first.cache_creation).toEqual({
    ephemeral_1h_input_tokens: 1000,
    ephemeral_5m_input_tokens: 2,
  })
  const second = (await anthropic.messages.create(cached('something else'))).usage
  expect(second).toMatchObject({ cache_read_input_tokens: 1000, cache_creation_input_tokens: 4 })
  const long = {
    ...chat('hello'),
    messages: [{ role: 'system' as const, content: 's'.repeat(8_000) }, ...chat('hello').messages],
  }
  const details = async () =>
    (await openai.chat.completions.create(long)).usage?.prompt_tokens_details
  expect(await details()).toMatchObject({ cached_tokens: 0, cache_write_tokens: 2002 })
  expect(await details()).toMatchObject({ cached_tokens: 2002, cache_write_tokens: 0 })
  await control('DELETE')
  expect(await details()).toMatchObject({ cached_tokens: 0 })
})

test('counting tokens and listing models', async () => {
  const { max_tokens: _, ...prompt } = ask('12345678')
  expect(await anthropic.messages.countTokens(prompt)).toEqual({ input_tokens: 2 })
  expect((await openai.models.list()).data.map((model) => model.id)).toContain('practice-small')
  expect((await anthropic.models.list()).data[0]).toMatchObject({ type: 'model' })
  expect((await fetch(`${url}/_health`)).status).toBe(200)
})

test('missing fields and keys are refused in the shape of the provider', async () => {
  const post = async (path: string, body: unknown, key = 'k') => {
    const headers = { authorization: `Bearer ${key}` }
    const response = await fetch(url + path, {
      method: 'POST',
      body: JSON.stringify(body),
      headers,
    })
    return { status: response.status, body: await response.json() }
  }
  const { model: _, ...withoutModel } = ask('x')
  const { max_tokens: __, ...withoutMaximum } = ask('x')
  const invalid = (message: string) => ({
    status: 400,
    body: { type: 'error', error: { type: 'invalid_request_error', message } },
  })
  expect(await post('/v1/messages', withoutModel)).toMatchObject(invalid('model: Field required'))
  expect(await post('/v1/messages', withoutMaximum)).toMatchObject(
    invalid('max_tokens: Field required'),
  )
  expect(await post('/v1/messages', { ...ask('x'), messages: undefined })).toMatchObject(
    invalid('messages: Field required'),
  )
  expect(await post('/v1/chat/completions', { model: 'm' })).toMatchObject({
    status: 400,
    body: {
      error: {
        type: 'invalid_request_error',
        param: 'messages',
        code: 'missing_required_parameter',
      },
    },
  })
  expect(await post('/v1/messages', ask('x'), '')).toMatchObject({
    status: 401,
    body: { error: { type: 'authentication_error' } },
  })
  expect(await post('/v1/chat/completions', chat('x'), '')).toMatchObject({
    status: 401,
    body: { error: { code: 'invalid_api_key' } },
  })
  expect(await post('/v1/unknown', {})).toMatchObject({ status: 404 })
})
