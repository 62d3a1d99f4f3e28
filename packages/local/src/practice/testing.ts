import Anthropic from '@anthropic-ai/sdk'
import OpenAI from 'openai'
import { afterAll, beforeEach, expect } from 'vitest'
import type { Rule } from './rules.ts'
import { startPractice } from './server.ts'

/** For tests: a server of its own per test file, reset before each test, and the official clients without retries. */
export async function practiceForTests() {
  const practice = await startPractice()

  async function control(
    method: string,
    body?: unknown,
  ): Promise<{ status: number; body: unknown }> {
    const init = { method, ...(body !== undefined && { body: JSON.stringify(body) }) }
    const response = await fetch(`${practice.url}/_script`, init)
    return { status: response.status, body: await response.json() }
  }

  async function script(...rules: Rule[]): Promise<void> {
    expect(await control('POST', { rules })).toEqual({ status: 200, body: { rules: rules.length } })
  }

  beforeEach(() => control('DELETE'))
  afterAll(() => practice.stop())
  const options = { apiKey: 'key', maxRetries: 0, logLevel: 'off' as const }
  return {
    url: practice.url,
    anthropic: new Anthropic({ ...options, baseURL: practice.url }),
    openai: new OpenAI({ ...options, baseURL: `${practice.url}/v1` }),
    control,
    script,
  }
}

/** What the promise is rejected with. */
export async function failure(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => expect.unreachable('the call succeeded'),
    (error: unknown) => error,
  )
}

/** A question to a Claude model. */
export function ask(content: string): Anthropic.MessageCreateParamsNonStreaming {
  return { model: 'claude-haiku-5-5', max_tokens: 500, messages: [{ role: 'user', content }] }
}

/** A question to a GPT model. */
export function chat(content: string) {
  return { model: 'gpt-6.1-terra', messages: [{ role: 'user' as const, content }] }
}

/** A question one of the tools fits, and one output schema it can fill. */
export const QUESTION = 'Wie wird das Wetter in Berlin in den nächsten 3 Tagen?'
export const OUTPUT_SCHEMA = {
  type: 'object',
  properties: { language: { enum: ['de', 'en'] }, days: { type: 'integer' } },
  required: ['language', 'days'],
  additionalProperties: false,
}

const TOOLS = [
  {
    name: 'lookup_order',
    description: 'Looks up an order',
    schema: {
      type: 'object' as const,
      properties: { order_number: { type: 'string' } },
      required: ['order_number'],
    },
  },
  {
    name: 'get_weather',
    description: 'Current weather of a city; das Wetter',
    schema: {
      type: 'object' as const,
      properties: {
        city: { type: 'string', pattern: '^(Berlin|Paris)$' },
        days: { type: 'integer', minimum: 1 },
      },
      required: ['city', 'days'],
    },
  },
]

/** The same two tools in the shape of each API. */
export const anthropicTools = TOOLS.map(({ schema, ...tool }) => ({
  ...tool,
  input_schema: schema,
}))
export const chatTools = TOOLS.map(({ schema, ...tool }) => {
  return { type: 'function' as const, function: { ...tool, parameters: schema } }
})
export const responsesTools = TOOLS.map(({ schema, ...tool }) => {
  return { type: 'function' as const, ...tool, parameters: schema, strict: null }
})
