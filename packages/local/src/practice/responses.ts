import {
  CREATED,
  type Dialect,
  jsonEvent,
  piecesOf,
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
import type { OfferedTool, Question, Turn } from './question.ts'

/** OpenAI Responses, stateless: `previous_response_id` is not kept. */
export const responses: Dialect = { read, whole, events, errorEvent }

function read(body: JsonObject): Question {
  const model = requireModel(body)
  const items =
    typeof body.input === 'string' ? [{ role: 'user', content: body.input }] : objectsOf(body.input)
  if (items.length === 0) throw missing('input')
  const instructions = stringOf(body.instructions)
  const turns = joinCalls(items.map(readItem))
  if (instructions !== '')
    turns.unshift({ role: 'system', text: instructions, calls: [], callId: null })
  checkToolPairs(turns, 'input')
  const format = isObject(body.text) ? body.text.format : undefined
  return {
    model,
    turns,
    tools: objectsOf(body.tools)
      .filter((tool) => tool.type === 'function')
      .map(readTool),
    toolChoice: readChoice(body.tool_choice),
    outputSchema: isObject(format) && isObject(format.schema) ? format.schema : null,
    stream: body.stream === true,
    includeUsage: true,
    segments: segmentsOf(body, turns),
  }
}

function readItem(item: JsonObject): Turn {
  if (item.type === 'function_call') {
    return { role: 'assistant', text: '', calls: [stringOf(item.call_id)], callId: null }
  }
  if (item.type === 'function_call_output') {
    return {
      role: 'tool',
      text: contentText(item.output),
      calls: [],
      callId: stringOf(item.call_id),
    }
  }
  const role = item.role === 'assistant' || item.role === 'user' ? item.role : 'system'
  return { role, text: contentText(item.content), calls: [], callId: null }
}

/** Calls are items of their own here; those in a row belong to one turn. */
function joinCalls(turns: readonly Turn[]): Turn[] {
  const joined: Turn[] = []
  for (const turn of turns) {
    const before = joined.at(-1)
    if (turn.role === 'assistant' && before?.role === 'assistant') {
      const text = [before.text, turn.text].filter((part) => part !== '').join('\n')
      joined[joined.length - 1] = { ...before, text, calls: [...before.calls, ...turn.calls] }
    } else joined.push(turn)
  }
  return joined
}

function readTool(tool: JsonObject, index: number): OfferedTool {
  if (typeof tool.name !== 'string') throw missing(`tools[${index}].name`)
  const schema = isObject(tool.parameters) ? tool.parameters : { type: 'object' }
  return { name: tool.name, description: stringOf(tool.description), schema }
}

function whole({ question, answer, usage }: Reply): JsonObject {
  const reason = answer.stop === 'max_tokens' ? 'max_output_tokens' : answer.stop
  const incomplete = answer.stop === 'max_tokens' || answer.stop === 'content_filter'
  const sum = usage === null ? null : sums(usage)
  return {
    id: `resp_${answer.id}`,
    object: 'response',
    created_at: CREATED,
    status: incomplete ? 'incomplete' : 'completed',
    error: null,
    incomplete_details: incomplete ? { reason } : null,
    instructions: null,
    metadata: {},
    model: question.model,
    output: outputOf({ question, answer, usage }),
    parallel_tool_calls: true,
    previous_response_id: null,
    temperature: null,
    tool_choice: 'auto',
    tools: [],
    top_p: null,
    usage:
      usage === null || sum === null
        ? undefined
        : {
            input_tokens: sum.prompt,
            input_tokens_details: {
              cached_tokens: usage.cacheRead,
              cache_write_tokens: sum.written,
            },
            output_tokens: usage.output,
            output_tokens_details: { reasoning_tokens: usage.reasoning },
            total_tokens: sum.total,
          },
  }
}

function outputOf({ answer }: Reply): JsonObject[] {
  const calls = answer.calls.map((call): JsonObject => {
    const { id: call_id, name, arguments: written } = call
    return {
      type: 'function_call',
      id: `fc_${call_id}`,
      call_id,
      name,
      arguments: written,
      status: 'completed',
    }
  })
  const part = partOf(answer.text, answer.refusal)
  if (part === null) return calls
  const message = {
    type: 'message',
    id: `msg_${answer.id}`,
    role: 'assistant',
    status: 'completed',
    content: [part],
  }
  return [message, ...calls]
}

function partOf(text: string, refusal: string | null): JsonObject | null {
  if (refusal !== null) return { type: 'refusal', refusal }
  return text === '' ? null : { type: 'output_text', text, annotations: [], logprobs: [] }
}

function events(reply: Reply): ServerSentEvent[] {
  const response = whole(reply)
  const { status } = response
  const begun = {
    ...response,
    status: 'in_progress',
    output: [],
    usage: null,
    incomplete_details: null,
  }
  const items = objectsOf(response.output)
  const written = [
    { type: 'response.created', response: begun },
    { type: 'response.in_progress', response: begun },
    ...items.flatMap((item, output_index) => itemEvents(item, output_index)),
    { type: `response.${String(status)}`, response },
  ]
  return written.map((event, sequence_number) =>
    jsonEvent({ ...event, sequence_number }, event.type),
  )
}

type ResponseEvent = { type: string } & JsonObject

function itemEvents(item: JsonObject, output_index: number): ResponseEvent[] {
  const inner =
    item.type === 'message' ? messageEvents(item, output_index) : argumentEvents(item, output_index)
  const empty = item.type === 'message' ? { content: [] } : { arguments: '' }
  const started = { ...item, ...empty, status: 'in_progress' }
  return [
    { type: 'response.output_item.added', output_index, item: started },
    ...inner,
    { type: 'response.output_item.done', output_index, item },
  ]
}

function messageEvents(item: JsonObject, output_index: number): ResponseEvent[] {
  const [part = {}] = objectsOf(item.content)
  const at = { item_id: item.id, output_index, content_index: 0 }
  const refused = part.type === 'refusal'
  const field = refused ? 'refusal' : 'text'
  const type = refused ? 'response.refusal' : 'response.output_text'
  const logprobs = refused ? {} : { logprobs: [] }
  const text = stringOf(part[field])
  return [
    { type: 'response.content_part.added', ...at, part: { ...part, [field]: '' } },
    ...piecesOf(text, 12).map((delta) => ({ type: `${type}.delta`, ...at, delta, ...logprobs })),
    { type: `${type}.done`, ...at, [field]: text, ...logprobs },
    { type: 'response.content_part.done', ...at, part },
  ]
}

function argumentEvents(item: JsonObject, output_index: number): ResponseEvent[] {
  const at = { item_id: item.id, output_index }
  const type = 'response.function_call_arguments'
  const written = stringOf(item.arguments)
  return [
    ...piecesOf(written, 10).map((delta) => ({ type: `${type}.delta`, ...at, delta })),
    { type: `${type}.done`, ...at, name: item.name, arguments: written },
  ]
}

function errorEvent(body: unknown): ServerSentEvent {
  const error = isObject(body) && isObject(body.error) ? body.error : {}
  const { code = null, message = 'server error', param = null } = error
  return jsonEvent({ type: 'error', code, message, param, sequence_number: 0 }, 'error')
}
