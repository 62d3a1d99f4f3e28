import type { JsonObject } from './json.ts'
import type { Answer, Question } from './question.ts'
import type { Usage } from './usage.ts'

/** A request the provider would refuse. */
export class Refused extends Error {
  readonly status: number
  /** OpenAI's `error.code`, where it has one. */
  readonly code: string | null
  /** OpenAI's `error.param`: the field at fault. */
  readonly param: string | null

  constructor(status: number, message: string, at: { code?: string; param?: string } = {}) {
    super(message)
    this.name = 'Refused'
    this.status = status
    this.code = at.code ?? null
    this.param = at.param ?? null
  }
}

/** An answer on its way out; `usage` is null where a fault withholds it. */
export interface Reply {
  question: Question
  answer: Answer
  usage: Usage | null
}

/** One wire format: how to read a request, and how to write an answer whole or as a stream of events. */
export interface Dialect {
  /** Throws Refused. */
  read(body: JsonObject): Question
  whole(reply: Reply): JsonObject
  events(reply: Reply): ServerSentEvent[]
  /** The event that reports an error inside a stream. */
  errorEvent(body: unknown): ServerSentEvent
}

/** One event of a stream. */
export interface ServerSentEvent {
  event?: string
  data: string
}

/** An event whose data is JSON. */
export function jsonEvent(data: unknown, event?: string): ServerSentEvent {
  return event === undefined
    ? { data: JSON.stringify(data) }
    : { event, data: JSON.stringify(data) }
}

/** The text in pieces of about so many characters; an empty text has none. */
export function piecesOf(text: string, size: number): string[] {
  return text.match(new RegExp(`[\\s\\S]{1,${size}}`, 'gu')) ?? []
}

/** Unix time all answers carry, so that the same request gives the same bytes: 2026-01-01. */
export const CREATED = 1_767_225_600
