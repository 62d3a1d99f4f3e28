import { Refused } from './dialect.ts'
import { isObject, type JsonObject, objectsOf, stringOf } from './json.ts'
import { type Segment, type ToolChoice, type Turn, unpairedCall } from './question.ts'
import type { Usage } from './usage.ts'

/** The body of an OpenAI error. */
export function openaiError(
  status: number,
  message: string,
  at: { code: string | null; param: string | null },
): JsonObject {
  const type = ERROR_TYPES[status] ?? (status >= 500 ? 'server_error' : 'invalid_request_error')
  return { error: { message, type, param: at.param, code: at.code ?? ERROR_CODES[status] ?? null } }
}

const ERROR_TYPES: { readonly [status: number]: string } = {
  403: 'insufficient_permissions',
  429: 'requests',
}
const ERROR_CODES: { readonly [status: number]: string } = {
  401: 'invalid_api_key',
  429: 'rate_limit_exceeded',
}

/** The model both OpenAI dialects ask for. */
export function requireModel(body: JsonObject): string {
  if (typeof body.model === 'string' && body.model !== '') return body.model
  throw new Refused(400, 'you must provide a model parameter')
}

/** A missing field in OpenAI's words. */
export function missing(param: string): Refused {
  return new Refused(400, `Missing required parameter: '${param}'.`, {
    code: 'missing_required_parameter',
    param,
  })
}

/** The text of a string or of content parts. */
export function contentText(content: unknown): string {
  if (typeof content === 'string') return content
  const texts = objectsOf(content).map((part) => stringOf(part.text) || stringOf(part.refusal))
  return texts.filter((text) => text !== '').join('\n')
}

/** `none`, `auto`, `required`, or a named function in either dialect's shape. */
export function readChoice(choice: unknown): ToolChoice {
  if (choice === 'none') return { kind: 'none' }
  if (choice === 'required') return { kind: 'any' }
  if (!isObject(choice)) return { kind: 'auto' }
  const named = isObject(choice.function) ? choice.function.name : choice.name
  return typeof named === 'string' ? { kind: 'named', name: named } : { kind: 'auto' }
}

/** Throws Refused where a tool call and its result do not stand together. */
export function checkToolPairs(turns: readonly Turn[], param: string): void {
  const unpaired = unpairedCall(turns)
  if (unpaired?.lacks === 'call') {
    throw new Refused(
      400,
      `The tool message "${unpaired.id}" answers no call of the message before it.`,
      { param },
    )
  }
  if (unpaired?.lacks === 'result') {
    throw new Refused(400, `The tool call "${unpaired.id}" is not followed by its tool message.`, {
      param,
    })
  }
}

/** OpenAI caches on its own from this many tokens on; below only where the caller names a cache key. */
const AUTOMATIC_CACHE_BYTES = 4 * 1024

/** The prompt as the cache sees it: tools, then turn by turn, each end of a turn a possible hit. */
export function segmentsOf(body: JsonObject, turns: readonly Turn[]): Segment[] {
  const tools =
    Array.isArray(body.tools) && body.tools.length > 0 ? [JSON.stringify(body.tools)] : []
  const texts = [...tools, ...turns.map(({ text, calls }) => [text, ...calls].join('\n'))]
  const bytes = texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0)
  const cached = typeof body.prompt_cache_key === 'string' || bytes >= AUTOMATIC_CACHE_BYTES
  return texts.map((text) => ({ text, cacheUntilHere: cached ? '5m' : null }))
}

/** Prompt tokens hold what was cached; completion tokens hold the reasoning. */
export function sums(usage: Usage): { prompt: number; written: number; total: number } {
  const written = usage.cacheWrite5m + usage.cacheWrite1h
  const prompt = usage.input + usage.cacheRead + written
  return { prompt, written, total: prompt + usage.output }
}
