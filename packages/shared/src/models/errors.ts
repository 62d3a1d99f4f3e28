import { isObject, type JsonObject } from './json.ts'
import { retryAfterMs } from './retry-after.ts'
import type { Usage } from './types.ts'

/**
 * What went wrong, by what to do about it: wait for the reset (rate_limit), wait seconds (overloaded), do not come
 * back for hours (quota), fix the key (auth) or the request (invalid_request, not_found), shorten (context_length),
 * respect it (content_filter), try again (timeout, truncated, connection, server), stop (aborted).
 */
export type ModelErrorKind =
  | 'rate_limit'
  | 'overloaded'
  | 'quota'
  | 'auth'
  | 'invalid_request'
  | 'context_length'
  | 'content_filter'
  | 'not_found'
  | 'timeout'
  | 'truncated'
  | 'connection'
  | 'server'
  | 'aborted'

/** What is known about a failed call besides its kind. */
export interface ModelErrorDetails {
  status?: number | null
  retryAfterMs?: number | null
  requestId?: string | null
  usage?: Usage | null
  cause?: unknown
}

/** A model call that gave no complete answer. */
export class ModelError extends Error {
  readonly kind: ModelErrorKind
  /** HTTP status; null where none arrived, or where the error came inside a stream that began with 200. */
  readonly status: number | null
  readonly retryAfterMs: number | null
  /** The provider's id of the request. */
  readonly requestId: string | null
  /** What was used before the failure, where that is known; it is billed. */
  readonly usage: Usage | null

  constructor(kind: ModelErrorKind, message: string, details: ModelErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.name = 'ModelError'
    this.kind = kind
    this.status = details.status ?? null
    this.retryAfterMs = details.retryAfterMs ?? null
    this.requestId = details.requestId ?? null
    this.usage = details.usage ?? null
  }
}

/** Codes and types that decide whatever the status is; the first row that fits wins. Sources: docs of both APIs. */
const BY_CODE: readonly [ModelErrorKind, RegExp][] = [
  [
    'quota',
    /^(enforced_spend_limit_reached|contract_spend_limit_reached|insufficient_quota|billing_.*|insufficient_credits)$/,
  ],
  [
    'context_length',
    /^(context_length_exceeded|model_context_window_exceeded|string_above_max_length|request_too_large|request_body_too_large.*)$/,
  ],
  [
    'content_filter',
    /^(content_filter|content_policy_violation|responsibleaipolicyviolation|invalid_prompt|moderation.*|bio_policy|cyber_policy|.*_policy_violation)$/,
  ],
  ['rate_limit', /^(rate_limit_error|rate_limit_exceeded|ramp_limit_exceeded|too_many_requests)$/],
  ['overloaded', /^(overloaded_error|overloaded|server_overloaded|engine_overloaded.*|slow_down)$/],
  [
    'auth',
    /^(authentication_error|permission_error|invalid_api_key|incorrect_api_key|insufficient_permissions|organization_on_hold|account_deactivated|data_residency_mismatch)$/,
  ],
  ['not_found', /^(not_found_error|model_not_found)$/],
  ['timeout', /^(timeout_error|timeout)$/],
]

/** Providers that say it only in words, mostly with status 400 or 429. */
const BY_MESSAGE: readonly [ModelErrorKind, RegExp][] = [
  [
    'context_length',
    /prompt is too long|maximum context length|context (window|length) (is |was )?exceeded|exceeds? the (model's )?(maximum )?context/i,
  ],
  ['content_filter', /content filtering policy|content management policy/i],
  ['quota', /free-models-per-day|credit balance is too low|exceeded your current quota/i],
]

const BY_STATUS: { readonly [status: number]: ModelErrorKind } = {
  401: 'auth',
  402: 'quota',
  403: 'auth',
  404: 'not_found',
  408: 'timeout',
  409: 'server',
  410: 'not_found',
  413: 'context_length',
  425: 'server',
  429: 'rate_limit',
  503: 'overloaded',
  504: 'timeout',
  529: 'overloaded',
}

/** Types that name only the side at fault, for errors inside a stream. */
const BY_SIDE: readonly [ModelErrorKind, RegExp][] = [
  ['server', /^(api_error|server_error|internal_.*)$/],
  ['invalid_request', /^(invalid_request_error|invalid_value|bad_request)$/],
]

/** Brings whatever a model SDK throws into one shape; a ModelError stays as it is. `now` is in milliseconds since 1970. */
export function toModelError(error: unknown, now: number = Date.now()): ModelError {
  if (error instanceof ModelError) return error
  if (!(error instanceof Error)) return new ModelError('server', String(error), { cause: error })
  const fault = faultOf(error)
  if (fault === null) return new ModelError(kindOfPlain(error), describe(error), { cause: error })
  const { headers, status } = fault
  return new ModelError(kindOf(fault), fault.message, {
    status,
    retryAfterMs: headers === null ? null : retryAfterMs(headers, now),
    requestId: headers?.get('request-id') ?? headers?.get('x-request-id') ?? null,
    cause: error,
  })
}

/** An error a provider has sent. */
interface ProviderFault {
  status: number | null
  headers: Headers | null
  codes: string[]
  message: string
  flagged: boolean
}

/** Both SDKs put status, headers and body on their APIError; connection errors have neither status nor headers. */
function faultOf(error: Error): ProviderFault | null {
  if (!('headers' in error) || !('status' in error)) return null
  const headers = error.headers instanceof Headers ? error.headers : null
  const status = typeof error.status === 'number' ? error.status : null
  if (status === null && headers === null) return null
  const body = 'error' in error && isObject(error.error) ? error.error : {}
  const inner = isObject(body.error) ? body.error : body
  const details = isObject(inner.details) ? inner.details : {}
  const codes = [details.error_code, inner.code, inner.type].flatMap((code) =>
    typeof code === 'string' ? [code.toLowerCase()] : [],
  )
  return {
    status: status ?? mirroredStatus(inner),
    headers,
    codes,
    message: typeof inner.message === 'string' ? inner.message : error.message,
    flagged: isObject(inner.metadata) && 'flagged_input' in inner.metadata,
  }
}

/** OpenRouter writes the HTTP status it would have sent into `error.code` of a stream that began with 200. */
function mirroredStatus({ code }: JsonObject): number | null {
  return typeof code === 'number' && code >= 400 && code < 600 ? code : null
}

function kindOf({ status, headers, codes, message, flagged }: ProviderFault): ModelErrorKind {
  const byCode = codes
    .map((code) => BY_CODE.findIndex(([, pattern]) => pattern.test(code)))
    .filter((row) => row >= 0)
  if (byCode.length > 0) return BY_CODE[Math.min(...byCode)]?.[0] ?? 'server'
  if (flagged) return 'content_filter'
  const byMessage = BY_MESSAGE.find(([, pattern]) => pattern.test(message))
  if (byMessage !== undefined) return byMessage[0]
  // OpenRouter: 402 with retry-after means that calls in flight hold the rest of the credit.
  if (status === 402 && headers?.has('retry-after')) return 'rate_limit'
  if (status !== null) return BY_STATUS[status] ?? (status >= 500 ? 'server' : 'invalid_request')
  return BY_SIDE.find(([, pattern]) => codes.some((code) => pattern.test(code)))?.[0] ?? 'server'
}

/** Errors without an answer: class names are those of both SDKs, of fetch in Node and in Deno. */
function kindOfPlain(error: Error): ModelErrorKind {
  const names = [error.name, error.constructor.name]
  if (names.includes('APIConnectionTimeoutError') || names.includes('TimeoutError'))
    return 'timeout'
  if (names.includes('APIUserAbortError') || names.includes('AbortError')) return 'aborted'
  if (names.includes('APIConnectionError') || error instanceof TypeError) return 'connection'
  return 'server'
}

/** The message with that of its cause, which is where fetch says what happened. */
function describe(error: Error): string {
  const { cause } = error
  return cause instanceof Error ? `${error.message} (${describe(cause)})` : error.message
}
