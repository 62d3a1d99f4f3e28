/** Switches that make the local doorbells as unreliable as the hosted ones; read at each use, so tests turn them live. */
export interface Faults {
  net: {
    /** Share of requests that are dropped without trace, 0 to 1. */
    loss: number
    /** Extra copies sent of each request. */
    duplicate: number
    /** Milliseconds each request is held back. */
    delayMs: number
    /** While true, requests stay in the queue. */
    paused: boolean
  }
  realtime: {
    /** Share of broadcasts that are dropped, 0 to 1. */
    loss: number
    /** Milliseconds each broadcast is held back. */
    delayMs: number
  }
}

/** No faults: what a fresh stack starts with. */
export function noFaults(): Faults {
  return {
    net: { loss: 0, duplicate: 0, delayMs: 0, paused: false },
    realtime: { loss: 0, delayMs: 0 },
  }
}
