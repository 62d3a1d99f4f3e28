/** What a worker may use. Times in milliseconds, memory in MB. */
export interface Limits {
  /** Until the function listens; a function that never does fails to boot. */
  bootMs: number
  /** CPU time of the worker after boot; above it no new request is given to it. */
  cpuSoftMs: number
  /** CPU time of the worker after boot; above it the worker is killed. */
  cpuMs: number
  /** Time a worker keeps between `beforeunload` and its end when it is dropped or stopped. */
  graceMs: number
  /** A worker without requests and background promises is dropped after this time. */
  idleMs: number
  /** JavaScript heap, and resident memory above that of the bare runtime. */
  memoryMb: number
  /** Until the head of the response; later answers are 504. */
  responseMs: number
  /** How often CPU and memory are measured. */
  sampleMs: number
  /** Life of a worker from boot to kill. */
  wallClockMs: number
}

/**
 * The hosted free plan. Grace, idle and sample times are our own choice: the platform does not
 * publish its own.
 */
export const hostedLimits: Limits = {
  bootMs: 10_000,
  cpuSoftMs: 1_000,
  cpuMs: 2_000,
  graceMs: 500,
  idleMs: 60_000,
  memoryMb: 256,
  responseMs: 150_000,
  sampleMs: 100,
  wallClockMs: 150_000,
}

/**
 * Shares of the wall clock after which a worker gets no new requests and hears `beforeunload`
 * (edge-runtime, per-worker policy). The latter share holds for CPU and memory as well.
 */
export const retireShare = 0.5
export const unloadShare = 0.9
