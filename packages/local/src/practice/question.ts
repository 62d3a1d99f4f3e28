import type { JsonObject } from './json.ts'

/** One turn of a conversation, the same for every protocol. */
export interface Turn {
  role: 'system' | 'user' | 'assistant' | 'tool'
  text: string
  /** Ids of the tool calls an assistant made in this turn. */
  calls: readonly string[]
  /** The call a tool turn answers. */
  callId: string | null
}

/** A tool the caller offers. */
export interface OfferedTool {
  name: string
  description: string
  schema: JsonObject
}

/** Whether a tool may, must or must not be called. */
export type ToolChoice = { kind: 'auto' | 'any' | 'none' } | { kind: 'named'; name: string }

/** A piece of the prompt as the prompt cache sees it, in the provider's order. */
export interface Segment {
  text: string
  /** Set where the caller asked for the prompt to be cached up to here. */
  cacheUntilHere: '5m' | '1h' | null
}

/** A request of any protocol, reduced to what an answer depends on. */
export interface Question {
  model: string
  turns: readonly Turn[]
  tools: readonly OfferedTool[]
  toolChoice: ToolChoice
  /** The schema the answer must validate against, if one was sent. */
  outputSchema: JsonObject | null
  stream: boolean
  /** True if an OpenAI client asked for the usage chunk of a stream. */
  includeUsage: boolean
  segments: readonly Segment[]
}

/** A tool call of a practice answer; the arguments are JSON text. */
export interface AnsweredCall {
  id: string
  name: string
  arguments: string
}

/** Why an answer ended. */
export type Stop = 'end' | 'tool_calls' | 'max_tokens' | 'refusal' | 'pause' | 'content_filter'

/** An answer before it is put into the words of a protocol. */
export interface Answer {
  /** Sixteen hexadecimal digits, the same for the same request. */
  id: string
  text: string
  calls: readonly AnsweredCall[]
  refusal: string | null
  stop: Stop
}

/** The text of everything that was said, instructions included. */
export function wholeText(question: Question): string {
  return question.turns.map((turn) => turn.text).join('\n')
}

/** The first tool call without its result right after it, or result without its call right before it. */
export function unpairedCall(
  turns: readonly Turn[],
): { id: string; lacks: 'call' | 'result' } | undefined {
  let open = new Set<string>()
  for (const turn of [...turns, undefined]) {
    if (turn?.role === 'tool') {
      if (!open.delete(turn.callId ?? '')) return { id: turn.callId ?? '', lacks: 'call' }
      continue
    }
    const [id] = open
    if (id !== undefined) return { id, lacks: 'result' }
    open = new Set(turn?.calls)
  }
  return undefined
}
