/**
 * What the host and the bootstrap in a worker tell each other: one JSON object a line, to the
 * worker on stdin and from it on stdout. A function's own output shares stdout, so the worker's
 * messages follow a marker that only the two know.
 */

/** `detail.reason` of the `beforeunload` event, as on the hosted runtime. */
export type UnloadReason = 'cpu' | 'early_drop' | 'memory' | 'termination' | 'wall_clock'

export interface HostMessage {
  /** Dispatch `beforeunload`. */
  unload: UnloadReason
}

export type WorkerMessage =
  /** The runtime is up and the function's module is about to run. */
  | { type: 'booting'; residentMb: number }
  /** The function has a handler and listens on this port of 127.0.0.1. */
  | { type: 'ready'; port: number }
  /** How many promises of `EdgeRuntime.waitUntil` are open. */
  | { type: 'pending'; count: number }
  /** `beforeunload` was dispatched; `heard` if the function listens to it. */
  | { type: 'unloaded'; heard: boolean }

/** Environment variable that carries the `Setup`. */
export const setupVariable = 'FUNCTIONS_HOST_SETUP'

export interface Setup {
  marker: string
  /** Environment variables the function sees; all others are Deno's or the shell's. */
  visible: string[]
  /** The worker's private directory, which it removes itself if the host cannot any more. */
  directory: string
}
