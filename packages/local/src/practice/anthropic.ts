import {
  type Dialect,
  jsonEvent,
  piecesOf,
  Refused,
  type Reply,
  type ServerSentEvent,
} from './dialect.ts'
import { isObject, type JsonObject, numberOf, objectsOf, stringOf } from './json.ts'
import {
  type OfferedTool,
  type Question,
  type Segment,
  type Stop,
  type ToolChoice,
  type Turn,
  unpairedCall,
} from './question.ts'
import type { Usage } from './usage.ts'

/** Anthropic Messages, API version 2026-10-21. */
export const anthropic: Dialect = { read, whole, events, errorEvent }

/** The body of an Anthropic error. */
export function anthropicError(status: number, message: string, requestId: string): JsonObject {
  const type = ERROR_TYPES[status] ?? (status >= 500 ? 'api_error' : 'invalid_request_error')
  return { type: 'error', error: { type, message, details: null }, request_id: requestId }
}

const ERROR_TYPES: { readonly [status: number]: string } = {
  401: 'authentication_error',
  402: 'billing_error',
  403: 'permission_error',
  404: 'not_found_error',
  409: 'conflict_error',
  429: 'rate_limit_error',
  504: 'timeout_error',
  529: 'overloaded_error',
}

function read(body: JsonObject): Question {
  if (typeof body.model !== 'string' || body.model === '')
    throw new Refused(400, 'model: Field required')
  if (numberOf(body.max_tokens) === undefined) throw new Refused(400, 'max_tokens: Field required')
  return readPrompt(body)
}

/** Reads a request without asking for `max_tokens`, as for counting tokens. */
export function readPrompt(body: JsonObject): Question {
  if (!Array.isArray(body.messages)) throw new Refused(400, 'messages: Field required')
  const messages = objectsOf(body.messages)
  if (messages.length === 0) throw new Refused(400, 'messages: at least one message is required')
  if (messages.at(-1)?.role === 'assistant') {
    throw new Refused(
      400,
      'This model does not take a prefilled answer: the last message must be of the user',
    )
  }
  const system = blocksOf(body.system)
  const said = messages.flatMap((message, index) => turnsOf(message, `messages.${index}`))
  const turns = [...system.map((block): Turn => turn('system', stringOf(block.text))), ...said]
  checkToolPairs(said)
  const format = isObject(body.output_config) ? body.output_config.format : undefined
  return {
    model: stringOf(body.model),
    turns,
    tools: objectsOf(body.tools).map(readTool),
    toolChoice: readChoice(body.tool_choice),
    outputSchema: isObject(format) && isObject(format.schema) ? format.schema : null,
    stream: body.stream === true,
    includeUsage: true,
    segments: segmentsOf(body, system, messages),
  }
}

function turn(role: Turn['role'], text: string): Turn {
  return { role, text, calls: [], callId: null }
}

function blocksOf(content: unknown): JsonObject[] {
  return typeof content === 'string' ? [{ type: 'text', text: content }] : objectsOf(content)
}

/** One message: tool results become turns of their own, before the text that came with them. */
function turnsOf(message: JsonObject, path: string): Turn[] {
  const blocks = blocksOf(message.content)
  if (blocks.length === 0) throw new Refused(400, `${path}.content: must not be empty`)
  if (blocks.some((block) => block.type === 'text' && stringOf(block.text) === '')) {
    throw new Refused(400, `${path}: text content blocks must be non-empty`)
  }
  const text = textOf(blocks)
  const calls = blocks
    .filter((block) => block.type === 'tool_use')
    .map((block) => toolId(block.id, path))
  if (message.role === 'assistant') return [{ role: 'assistant', text, calls, callId: null }]
  if (message.role === 'system') return [turn('system', text)]
  if (message.role !== 'user')
    throw new Refused(400, `${path}.role: must be user, assistant or system`)
  const results = blocks.filter((block) => block.type === 'tool_result')
  const turns = results.map((block): Turn => {
    return {
      ...turn('tool', textOf(blocksOf(block.content))),
      callId: toolId(block.tool_use_id, path),
    }
  })
  return text === '' && turns.length > 0 ? turns : [...turns, turn('user', text)]
}

function textOf(blocks: readonly JsonObject[]): string {
  return blocks
    .map((block) => stringOf(block.text))
    .filter((text) => text !== '')
    .join('\n')
}

function toolId(id: unknown, path: string): string {
  if (typeof id === 'string' && /^[a-zA-Z0-9_-]+$/.test(id)) return id
  throw new Refused(400, `${path}: the id of a tool call must match ^[a-zA-Z0-9_-]+$`)
}

function checkToolPairs(turns: readonly Turn[]): void {
  const unpaired = unpairedCall(turns)
  if (unpaired?.lacks === 'call') {
    throw new Refused(
      400,
      `messages: tool_result "${unpaired.id}" has no tool_use in the message before it`,
    )
  }
  if (unpaired?.lacks === 'result') {
    throw new Refused(
      400,
      `messages: tool_use "${unpaired.id}" has no tool_result in the message after it`,
    )
  }
}

function readTool(tool: JsonObject, index: number): OfferedTool {
  const { name, input_schema: schema } = tool
  if (typeof name !== 'string' || !/^[a-zA-Z0-9_-]{1,128}$/.test(name)) {
    throw new Refused(400, `tools.${index}.name: must match ^[a-zA-Z0-9_-]{1,128}$`)
  }
  if (!isObject(schema)) throw new Refused(400, `tools.${index}.input_schema: Field required`)
  return { name, description: stringOf(tool.description), schema }
}

function readChoice(choice: unknown): ToolChoice {
  if (!isObject(choice)) return { kind: 'auto' }
  if (choice.type === 'tool') return { kind: 'named', name: stringOf(choice.name) }
  return { kind: choice.type === 'any' || choice.type === 'none' ? choice.type : 'auto' }
}

/** The prompt in the order the cache sees it: tools, system, messages. */
function segmentsOf(body: JsonObject, system: JsonObject[], messages: JsonObject[]): Segment[] {
  const blocks = [
    ...objectsOf(body.tools),
    ...system,
    ...messages.flatMap((message) => blocksOf(message.content)),
  ]
  const segments = blocks.map(({ cache_control: mark, ...block }): Segment => {
    const text = block.type === 'text' ? stringOf(block.text) : JSON.stringify(block)
    return { text, cacheUntilHere: ttlOf(mark) }
  })
  const last = segments.at(-1)
  if (last !== undefined) last.cacheUntilHere ??= ttlOf(body.cache_control)
  return segments
}

function ttlOf(mark: unknown): '5m' | '1h' | null {
  if (!isObject(mark)) return null
  return mark.ttl === '1h' ? '1h' : '5m'
}

const STOP_REASONS: { readonly [stop in Stop]: string } = {
  end: 'end_turn',
  tool_calls: 'tool_use',
  max_tokens: 'max_tokens',
  refusal: 'refusal',
  content_filter: 'refusal',
  pause: 'pause_turn',
}

function whole({ question, answer, usage }: Reply): JsonObject {
  const text = answer.text === '' ? [] : [{ type: 'text', text: answer.text, citations: null }]
  const calls = answer.calls.map((call) => ({
    ...toolUse(call.id, call.name),
    input: parsed(call.arguments),
  }))
  return {
    id: `msg_${answer.id}`,
    type: 'message',
    role: 'assistant',
    model: question.model,
    container: null,
    content: [...text, ...calls],
    diagnostics: null,
    ...ending({ question, answer, usage }),
    usage: usage === null ? undefined : { ...inputUsage(usage), ...outputUsage(usage) },
  }
}

function toolUse(id: string, name: string): JsonObject {
  return { type: 'tool_use', id, name, input: {}, caller: { type: 'direct' } }
}

function parsed(written: string): unknown {
  try {
    return JSON.parse(written)
  } catch {
    return written
  }
}

function ending({ answer }: Reply): JsonObject {
  const explained = { type: 'refusal', category: null, explanation: answer.refusal }
  return {
    stop_reason: STOP_REASONS[answer.stop],
    stop_sequence: null,
    stop_details: STOP_REASONS[answer.stop] === 'refusal' ? explained : null,
  }
}

function inputUsage(usage: Usage): JsonObject {
  return {
    input_tokens: usage.input,
    cache_creation_input_tokens: usage.cacheWrite5m + usage.cacheWrite1h,
    cache_creation: {
      ephemeral_5m_input_tokens: usage.cacheWrite5m,
      ephemeral_1h_input_tokens: usage.cacheWrite1h,
    },
    cache_read_input_tokens: usage.cacheRead,
    inference_geo: null,
    server_tool_use: null,
    service_tier: 'standard',
    speed: 'standard',
  }
}

function outputUsage(usage: Usage): JsonObject {
  return {
    output_tokens: usage.output,
    output_tokens_details: { thinking_tokens: usage.reasoning },
  }
}

/** The first event tells the input tokens and one output token, the last but one the cumulative counts. */
function events(reply: Reply): ServerSentEvent[] {
  const { answer, usage } = reply
  const started =
    usage === null
      ? undefined
      : { ...inputUsage(usage), ...outputUsage({ ...usage, output: 1, reasoning: 0 }) }
  const open = { stop_reason: null, stop_sequence: null, stop_details: null }
  const message = { ...whole(reply), content: [], ...open, usage: started }
  const blocks: JsonObject[][] = []
  if (answer.text !== '') {
    const deltas = piecesOf(answer.text, 12).map((text) => ({ type: 'text_delta', text }))
    blocks.push([{ type: 'text', text: '', citations: null }, ...deltas])
  }
  for (const call of answer.calls) {
    const deltas = piecesOf(call.arguments, 10).map((partial_json) => ({
      type: 'input_json_delta',
      partial_json,
    }))
    blocks.push([toolUse(call.id, call.name), ...deltas])
  }
  return [
    named({ type: 'message_start', message }),
    named({ type: 'ping' }),
    ...blocks.flatMap((block, index) => blockEvents(block, index)),
    named({
      type: 'message_delta',
      delta: { container: null, ...ending(reply) },
      usage: finalUsage(usage),
    }),
    named({ type: 'message_stop' }),
  ]
}

function blockEvents([content_block, ...deltas]: JsonObject[], index: number): ServerSentEvent[] {
  return [
    named({ type: 'content_block_start', index, content_block }),
    ...deltas.map((delta) => named({ type: 'content_block_delta', index, delta })),
    named({ type: 'content_block_stop', index }),
  ]
}

function finalUsage(usage: Usage | null): JsonObject | undefined {
  if (usage === null) return undefined
  const { input_tokens, cache_creation_input_tokens, cache_read_input_tokens } = inputUsage(usage)
  const input = {
    input_tokens,
    cache_creation_input_tokens,
    cache_read_input_tokens,
    server_tool_use: null,
  }
  return { ...input, ...outputUsage(usage) }
}

function named(data: { type: string } & JsonObject): ServerSentEvent {
  return jsonEvent(data, data.type)
}

function errorEvent(body: unknown): ServerSentEvent {
  return jsonEvent(body, 'error')
}
