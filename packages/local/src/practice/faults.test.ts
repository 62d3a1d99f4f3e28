import Anthropic from '@anthropic-ai/sdk'
import OpenAI from 'openai'
import { expect, test } from 'vitest'
import {
  ask,
  chat,
  chatTools,
  failure,
  OUTPUT_SCHEMA,
  practiceForTests,
  QUESTION,
} from './testing.ts'

const { anthropic, openai, control, script, url } = await practiceForTests()

test('a script answers on both protocols; nth counts the calls that match', async () => {
  await script(
    { match: { contains: 'pear', nth: 1 }, fault: { status: 529 } },
    { match: { contains: 'pear', nth: 2 }, respond: { text: 'second' } },
    { match: { model: 'gpt-6.1-terra' }, respond: { refusal: 'I will not' } },
    {
      match: {},
      respond: {
        text: 'let me look',
        tool_calls: [{ name: 'x', arguments: { a: 1 } }],
        usage: { input_tokens: 7, output_tokens: 5 },
      },
    },
  )
  const other = await anthropic.messages.create(ask('apple'))
  expect(other).toMatchObject({
    stop_reason: 'tool_use',
    usage: { input_tokens: 7, output_tokens: 5 },
  })
  expect(other.content).toMatchObject([{ text: 'let me look' }, { name: 'x', input: { a: 1 } }])
  expect(await failure(anthropic.messages.create(ask('a pear')))).toMatchObject({
    status: 529,
    type: 'overloaded_error',
  })
  const second = await openai.chat.completions.create(chat('a pear'))
  expect(second.choices[0]).toMatchObject({ message: { content: 'second' } })
  const third = await openai.chat.completions.create(chat('a pear'))
  expect(third.choices[0]).toMatchObject({
    message: { content: null, refusal: 'I will not' },
    finish_reason: 'stop',
  })
  const streamed = await openai.responses
    .stream({ model: 'gpt-6.1-terra', input: 'x' })
    .finalResponse()
  expect(streamed.output).toMatchObject([{ content: [{ type: 'refusal', refusal: 'I will not' }] }])
  await control('DELETE')
  expect((await anthropic.messages.create(ask('apple'))).stop_reason).toBe('end_turn')
})

test('the calls are listed without keys until the reset', async () => {
  await anthropic.messages.create(ask('remember me'))
  await openai.chat.completions.create(chat('me too'))
  const list = async () => await (await fetch(`${url}/_calls`)).json()
  expect(await list()).toMatchObject([
    {
      path: '/v1/messages',
      time: expect.stringMatching(/Z$/),
      body: { max_tokens: 500 },
      headers: { 'content-type': 'application/json' },
    },
    { path: '/v1/chat/completions', body: { model: 'gpt-6.1-terra' } },
  ])
  expect(JSON.stringify(await list())).not.toMatch(/authorization|x-api-key/)
  await control('DELETE')
  expect(await list()).toEqual([])
})

test('a script that cannot be read names the field', async () => {
  const answer = (message: string, field: string) => ({
    status: 400,
    body: { error: { code: 'PRACTICE_SCRIPT_INVALID', field, message } },
  })
  expect(await control('POST', { rules: [{ match: {}, fault: { status: 'x' } }] })).toEqual(
    answer(
      'Cannot read the script: "rules[0].fault.status" must be a whole number from 200 to 599, got "x"',
      'rules[0].fault.status',
    ),
  )
  const fieldOf = async (body: unknown) => {
    const { status, body: answered } = await control('POST', body)
    return [status, answered]
  }
  const at = (field: string) => [
    400,
    {
      error: {
        code: 'PRACTICE_SCRIPT_INVALID',
        field,
        message: expect.stringContaining(`"${field}"`),
      },
    },
  ]
  expect(await fieldOf({ rules: [{ match: { nth: 0 }, fault: {} }] })).toEqual(
    at('rules[0].match.nth'),
  )
  expect(await fieldOf({ rules: [{ match: {} }] })).toEqual(at('rules[0]'))
  expect(await fieldOf({ rules: [{ match: {}, fault: { hangs: true } }] })).toEqual(
    at('rules[0].fault.hangs'),
  )
  expect(await fieldOf({ rule: [] })).toEqual(at('rule'))
  expect(await fieldOf([])).toEqual(at('script'))
})

test('fault: status, headers and body', async () => {
  await script({ match: {}, fault: { status: 429, headers: { 'retry-after': '17' } } })
  const [limited, alsoLimited] = [
    await failure(anthropic.messages.create(ask('x'))),
    await failure(openai.chat.completions.create(chat('x'))),
  ]
  expect(limited).toMatchObject({
    status: 429,
    type: 'rate_limit_error',
    requestID: expect.stringMatching(/^req_/),
  })
  expect(alsoLimited).toMatchObject({
    status: 429,
    code: 'rate_limit_exceeded',
    requestID: expect.stringMatching(/^req_/),
  })
  expect(alsoLimited instanceof OpenAI.APIError && alsoLimited.headers?.get('retry-after')).toBe(
    '17',
  )
  await script({ match: {}, fault: { status: 502, body: '<html>bad gateway</html>' } })
  expect(await failure(anthropic.messages.create(ask('x')))).toMatchObject({ status: 502 })
  await script({
    match: {},
    fault: { status: 400, body: { error: { code: 'context_length_exceeded', message: 'long' } } },
  })
  expect(await failure(openai.chat.completions.create(chat('x')))).toMatchObject({
    code: 'context_length_exceeded',
  })
})

test('fault: hang, delay and reset', async () => {
  await script({ match: {}, fault: { hang: true } })
  expect(await failure(anthropic.messages.create(ask('x'), { timeout: 50 }))).toBeInstanceOf(
    Anthropic.APIConnectionTimeoutError,
  )
  await script({ match: {}, fault: { delay_ms: 60 } })
  expect(await failure(openai.chat.completions.create(chat('x'), { timeout: 20 }))).toBeInstanceOf(
    OpenAI.APIConnectionTimeoutError,
  )
  expect((await openai.chat.completions.create(chat('x'))).choices).toHaveLength(1)
  await script({ match: {}, fault: { reset: true } })
  expect(await failure(openai.chat.completions.create(chat('x')))).toBeInstanceOf(
    OpenAI.APIConnectionError,
  )
})

test('fault: a stream cut in good order, cut hard, ended by an error event; a cut message', async () => {
  const read = async () => {
    const types: string[] = []
    for await (const event of await anthropic.messages.create({ ...ask('x'), stream: true }))
      types.push(event.type)
    return types
  }
  await script({ match: {}, fault: { cut_after_chunks: 4 } })
  expect(await read()).toEqual(['message_start', 'content_block_start', 'content_block_delta'])
  expect(await failure(anthropic.messages.create(ask('x')))).toBeInstanceOf(Error)
  await script({ match: {}, fault: { cut_after_chunks: 4, reset: true } })
  expect(await failure(read())).toBeInstanceOf(Error)
  const body = { type: 'error', error: { type: 'overloaded_error', message: 'busy' } }
  await script({ match: {}, fault: { cut_after_chunks: 3, body } })
  expect(await failure(read())).toMatchObject({ type: 'overloaded_error' })
  expect(
    await failure(openai.chat.completions.stream(chat('x')).finalChatCompletion()),
  ).toMatchObject({ error: { message: 'busy' } })
})

test('fault: malformed JSON in arguments, structured output, message and stream', async () => {
  await script({ match: {}, fault: { malformed_json: true } })
  const called = await openai.chat.completions.create({ ...chat(QUESTION), tools: chatTools })
  expect(called.choices[0]?.message.tool_calls).toMatchObject([
    { function: { arguments: '{"city":"Berlin","days":3' } },
  ])
  const format = { type: 'json_schema' as const, schema: OUTPUT_SCHEMA }
  const filled = await anthropic.messages.create({ ...ask(QUESTION), output_config: { format } })
  expect(filled.content[0]).toMatchObject({ text: '{"language":"de","days":3' })
  expect(await failure(anthropic.messages.create(ask('x')))).toBeInstanceOf(Error)
  expect(
    await failure(openai.chat.completions.stream(chat('x')).finalChatCompletion()),
  ).toBeInstanceOf(Error)
})

test('fault: no usage', async () => {
  await script({ match: {}, fault: { no_usage: true } })
  expect((await anthropic.messages.create(ask('x'))).usage).toBeUndefined()
  const options = { stream_options: { include_usage: true }, stream: true as const }
  for await (const chunk of await openai.chat.completions.create({ ...chat('x'), ...options }))
    expect(chunk.usage ?? null).toBeNull()
})
