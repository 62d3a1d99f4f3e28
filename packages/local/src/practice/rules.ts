import { isObject, type JsonObject } from './json.ts'
import type { Stop } from './question.ts'

/** A tool call a rule prescribes. */
export interface ScriptedCall {
  name: string
  /** An object is written as JSON, a string is taken as it is, however broken. */
  arguments: string | JsonObject
  id?: string | undefined
}

/** What a rule lets the model say. */
export interface ScriptedResponse {
  text?: string | undefined
  tool_calls?: ScriptedCall[] | undefined
  refusal?: string | undefined
  /** Token counts under the names of either protocol. */
  usage?: JsonObject | undefined
  stop?: Stop | undefined
}

/** How a rule lets the call go wrong. */
export interface Fault {
  /** HTTP status; the body defaults to the provider's error shape for it. */
  status?: number | undefined
  headers?: { [name: string]: string } | undefined
  /** Sent instead of an answer; after `cut_after_chunks` it is sent as an error event inside the stream. */
  body?: unknown
  /** Milliseconds before the first byte. */
  delay_ms?: number | undefined
  /** Never answers; after `cut_after_chunks` the stream falls silent but stays open. */
  hang?: boolean | undefined
  /** Tears the connection down without an answer, or after `cut_after_chunks`. */
  reset?: boolean | undefined
  /** Ends the stream in good order after so many events, without its terminal event. */
  cut_after_chunks?: number | undefined
  /** Breaks the JSON of the tool arguments or of the structured output; where there is none, that of the message. */
  malformed_json?: boolean | undefined
  /** Leaves the token counts out. */
  no_usage?: boolean | undefined
}

/** One line of the script; without `nth` it applies to every call that matches. */
export interface Rule {
  match: { model?: string | undefined; contains?: string | undefined; nth?: number | undefined }
  respond?: ScriptedResponse | undefined
  fault?: Fault | undefined
}

/** A script that cannot be read; `field` is the path of the offending value. */
export class ScriptError extends Error {
  readonly code = 'PRACTICE_SCRIPT_INVALID'
  readonly field: string

  constructor(field: string, wanted: string, got: unknown) {
    super(`Cannot read the script: "${field}" must be ${wanted}, got ${shown(got)}`)
    this.name = 'ScriptError'
    this.field = field
  }
}

/** Reads `{rules: […]}`. Throws ScriptError for anything unknown or of the wrong kind. */
export function parseScript(script: unknown): Rule[] {
  const { rules } = fieldsOf('script', script, ['rules'])
  if (!Array.isArray(rules)) throw new ScriptError('rules', 'a list', rules)
  return rules.map((rule: unknown, index) => parseRule(`rules[${index}]`, rule))
}

function parseRule(path: string, value: unknown): Rule {
  const { match, respond, fault } = fieldsOf(path, value, ['match', 'respond', 'fault'])
  if (respond === undefined && fault === undefined) {
    throw new ScriptError(path, 'an object with "respond" or "fault"', value)
  }
  const parsed: Rule = { match: match === undefined ? {} : parseMatch(`${path}.match`, match) }
  if (respond !== undefined) parsed.respond = parseResponse(`${path}.respond`, respond)
  if (fault !== undefined) parsed.fault = parseFault(`${path}.fault`, fault)
  return parsed
}

function parseMatch(path: string, value: unknown): Rule['match'] {
  const fields = fieldsOf(path, value, ['model', 'contains', 'nth'])
  return {
    model: string(`${path}.model`, fields.model),
    contains: string(`${path}.contains`, fields.contains),
    nth: integer(`${path}.nth`, fields.nth, [1, Number.MAX_SAFE_INTEGER]),
  }
}

const STOPS: readonly Stop[] = ['end', 'max_tokens', 'pause', 'content_filter']

function parseResponse(path: string, value: unknown): ScriptedResponse {
  const fields = fieldsOf(path, value, ['text', 'tool_calls', 'refusal', 'usage', 'stop'])
  const stop = STOPS.find((known) => known === fields.stop)
  if (fields.stop !== undefined && stop === undefined) {
    throw new ScriptError(`${path}.stop`, `one of ${STOPS.join(', ')}`, fields.stop)
  }
  return {
    text: string(`${path}.text`, fields.text),
    tool_calls: parseCalls(`${path}.tool_calls`, fields.tool_calls),
    refusal: string(`${path}.refusal`, fields.refusal),
    usage: parseUsage(`${path}.usage`, fields.usage),
    stop,
  }
}

function parseCalls(path: string, value: unknown): ScriptedCall[] | undefined {
  if (value === undefined) return undefined
  if (!Array.isArray(value)) throw new ScriptError(path, 'a list', value)
  return value.map((call: unknown, index) => parseCall(`${path}[${index}]`, call))
}

/** Accepts `{name, arguments}` and the shapes of both protocols (`input`; `function: {name, arguments}`). */
function parseCall(path: string, value: unknown): ScriptedCall {
  const fields = fieldsOf(path, value, ['id', 'type', 'name', 'arguments', 'input', 'function'])
  const nested = fields.function
  if (nested !== undefined) {
    const inner = fieldsOf(`${path}.function`, nested, ['name', 'arguments'])
    return parseCall(path, { id: fields.id, name: inner.name, arguments: inner.arguments })
  }
  const name = string(`${path}.name`, fields.name)
  if (name === undefined) throw new ScriptError(`${path}.name`, 'a string', fields.name)
  const given = fields.arguments ?? fields.input ?? {}
  if (typeof given !== 'string' && !isObject(given)) {
    throw new ScriptError(`${path}.arguments`, 'an object or a string', given)
  }
  return { name, arguments: given, id: string(`${path}.id`, fields.id) }
}

function parseUsage(path: string, value: unknown, depth = 0): JsonObject | undefined {
  if (value === undefined) return undefined
  if (!isObject(value)) throw new ScriptError(path, 'an object of token counts', value)
  for (const [name, count] of Object.entries(value)) {
    if (isObject(count) && depth === 0) parseUsage(`${path}.${name}`, count, 1)
    else integer(`${path}.${name}`, count, [0, Number.MAX_SAFE_INTEGER])
  }
  return value
}

function parseFault(path: string, value: unknown): Fault {
  const flags = ['hang', 'reset', 'malformed_json', 'no_usage'] as const
  const fields = fieldsOf(path, value, [
    'status',
    'headers',
    'body',
    'delay_ms',
    'cut_after_chunks',
    ...flags,
  ])
  const [hang, reset, malformed_json, no_usage] = flags.map((flag) =>
    boolean(`${path}.${flag}`, fields[flag]),
  )
  return {
    status: integer(`${path}.status`, fields.status, [200, 599]),
    headers: parseHeaders(`${path}.headers`, fields.headers),
    body: fields.body,
    delay_ms: integer(`${path}.delay_ms`, fields.delay_ms, [0, 3_600_000]),
    cut_after_chunks: integer(`${path}.cut_after_chunks`, fields.cut_after_chunks, [0, 1_000_000]),
    hang,
    reset,
    malformed_json,
    no_usage,
  }
}

function parseHeaders(path: string, value: unknown): { [name: string]: string } | undefined {
  if (value === undefined) return undefined
  if (!isObject(value)) throw new ScriptError(path, 'an object of strings', value)
  const headers: { [name: string]: string } = {}
  for (const [name, content] of Object.entries(value)) {
    const field = `${path}.${name}`
    const written = typeof content === 'number' ? String(content) : content
    if (typeof written !== 'string' || /[^\t\x20-\x7e\x80-\xff]/.test(written)) {
      throw new ScriptError(field, 'a string of header characters', content)
    }
    if (!/^[\w!#$%&'*+.^`|~-]+$/.test(name))
      throw new ScriptError(field, 'a valid header name', name)
    headers[name] = written
  }
  return headers
}

/** The value as an object that has none but the known fields. */
function fieldsOf(path: string, value: unknown, known: readonly string[]): JsonObject {
  if (!isObject(value)) throw new ScriptError(path, 'an object', value)
  const unknown = Object.keys(value).find((name) => !known.includes(name))
  if (unknown === undefined) return value
  const field = path === 'script' ? unknown : `${path}.${unknown}`
  throw new ScriptError(
    field,
    `left out, as only ${known.join(', ')} are known here`,
    value[unknown],
  )
}

function string(path: string, value: unknown): string | undefined {
  if (value === undefined || typeof value === 'string') return value
  throw new ScriptError(path, 'a string', value)
}

function boolean(path: string, value: unknown): boolean | undefined {
  if (value === undefined || typeof value === 'boolean') return value
  throw new ScriptError(path, 'true or false', value)
}

function integer(
  path: string,
  value: unknown,
  [least, most]: readonly [number, number],
): number | undefined {
  if (value === undefined) return undefined
  if (typeof value === 'number' && Number.isInteger(value) && value >= least && value <= most)
    return value
  throw new ScriptError(path, `a whole number from ${least} to ${most}`, value)
}

function shown(value: unknown): string {
  if (value === undefined) return 'nothing'
  const text = JSON.stringify(value) ?? String(value)
  return text.length > 60 ? `${text.slice(0, 57)}...` : text
}
