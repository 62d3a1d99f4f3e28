import type { IncomingHttpHeaders } from 'node:http'
import { parseJson } from './json.ts'

/** A request the practice models have received. */
export interface Call {
  /** ISO 8601, UTC. */
  time: string
  method: string
  path: string
  /** All headers but those that carry keys. */
  headers: { [name: string]: string }
  /** The parsed body; the raw text where it was not JSON, null where there was none. */
  body: unknown
}

/** The oldest calls are forgotten beyond this much body text, so that a long run does not fill the memory. */
const MAXIMUM_CHARACTERS = 64 * 1024 * 1024
const MAXIMUM_CALLS = 100_000
const SECRET_HEADERS = new Set([
  'authorization',
  'x-api-key',
  'api-key',
  'x-goog-api-key',
  'cookie',
  'proxy-authorization',
])

/** The calls received since the start or the last reset. */
export class CallLog {
  #entries: {
    time: string
    method: string
    path: string
    headers: { [name: string]: string }
    raw: string
  }[] = []
  #characters = 0

  record(request: {
    method: string
    path: string
    headers: IncomingHttpHeaders
    raw: string
  }): void {
    const { method, path, raw } = request
    const headers: { [name: string]: string } = {}
    for (const [name, value] of Object.entries(request.headers)) {
      if (value !== undefined && !SECRET_HEADERS.has(name)) headers[name] = String(value)
    }
    this.#entries.push({ time: new Date().toISOString(), method, path, headers, raw })
    this.#characters += raw.length
    while (this.#characters > MAXIMUM_CHARACTERS || this.#entries.length > MAXIMUM_CALLS) {
      this.#characters -= this.#entries.shift()?.raw.length ?? this.#characters
    }
  }

  list(): Call[] {
    return this.#entries.map(({ raw, ...call }) => ({
      ...call,
      body: raw === '' ? null : (parseJson(raw) ?? raw),
    }))
  }

  clear(): void {
    this.#entries = []
    this.#characters = 0
  }
}
