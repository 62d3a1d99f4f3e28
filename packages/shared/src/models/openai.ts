import type OpenAI from 'openai'
import type { Exchange, Transport } from './exchange.ts'
import { parseJson } from './json.ts'
import { isStrictSchema } from './output-schema.ts'
import { cleanToolId, finishToolCalls } from './tool-calls.ts'
import type {
  ModelMessage,
  ModelRequest,
  ModelResponse,
  Provider,
  ToolCall,
  Usage,
} from './types.ts'
import { countOf, estimateUsage } from './usage.ts'

type Chunk = OpenAI.ChatCompletionChunk
type CallDelta = NonNullable<Chunk['choices'][number]['delta']['tool_calls']>[number]

/** One call in OpenAI's Chat Completions protocol (SDK 7.x), which OpenRouter and many hosts speak too. */
export function openaiExchange(provider: Provider, request: ModelRequest): Exchange<Chunk> {
  const degradations: string[] = []
  const body = toBody(request, degradations)
  const answer = new Answer(request, degradations)
  return {
    open: (transport) => open(provider, body, transport),
    add: (chunk) => answer.add(chunk),
    isComplete: () => answer.isComplete(),
    answer: () => answer.read(),
    usageSoFar: () => answer.usageSoFar(),
  }
}

async function open(
  { baseUrl, apiKey }: Provider,
  body: OpenAI.ChatCompletionCreateParamsStreaming,
  { signal, fetch }: Transport,
): Promise<{ events: AsyncIterable<Chunk>; requestId: string | null }> {
  // Loaded on the first call only: a cold import takes about 90 ms.
  const { default: Client } = await import('openai')
  // Organization and project would otherwise come from the environment and be sent to every host.
  const account = { organization: null, project: null }
  const client = new Client({
    baseURL: baseUrl,
    apiKey,
    maxRetries: 0,
    logLevel: 'off',
    fetch,
    ...account,
  })
  const { data, request_id } = await client.chat.completions.create(body, { signal }).withResponse()
  return { events: data, requestId: request_id }
}

function toBody(
  request: ModelRequest,
  degradations: string[],
): OpenAI.ChatCompletionCreateParamsStreaming {
  const { model, system, maxTokens, messages, tools, outputSchema, userKey } = request
  const instructions = system.trim() === '' ? [] : [{ role: 'system' as const, content: system }]
  return {
    model,
    max_completion_tokens: maxTokens,
    stream: true,
    stream_options: { include_usage: true },
    messages: [...instructions, ...messages.map((message) => toMessage(message, degradations))],
    ...(tools.length > 0 && { tools: tools.map(toTool) }),
    ...(outputSchema && { response_format: toFormat(outputSchema, degradations) }),
    ...(userKey !== undefined && { user: userKey }),
  }
}

function toTool({
  name,
  description,
  inputSchema,
}: ModelRequest['tools'][number]): OpenAI.ChatCompletionFunctionTool {
  return { type: 'function', function: { name, description, parameters: inputSchema } }
}

function toFormat(
  { name, schema }: NonNullable<ModelRequest['outputSchema']>,
  degradations: string[],
): OpenAI.ResponseFormatJSONSchema {
  const strict = isStrictSchema(schema)
  if (!strict) degradations.push('output schema: not strict')
  const allowedName = name.replace(/[^a-zA-Z0-9_-]/g, '_').slice(0, 64)
  return { type: 'json_schema', json_schema: { name: allowedName, schema, strict } }
}

function toMessage(
  message: ModelMessage,
  degradations: string[],
): OpenAI.ChatCompletionMessageParam {
  switch (message.role) {
    case 'user':
      return { role: 'user', content: message.content }
    case 'assistant':
      return toAssistant(message, degradations)
    case 'tool':
      return {
        role: 'tool',
        tool_call_id: cleanToolId(message.callId),
        content: resultText(message),
      }
  }
}

function toAssistant(
  { content, toolCalls }: Extract<ModelMessage, { role: 'assistant' }>,
  degradations: string[],
): OpenAI.ChatCompletionAssistantMessageParam {
  if (toolCalls.length === 0) return { role: 'assistant', content }
  const tool_calls = toolCalls.map((call) => toCall(call, degradations))
  return { role: 'assistant', content: content === '' ? null : content, tool_calls }
}

/** The text stays as the model wrote it, so that the provider's cache stays warm; some hosts fail on broken JSON. */
function toCall(
  { id, name, rawArguments }: ToolCall,
  degradations: string[],
): OpenAI.ChatCompletionMessageFunctionToolCall {
  const isJson = parseJson(rawArguments) !== undefined
  if (!isJson) degradations.push(`arguments of ${name} sent as {}: not JSON`)
  return {
    id: cleanToolId(id),
    type: 'function',
    function: { name, arguments: isJson ? rawArguments : '{}' },
  }
}

/** This protocol has no mark for failed calls. */
function resultText({ content, isError }: Extract<ModelMessage, { role: 'tool' }>): string {
  return isError ? `Error: ${content}` : content
}

/** Collects the chunks of a stream. */
class Answer {
  readonly #request: ModelRequest
  readonly #degradations: string[]
  readonly #calls: { index: number | undefined; id: string; name: string; json: string }[] = []
  #text = ''
  #refusal = ''
  #model: string
  #finish: string | null = null
  #usage: Usage | null = null

  constructor(request: ModelRequest, degradations: string[]) {
    this.#request = request
    this.#degradations = degradations
    this.#model = request.model
  }

  /** Usage may come before, with or after the end, in a chunk with or without choices. */
  add(chunk: Chunk): void {
    this.#model = chunk.model || this.#model
    this.#usage = usageOf(chunk.usage) ?? this.#usage
    const choice = chunk.choices?.find(({ index }) => (index ?? 0) === 0)
    if (choice === undefined) return
    this.#text += choice.delta?.content ?? ''
    this.#refusal += choice.delta?.refusal ?? ''
    for (const delta of choice.delta?.tool_calls ?? []) this.#addCall(delta)
    this.#finish = choice.finish_reason ?? this.#finish
  }

  isComplete(): boolean {
    return this.#finish !== null
  }

  read(): Omit<ModelResponse, 'requestId'> {
    const toolCalls = finishToolCalls(this.#calls, this.#request.messages)
    const stop = this.#stop(toolCalls.length > 0)
    return {
      text: this.#text,
      toolCalls,
      stop,
      ...(stop === 'refusal' && { refusal: this.#refusal || 'stopped by the content filter' }),
      usage: this.#usage ?? this.#estimate(),
      usageMissing: this.#usage === null,
      model: this.#model,
      degradations: this.#degradations,
    }
  }

  /** Counts come last here; once anything was written, the input has been billed. */
  usageSoFar(): Usage | null {
    if (this.#usage !== null) return this.#usage
    return this.#text === '' && this.#calls.length === 0 ? null : this.#estimate()
  }

  /**
   * Deltas belong to the call with their index. Some hosts send no index, or the same for all: there, a new id with a
   * name begins a new call, and a delta without id continues the last one.
   */
  #addCall(delta: CallDelta): void {
    const { id, function: part } = delta
    const index: number | undefined = delta.index
    const known =
      index === undefined
        ? this.#calls.at(-1)
        : this.#calls.findLast((call) => call.index === index)
    const begins = known === undefined || (Boolean(id) && id !== known.id && Boolean(part?.name))
    const call = begins ? { index, id: '', name: '', json: '' } : known
    if (begins) this.#calls.push(call)
    call.id ||= id || ''
    call.name ||= part?.name ?? ''
    call.json += part?.arguments ?? ''
  }

  #stop(hasCalls: boolean): ModelResponse['stop'] {
    if (this.#finish === 'content_filter' || this.#refusal !== '') return 'refusal'
    if (this.#finish === 'length') return 'max_tokens'
    return hasCalls ? 'tool_calls' : 'end'
  }

  #estimate(): Usage {
    const calls = this.#calls.map(({ name, json }) => name + json)
    return estimateUsage(this.#request, [this.#text, this.#refusal, ...calls].join(''))
  }
}

/** Prompt tokens hold what was read from and written to the cache; completion tokens hold the reasoning. */
function usageOf(usage: Chunk['usage']): Usage | null {
  const prompt = countOf(usage?.prompt_tokens)
  const output = countOf(usage?.completion_tokens)
  if (prompt === undefined || output === undefined) return null
  const cacheRead = countOf(usage?.prompt_tokens_details?.cached_tokens) ?? 0
  const written = countOf(usage?.prompt_tokens_details?.cache_write_tokens) ?? 0
  return {
    input: Math.max(0, prompt - cacheRead - written),
    cacheRead,
    cacheWrite5m: written,
    cacheWrite1h: 0,
    output,
    reasoning: countOf(usage?.completion_tokens_details?.reasoning_tokens) ?? 0,
  }
}
