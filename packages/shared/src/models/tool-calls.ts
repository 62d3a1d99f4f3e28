import { parseJson } from './json.ts'
import type { ModelMessage, ToolCall } from './types.ts'

const ALLOWED_ID = /^[a-zA-Z0-9_-]{1,64}$/

/**
 * A tool call id that every provider accepts: unchanged where it already is, else cleaned and followed by a hash of
 * the original, so that different ids stay different and call and result get the same.
 */
export function cleanToolId(id: string): string {
  if (ALLOWED_ID.test(id)) return id
  return `${id.replace(/[^a-zA-Z0-9_-]/g, '_').slice(0, 55)}_${hashOf(id)}`
}

/** FNV-1a, 32 bits, over UTF-16 code units, in eight hexadecimal digits. */
function hashOf(text: string): string {
  let hash = 0x811c9dc5
  for (let index = 0; index < text.length; index += 1) {
    hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193)
  }
  return (hash >>> 0).toString(16).padStart(8, '0')
}

/**
 * The calls of an answer with parsed arguments and clean ids. Some providers number the calls of each answer anew
 * (`functions.x:0`); an id the conversation already has gets a suffix, as Anthropic refuses duplicates.
 */
export function finishToolCalls(
  calls: readonly { id: string; name: string; json: string }[],
  history: readonly ModelMessage[],
): ToolCall[] {
  const taken = new Set(
    history.flatMap((message) => (message.role === 'assistant' ? idsOf(message.toolCalls) : [])),
  )
  return calls.map(({ id, name, json }) => {
    const rawArguments = json.trim() === '' ? '{}' : json
    const fresh = freshId(cleanToolId(id), taken)
    taken.add(fresh)
    return { id: fresh, name, arguments: parseJson(rawArguments), rawArguments }
  })
}

function idsOf(calls: readonly ToolCall[]): string[] {
  return calls.map((call) => cleanToolId(call.id))
}

function freshId(id: string, taken: ReadonlySet<string>): string {
  let fresh = id
  for (let count = 2; taken.has(fresh); count += 1) fresh = `${id.slice(0, 58)}_${count}`
  return fresh
}
