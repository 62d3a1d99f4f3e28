/**
 * An error a person or program outside can act on: a stable code, a sentence, a hint, an HTTP status.
 * `docs/errors.md` lists the NS codes; other codes are Postgres' or PostgREST's own.
 */
export class NightshiftError extends Error {
  readonly code: string
  readonly status: number
  readonly hint: string | null

  constructor(
    message: string,
    options: { code: string; status?: number; hint?: string | null; cause?: unknown },
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'NightshiftError'
    this.code = options.code
    this.status = options.status ?? 500
    this.hint = options.hint ?? null
  }
}

/** The error body of the Data API: https://docs.postgrest.org/en/stable/references/errors.html */
export interface PostgrestFault {
  code?: string
  message: string
  hint?: string | null
}

/** Turns an error answer of the Data API into a `NightshiftError` with the same code. */
export function fromPostgrest(fault: PostgrestFault, status: number): NightshiftError {
  return new NightshiftError(fault.message || `request failed with status ${status}`, {
    code: fault.code || (status === 0 ? 'connection' : `HTTP${status}`),
    status,
    hint: fault.hint ?? null,
  })
}

/** True when another worker or a decision has taken the task over: stop, write nothing more. */
export function isStale(error: unknown): boolean {
  return error instanceof NightshiftError && (error.code === 'NS030' || error.code === 'NS034')
}

/** Classes of SQLSTATE that pass by themselves: connection, resources, deadlock, lock, shutdown. */
const transientCode = /^(08|53|40|55P03|57P0)/

/**
 * True when the same call may succeed a moment later. All calls of `rpc.ts` may be repeated: writes
 * carry a fence and a step number, so a repeat changes nothing.
 */
export function isTransient(error: unknown): boolean {
  if (!(error instanceof NightshiftError)) return false
  if (transientCode.test(error.code) || error.code === 'connection') return true
  return error.status === 0 || error.status === 429 || [502, 503, 504].includes(error.status)
}
