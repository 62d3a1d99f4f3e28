import type Anthropic from '@anthropic-ai/sdk'
import type { Exchange, Transport } from './exchange.ts'
import { isObject } from './json.ts'
import { anthropicSchema } from './output-schema.ts'
import { cleanToolId, finishToolCalls } from './tool-calls.ts'
import type {
  ModelMessage,
  ModelRequest,
  ModelResponse,
  Provider,
  ToolCall,
  Usage,
} from './types.ts'
import { countOf, estimateTokens, estimateUsage } from './usage.ts'

type Event = Anthropic.RawMessageStreamEvent

/** One call in Anthropic's Messages protocol (API version 2026-10-21, SDK 1.x). */
export function anthropicExchange(provider: Provider, request: ModelRequest): Exchange<Event> {
  const degradations: string[] = []
  const body = toBody(request, degradations)
  const answer = new Answer(request, degradations)
  return {
    open: (transport) => open(provider, body, transport),
    add: (event) => answer.add(event),
    isComplete: () => answer.isComplete(),
    answer: () => answer.read(),
    usageSoFar: () => answer.usageSoFar(),
  }
}

async function open(
  { baseUrl, apiKey }: Provider,
  body: Anthropic.MessageCreateParamsStreaming,
  { signal, fetch }: Transport,
): Promise<{ events: AsyncIterable<Event>; requestId: string | null }> {
  // Loaded on the first call only: a cold import takes about 90 ms.
  const { default: Client } = await import('@anthropic-ai/sdk')
  const client = new Client({ baseURL: baseUrl, apiKey, maxRetries: 0, logLevel: 'off', fetch })
  const { data, request_id } = await client.messages.create(body, { signal }).withResponse()
  return { events: data, requestId: request_id ?? null }
}

function toBody(
  request: ModelRequest,
  degradations: string[],
): Anthropic.MessageCreateParamsStreaming {
  const { model, maxTokens, system, cache, userKey, outputSchema, tools } = request
  const mark = cache ? { cache_control: { type: 'ephemeral' as const } } : {}
  const messages = toMessages(request.messages, degradations)
  if (cache) markLast(messages)
  return {
    model,
    max_tokens: maxTokens,
    stream: true,
    messages,
    ...(system.trim() !== '' && { system: [{ type: 'text', text: system, ...mark }] }),
    ...(tools.length > 0 && { tools: tools.map(toTool) }),
    ...(outputSchema && { output_config: { format: toFormat(outputSchema.schema, degradations) } }),
    ...(userKey !== undefined && { metadata: { user_id: userKey } }),
  }
}

function toTool({ name, description, inputSchema }: ModelRequest['tools'][number]): Anthropic.Tool {
  return { name, description, input_schema: { ...inputSchema, type: 'object' } }
}

function toFormat(
  schema: ModelRequest['tools'][number]['inputSchema'],
  degradations: string[],
): Anthropic.JSONOutputFormat {
  const simplified = anthropicSchema(schema)
  degradations.push(...simplified.moved.map((path) => `output schema: ${path} is only described`))
  return { type: 'json_schema', schema: simplified.schema }
}

interface Turn {
  role: 'user' | 'assistant'
  content: Anthropic.ContentBlockParam[]
}

/** Messages of one side in a row become one turn, so that all results of a batch of calls stand together. */
function toMessages(messages: readonly ModelMessage[], degradations: string[]): Turn[] {
  const turns: Turn[] = []
  for (const message of messages) {
    const role = message.role === 'assistant' ? 'assistant' : 'user'
    const content = toBlocks(message, degradations)
    const last = turns.at(-1)
    if (last?.role === role) last.content.push(...content)
    else if (content.length > 0) turns.push({ role, content })
  }
  return turns
}

function toBlocks(message: ModelMessage, degradations: string[]): Anthropic.ContentBlockParam[] {
  switch (message.role) {
    case 'user':
      return message.content.trim() === ''
        ? omitted('empty user message', degradations)
        : [textBlock(message.content)]
    case 'assistant': {
      const text = message.content.trim() === '' ? [] : [textBlock(message.content)]
      const blocks = [...text, ...message.toolCalls.map((call) => toToolUse(call, degradations))]
      return blocks.length === 0 ? omitted('empty assistant message', degradations) : blocks
    }
    case 'tool':
      return [toResult(message)]
  }
}

/** Anthropic refuses empty blocks with a 400. */
function omitted(what: string, degradations: string[]): [] {
  degradations.push(`${what} left out`)
  return []
}

function textBlock(text: string): Anthropic.TextBlockParam {
  return { type: 'text', text }
}

function toToolUse(
  { id, name, arguments: input }: ToolCall,
  degradations: string[],
): Anthropic.ToolUseBlockParam {
  if (!isObject(input)) degradations.push(`arguments of ${name} sent as {}: not a JSON object`)
  return { type: 'tool_use', id: cleanToolId(id), name, input: isObject(input) ? input : {} }
}

function toResult({
  callId,
  content,
  isError,
}: Extract<ModelMessage, { role: 'tool' }>): Anthropic.ToolResultBlockParam {
  return {
    type: 'tool_result',
    tool_use_id: cleanToolId(callId),
    ...(content !== '' && { content }),
    ...(isError && { is_error: true }),
  }
}

/** The end of the conversation so far is where the next call's cache hit ends. */
function markLast(turns: readonly Turn[]): void {
  const content = turns.at(-1)?.content
  const block = content?.at(-1)
  if (block?.type === 'text' || block?.type === 'tool_use' || block?.type === 'tool_result') {
    block.cache_control = { type: 'ephemeral' }
  }
}

/** Collects the events of a stream. Counts in `message_delta` are cumulative and win over those at the start. */
class Answer {
  readonly #request: ModelRequest
  readonly #degradations: string[]
  readonly #calls = new Map<number, { id: string; name: string; json: string }>()
  readonly #counts: { [name: string]: number } = {}
  #text = ''
  #model: string
  #stop: string | null = null
  #refusal: string | null = null
  #stopped = false

  constructor(request: ModelRequest, degradations: string[]) {
    this.#request = request
    this.#degradations = degradations
    this.#model = request.model
  }

  add(event: Event): void {
    switch (event.type) {
      case 'message_start':
        this.#model = event.message.model
        this.#count(event.message.usage)
        break
      case 'content_block_start':
        this.#open(event.index, event.content_block)
        break
      case 'content_block_delta':
        this.#append(event.index, event.delta)
        break
      case 'message_delta':
        this.#stop = event.delta.stop_reason ?? this.#stop
        this.#refusal = event.delta.stop_details?.explanation ?? this.#refusal
        this.#count(event.usage)
        break
      case 'message_stop':
        this.#stopped = true
    }
  }

  isComplete(): boolean {
    return this.#stopped && this.#stop !== null
  }

  read(): Omit<ModelResponse, 'requestId'> {
    const toolCalls = finishToolCalls([...this.#calls.values()], this.#request.messages)
    const stop = stopOf(this.#stop, toolCalls.length > 0)
    const usageMissing =
      this.#counts.output_tokens === undefined || this.#counts.input_tokens === undefined
    return {
      text: this.#text,
      toolCalls,
      stop,
      ...(stop === 'refusal' && { refusal: this.#refusal ?? 'the provider gave no reason' }),
      usage: usageMissing ? estimateUsage(this.#request, this.#written()) : this.#usage(),
      usageMissing,
      model: this.#model,
      degradations: this.#degradations,
    }
  }

  /** At the start only one output token is counted, so what has been received is estimated. */
  usageSoFar(): Usage | null {
    if (this.#counts.input_tokens === undefined) return null
    const usage = this.#usage()
    return { ...usage, output: Math.max(usage.output, estimateTokens(this.#written())) }
  }

  #open(
    index: number,
    block: Extract<Event, { type: 'content_block_start' }>['content_block'],
  ): void {
    if (block.type === 'text') this.#text += block.text
    else if (block.type === 'tool_use') {
      // Some hosts send the whole input at the start and no deltas.
      const whole = isObject(block.input) && Object.keys(block.input).length > 0
      this.#calls.set(index, {
        id: block.id,
        name: block.name,
        json: whole ? JSON.stringify(block.input) : '',
      })
    } else this.#degradations.push(`${block.type} block left out`)
  }

  #append(index: number, delta: Extract<Event, { type: 'content_block_delta' }>['delta']): void {
    if (delta.type === 'text_delta') this.#text += delta.text
    const call = this.#calls.get(index)
    if (delta.type === 'input_json_delta' && call) call.json += delta.partial_json
  }

  #count(usage: unknown): void {
    if (!isObject(usage)) return
    const creation = isObject(usage.cache_creation) ? usage.cache_creation : {}
    const details = isObject(usage.output_tokens_details) ? usage.output_tokens_details : {}
    for (const [name, value] of Object.entries({ ...usage, ...creation, ...details })) {
      const count = countOf(value)
      if (count !== undefined) this.#counts[name] = count
    }
  }

  #usage(): Usage {
    const {
      input_tokens = 0,
      output_tokens = 0,
      cache_read_input_tokens = 0,
      thinking_tokens = 0,
    } = this.#counts
    const { ephemeral_5m_input_tokens = 0, ephemeral_1h_input_tokens = 0 } = this.#counts
    // The split is only sent at the start; a later total may be higher and is then the one that is billed.
    const written = Math.max(
      this.#counts.cache_creation_input_tokens ?? 0,
      ephemeral_5m_input_tokens + ephemeral_1h_input_tokens,
    )
    return {
      input: input_tokens,
      cacheRead: cache_read_input_tokens,
      cacheWrite5m: written - ephemeral_1h_input_tokens,
      cacheWrite1h: ephemeral_1h_input_tokens,
      output: output_tokens,
      reasoning: thinking_tokens,
    }
  }

  #written(): string {
    return this.#text + [...this.#calls.values()].map(({ name, json }) => name + json).join('')
  }
}

function stopOf(reason: string | null, hasCalls: boolean): ModelResponse['stop'] {
  switch (reason) {
    case 'max_tokens':
    case 'model_context_window_exceeded':
      return 'max_tokens'
    case 'refusal':
      return 'refusal'
    case 'pause_turn':
      return 'pause'
    default:
      return hasCalls ? 'tool_calls' : 'end'
  }
}
