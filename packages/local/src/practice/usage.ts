import { createHash } from 'node:crypto'
import { isObject, type JsonObject, numberOf } from './json.ts'
import type { Question, Segment } from './question.ts'

/** Token counts in disjoint classes; each dialect adds them up in its own way. */
export interface Usage {
  input: number
  cacheRead: number
  cacheWrite5m: number
  cacheWrite1h: number
  output: number
  /** Part of output. */
  reasoning: number
}

/** Tokens of a text: a quarter of its UTF-8 bytes, rounded up, at least one. */
export function tokensOf(text: string): number {
  return tokensOfBytes(Buffer.byteLength(text))
}

/** Tokens of a prompt. */
export function promptTokens(segments: readonly Segment[]): number {
  return tokensOfBytes(segments.reduce((sum, { text }) => sum + Buffer.byteLength(text), 0))
}

function tokensOfBytes(bytes: number): number {
  return Math.max(1, Math.ceil(bytes / 4))
}

/**
 * A prompt cache that never expires: it remembers every prefix up to a marked segment, and the longest remembered
 * prefix of a later prompt counts as read. One per server.
 */
export class PromptCache {
  readonly #prefixes = new Set<string>()

  clear(): void {
    this.#prefixes.clear()
  }

  /** Input tokens of the question by class; remembers its prefixes. */
  count({ model, segments }: Question): Omit<Usage, 'output' | 'reasoning'> {
    const hash = createHash('sha256').update(model)
    const classes = { cacheRead: 0, cacheWrite5m: 0, cacheWrite1h: 0 }
    let bytes = 0
    let counted = 0
    const marked: { key: string; tokens: number; ttl: '5m' | '1h' }[] = []
    const last = segments.findLastIndex((segment) => segment.cacheUntilHere !== null)
    for (const { text, cacheUntilHere } of segments.slice(0, last + 1)) {
      bytes += Buffer.byteLength(text)
      hash.update(text).update('\0')
      const key = hash.copy().digest('base64')
      if (this.#prefixes.has(key)) classes.cacheRead = tokensOfBytes(bytes)
      if (cacheUntilHere !== null)
        marked.push({ key, tokens: tokensOfBytes(bytes), ttl: cacheUntilHere })
    }
    counted = classes.cacheRead
    for (const { key, tokens, ttl } of marked) {
      this.#prefixes.add(key)
      if (tokens <= counted) continue
      classes[ttl === '1h' ? 'cacheWrite1h' : 'cacheWrite5m'] += tokens - counted
      counted = tokens
    }
    return { ...classes, input: Math.max(1, promptTokens(segments) - counted) }
  }
}

/**
 * Counts a script prescribes, in the words of either protocol. Anthropic's `input_tokens` leave cached tokens out,
 * OpenAI's `prompt_tokens` hold them. What is not prescribed stays as counted; cache and reasoning become zero.
 */
export function prescribedUsage(written: JsonObject, counted: Usage): Usage {
  const prompt = isObject(written.prompt_tokens_details) ? written.prompt_tokens_details : {}
  const completion = isObject(written.completion_tokens_details)
    ? written.completion_tokens_details
    : {}
  const details = isObject(written.output_tokens_details) ? written.output_tokens_details : {}
  const creation = isObject(written.cache_creation) ? written.cache_creation : {}
  const cacheRead =
    first(written.cache_read_input_tokens, written.cached_tokens, prompt.cached_tokens) ?? 0
  const cacheWrite1h = first(creation.ephemeral_1h_input_tokens) ?? 0
  const allWritten = first(
    written.cache_creation_input_tokens,
    written.cache_write_tokens,
    prompt.cache_write_tokens,
  )
  const cacheWrite5m =
    first(creation.ephemeral_5m_input_tokens) ?? Math.max(0, (allWritten ?? 0) - cacheWrite1h)
  const wholePrompt = first(written.prompt_tokens)
  const uncached =
    wholePrompt === undefined
      ? counted.input
      : wholePrompt - cacheRead - cacheWrite5m - cacheWrite1h
  return {
    input: first(written.input_tokens) ?? Math.max(0, uncached),
    cacheRead,
    cacheWrite5m,
    cacheWrite1h,
    output: first(written.output_tokens, written.completion_tokens) ?? counted.output,
    reasoning:
      first(written.reasoning_tokens, completion.reasoning_tokens, details.thinking_tokens) ?? 0,
  }
}

function first(...values: unknown[]): number | undefined {
  return values.map(numberOf).find((value) => value !== undefined)
}
