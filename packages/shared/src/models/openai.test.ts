import type OpenAI from 'openai'
import { expect, test } from 'vitest'
import { openaiExchange } from './openai.ts'
import type { ModelRequest } from './types.ts'

const request: ModelRequest = {
  model: 'm',
  system: '',
  messages: [],
  tools: [],
  maxTokens: 10,
  cache: false,
}

type Delta = OpenAI.ChatCompletionChunk.Choice.Delta

/** Feeds the deltas of a stream that no practice model would send, as other hosts do. */
function answerOf(deltas: unknown[], tail: object[] = []) {
  const exchange = openaiExchange({ protocol: 'openai', baseUrl: 'http://x', apiKey: 'k' }, request)
  const frame = { id: 'c', object: 'chat.completion.chunk' as const, created: 0, model: 'm' }
  const choice = { index: 0, logprobs: null, finish_reason: null }
  for (const delta of deltas)
    exchange.add({ ...frame, choices: [{ ...choice, delta: delta as Delta }] })
  for (const chunk of tail) exchange.add({ ...frame, choices: [], ...chunk })
  return { complete: exchange.isComplete(), ...exchange.answer() }
}

const call = (
  index: number | undefined,
  id: string | undefined,
  name: string | undefined,
  json: string,
) => ({
  tool_calls: [{ index, id, function: { name, arguments: json } }],
})
const names = (deltas: unknown[]) =>
  answerOf(deltas).toolCalls.map((each) => `${each.name} ${each.rawArguments}`)

test('interleaved deltas belong to the call with their index', () => {
  expect(
    names([
      call(0, 'a', 'x', '{"n"'),
      call(1, 'b', 'y', '{"m"'),
      call(0, undefined, undefined, ':1}'),
      call(1, undefined, undefined, ':2}'),
    ]),
  ).toEqual(['x {"n":1}', 'y {"m":2}'])
})

test('two calls without index, with the same index, and in one chunk stay two', () => {
  const expected = ['x {"n":1}', 'y {}']
  for (const index of [undefined, 0]) {
    expect(
      names([
        call(index, 'a', 'x', '{"n"'),
        call(index, undefined, undefined, ':1}'),
        call(index, 'b', 'y', ''),
      ]),
    ).toEqual(expected)
  }
  expect(
    names([
      {
        tool_calls: [
          ...call(0, 'a', 'x', '{"n":1}').tool_calls,
          ...call(1, 'b', 'y', '{}').tool_calls,
        ],
      },
    ]),
  ).toEqual(expected)
})

test('an id that is repeated in each delta begins no new call', () => {
  expect(names([call(0, 'a', 'x', '{"n"'), call(0, 'a', 'x', ':1}')])).toEqual(['x {"n":1}'])
})

test('usage before the end, content after it, a first chunk without choices', () => {
  const usage = {
    prompt_tokens: 10,
    completion_tokens: 4,
    total_tokens: 14,
    prompt_tokens_details: { cached_tokens: 8, cache_write_tokens: 1 },
  }
  const end = { choices: [{ index: 0, delta: {}, logprobs: null, finish_reason: 'stop' }] }
  const more = {
    choices: [{ index: 0, delta: { content: '!' }, logprobs: null, finish_reason: null }],
  }
  expect(answerOf([{ content: 'a' }], [{}, { usage }, end, more])).toMatchObject({
    complete: true,
    text: 'a!',
    usage: { input: 1, cacheRead: 8, cacheWrite5m: 1, output: 4 },
  })
  expect(answerOf([{ content: 'a' }])).toMatchObject({ complete: false, usageMissing: true })
})
