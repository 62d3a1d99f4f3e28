/** A JSON Schema, draft 2020-12, as plain JSON. */
export type JsonSchema = { [keyword: string]: unknown }

/** A call of a tool by the model. */
export interface ToolCall {
  /** Matches ^[a-zA-Z0-9_-]{1,64}$ in every answer of `complete`. */
  id: string
  name: string
  /** Parsed arguments; undefined where the model wrote broken JSON, which is then in `rawArguments`. */
  arguments: unknown
  /** The JSON text as the model wrote it; `{}` where it wrote nothing. */
  rawArguments: string
}

/** One message of a conversation, the same for every provider. */
export type ModelMessage =
  | { role: 'user'; content: string }
  | { role: 'assistant'; content: string; toolCalls: ToolCall[] }
  | { role: 'tool'; callId: string; name: string; content: string; isError: boolean }

/** A tool the model may call. */
export interface ToolDefinition {
  name: string
  description: string
  inputSchema: JsonSchema
}

/** A model call. */
export interface ModelRequest {
  /** The provider's own id of the model. */
  model: string
  system: string
  messages: ModelMessage[]
  tools: ToolDefinition[]
  /** Where set, the answer's text is JSON meant to validate; the caller still has to check it. */
  outputSchema?: { name: string; schema: JsonSchema }
  /** Upper limit of output tokens, reasoning included. */
  maxTokens: number
  /** Whether to ask the provider to cache the prompt. */
  cache: boolean
  /** A pseudonym of the person on whose behalf the call is made, for the provider's abuse detection. */
  userKey?: string
}

/** Token counts in disjoint classes. */
export interface Usage {
  /** Input that was neither read from nor written to the prompt cache. */
  input: number
  cacheRead: number
  /** Written for 5 minutes (Anthropic) or 30 (OpenAI). */
  cacheWrite5m: number
  /** Written for an hour (Anthropic) or twelve (OpenAI). */
  cacheWrite1h: number
  /** Output with reasoning. */
  output: number
  /** Part of output. */
  reasoning: number
}

/** A complete answer; a cut one is a ModelError. */
export interface ModelResponse {
  text: string
  toolCalls: ToolCall[]
  stop: 'end' | 'tool_calls' | 'max_tokens' | 'refusal' | 'pause'
  /** What the provider said about its refusal. */
  refusal?: string
  usage: Usage
  /** True if the provider did not count; then `usage` is estimated at four bytes a token. */
  usageMissing: boolean
  /** The model that answered, in the provider's words. */
  model: string
  requestId: string | null
  /** What of the request or answer could not be carried over, one short phrase each. */
  degradations: string[]
}

/** Where and how to reach a provider. */
export interface Provider {
  protocol: 'anthropic' | 'openai'
  /** Without `/v1/messages` (Anthropic), with `/v1` (OpenAI). */
  baseUrl: string
  apiKey: string
}

/** How long a call may take; the caller's signal ends it at any time. */
export interface CallLimits {
  signal: AbortSignal
  /** Milliseconds until the first byte of the answer's body. */
  firstByteMs: number
  /** Milliseconds without any byte after the first. */
  idleMs: number
}
