import type { ModelResponse, Usage } from './types.ts'

/** What an exchange needs from outside. */
export interface Transport {
  signal: AbortSignal
  fetch: (input: string | URL | Request, init?: RequestInit) => Promise<Response>
}

/** One call in the words of a protocol: opened once, fed with the events of its stream, then read. */
export interface Exchange<Event> {
  /** Sends the request. Throws what the SDK throws. */
  open(transport: Transport): Promise<{ events: AsyncIterable<Event>; requestId: string | null }>
  add(event: Event): void
  /** True once the terminal event was there. */
  isComplete(): boolean
  /** The whole answer; only after isComplete. */
  answer(): Omit<ModelResponse, 'requestId'>
  /** What was used so far, null if nothing is known. */
  usageSoFar(): Usage | null
}
