import {
  CREATED,
  type Dialect,
  jsonEvent,
  piecesOf,
  Refused,
  type Reply,
  type ServerSentEvent,
} from './dialect.ts'
import { isObject, type JsonObject, objectsOf, stringOf } from './json.ts'
import {
  checkToolPairs,
  contentText,
  missing,
  readChoice,
  requireModel,
  segmentsOf,
  sums,
} from './openai.ts'
import type { AnsweredCall, OfferedTool, Question, Stop, Turn } from './question.ts'
import type { Usage } from './usage.ts'

/** OpenAI Chat Completions. */
export const chat: Dialect = { read, whole, events, errorEvent: (body) => jsonEvent(body) }

function read(body: JsonObject): Question {
  const model = requireModel(body)
  if (!Array.isArray(body.messages)) throw missing('messages')
  if (body.messages.length === 0) {
    throw new Refused(400, "Invalid 'messages': empty array.", {
      code: 'empty_array',
      param: 'messages',
    })
  }
  const turns = objectsOf(body.messages).map(readTurn)
  checkToolPairs(turns, 'messages')
  const format = isObject(body.response_format) ? body.response_format : {}
  const schema = isObject(format.json_schema) ? format.json_schema.schema : undefined
  const options = isObject(body.stream_options) ? body.stream_options : {}
  return {
    model,
    turns,
    tools: objectsOf(body.tools).map(readTool),
    toolChoice: readChoice(body.tool_choice),
    outputSchema: isObject(schema) ? schema : format.type === 'json_object' ? ANY_OBJECT : null,
    stream: body.stream === true,
    includeUsage: options.include_usage === true,
    segments: segmentsOf(body, turns),
  }
}

/** What `json_object` mode answers with: valid JSON of no particular shape. */
const ANY_OBJECT = {
  type: 'object',
  properties: { answer: { type: 'string' } },
  required: ['answer'],
}

function readTurn(message: JsonObject, index: number): Turn {
  const text = contentText(message.content)
  const calls = objectsOf(message.tool_calls).map((call) => stringOf(call.id))
  switch (message.role) {
    case 'system':
    case 'developer':
      return { role: 'system', text, calls: [], callId: null }
    case 'user':
    case 'assistant':
      return { role: message.role, text, calls, callId: null }
    case 'tool':
      return { role: 'tool', text, calls: [], callId: stringOf(message.tool_call_id) }
    default:
      throw new Refused(400, `Invalid value: '${String(message.role)}'.`, {
        code: 'invalid_value',
        param: `messages[${index}].role`,
      })
  }
}

function readTool(tool: JsonObject, index: number): OfferedTool {
  const described = isObject(tool.function) ? tool.function : {}
  if (typeof described.name !== 'string') throw missing(`tools[${index}].function.name`)
  const schema = isObject(described.parameters) ? described.parameters : { type: 'object' }
  return { name: described.name, description: stringOf(described.description), schema }
}

const FINISH_REASONS: { readonly [stop in Stop]: string } = {
  end: 'stop',
  tool_calls: 'tool_calls',
  max_tokens: 'length',
  refusal: 'stop',
  content_filter: 'content_filter',
  pause: 'stop',
}

function whole({ question, answer, usage }: Reply): JsonObject {
  const message = {
    role: 'assistant',
    content: answer.text === '' ? null : answer.text,
    refusal: answer.refusal,
    annotations: [],
    tool_calls: answer.calls.length === 0 ? undefined : answer.calls.map(toolCall),
  }
  const choice = { index: 0, message, finish_reason: FINISH_REASONS[answer.stop], logprobs: null }
  return {
    id: `chatcmpl-${answer.id}`,
    object: 'chat.completion',
    created: CREATED,
    model: question.model,
    choices: [choice],
    usage: usage === null ? undefined : usageOf(usage),
    service_tier: 'default',
  }
}

function toolCall({ id, name, arguments: written }: AnsweredCall): JsonObject {
  return { id, type: 'function', function: { name, arguments: written } }
}

function usageOf(usage: Usage): JsonObject {
  const { prompt, written, total } = sums(usage)
  return {
    prompt_tokens: prompt,
    completion_tokens: usage.output,
    total_tokens: total,
    prompt_tokens_details: {
      cached_tokens: usage.cacheRead,
      cache_write_tokens: written,
      audio_tokens: 0,
    },
    completion_tokens_details: { reasoning_tokens: usage.reasoning, audio_tokens: 0 },
  }
}

function events({ question, answer, usage }: Reply): ServerSentEvent[] {
  const frame = {
    id: `chatcmpl-${answer.id}`,
    object: 'chat.completion.chunk',
    created: CREATED,
    model: question.model,
  }
  const withUsage = question.includeUsage && usage !== null
  const chunk = (delta: JsonObject, finish_reason: string | null = null) => {
    const choices = [{ index: 0, delta, logprobs: null, finish_reason }]
    return jsonEvent({ ...frame, choices, ...(withUsage && { usage: null }) })
  }
  return [
    chunk({ role: 'assistant', content: answer.calls.length > 0 ? null : '', refusal: null }),
    ...piecesOf(answer.text, 12).map((content) => chunk({ content })),
    ...piecesOf(answer.refusal ?? '', 12).map((refusal) => chunk({ refusal })),
    ...answer.calls.flatMap((call, index) =>
      callDeltas(call, index).map((delta) => chunk({ tool_calls: [delta] })),
    ),
    chunk({}, FINISH_REASONS[answer.stop]),
    ...(withUsage ? [jsonEvent({ ...frame, choices: [], usage: usageOf(usage) })] : []),
    { data: '[DONE]' },
  ]
}

function callDeltas(call: AnsweredCall, index: number): JsonObject[] {
  const pieces = piecesOf(call.arguments, 10)
  return [
    { index, ...toolCall({ ...call, arguments: '' }) },
    ...pieces.map((piece) => ({ index, function: { arguments: piece } })),
  ]
}
