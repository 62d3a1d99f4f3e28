import { expect, test } from 'vitest'
import { ModelError, type ModelErrorKind, toModelError } from './errors.ts'
import { retryAfterMs } from './retry-after.ts'

/** An error as the SDKs build it: status, headers, and the parsed body (Anthropic whole, OpenAI its inner error). */
function sdkError(
  status: number | undefined,
  body: object,
  headers: Record<string, string> = {},
): Error {
  return Object.assign(new Error(`${status} said so`), {
    status,
    headers: new Headers(headers),
    error: body,
  })
}

const anthropic = (type: string, details: object = {}, message = '') => ({
  type: 'error',
  error: { type, message, details },
})
const openai = (type: string | null, code: string | number | null = null, message = '') => ({
  type,
  code,
  message,
  param: null,
})

test.each<[ModelErrorKind, number | undefined, object, Record<string, string>?]>([
  ['invalid_request', 400, anthropic('invalid_request_error')],
  [
    'context_length',
    400,
    anthropic('invalid_request_error', {}, 'prompt is too long: 210000 tokens > 200000 maximum'),
  ],
  [
    'content_filter',
    400,
    anthropic('invalid_request_error', {}, 'Output blocked by content filtering policy'),
  ],
  ['quota', 400, anthropic('invalid_request_error', {}, 'Your credit balance is too low')],
  ['auth', 400, anthropic('invalid_request_error', { error_code: 'organization_on_hold' })],
  ['auth', 401, anthropic('authentication_error')],
  ['quota', 402, anthropic('billing_error')],
  ['auth', 403, anthropic('permission_error')],
  ['not_found', 404, anthropic('not_found_error')],
  ['context_length', 413, anthropic('request_too_large')],
  ['rate_limit', 429, anthropic('rate_limit_error')],
  ['rate_limit', 429, anthropic('rate_limit_error', { error_code: 'ramp_limit_exceeded' })],
  ['quota', 429, anthropic('rate_limit_error', { error_code: 'enforced_spend_limit_reached' })],
  ['quota', 429, anthropic('rate_limit_error', { error_code: 'contract_spend_limit_reached' })],
  ['server', 500, anthropic('api_error')],
  ['timeout', 504, anthropic('timeout_error')],
  ['overloaded', 529, anthropic('overloaded_error')],
  ['overloaded', undefined, anthropic('overloaded_error')],
  ['rate_limit', undefined, anthropic('rate_limit_error')],
  ['server', undefined, anthropic('api_error')],
  ['invalid_request', undefined, anthropic('invalid_request_error')],
  ['invalid_request', 400, openai('invalid_request_error', 'invalid_value')],
  ['context_length', 400, openai('invalid_request_error', 'context_length_exceeded')],
  ['context_length', 400, openai(null, null, "This model's maximum context length is 8192 tokens")],
  ['content_filter', 400, openai('invalid_request_error', 'content_policy_violation')],
  ['content_filter', 400, openai(null, 'content_filter')],
  ['auth', 401, openai('invalid_request_error', 'invalid_api_key')],
  ['auth', 403, openai(null, 'unsupported_country_region_territory')],
  ['not_found', 404, openai('invalid_request_error', 'model_not_found')],
  ['rate_limit', 429, openai('requests', 'rate_limit_exceeded')],
  ['rate_limit', 429, openai('tokens', 'rate_limit_exceeded')],
  ['quota', 429, openai('insufficient_quota', 'insufficient_quota')],
  ['server', 500, openai('server_error')],
  ['overloaded', 503, openai('server_error', 'slow_down')],
  ['server', undefined, openai('server_error')],
  ['rate_limit', undefined, openai(null, 429)],
  ['quota', 402, openai(null, 402)],
  ['rate_limit', 402, openai(null, 402), { 'retry-after': '3' }],
  ['quota', 429, openai(null, 429, 'Rate limit exceeded: free-models-per-day')],
  ['rate_limit', 429, openai(null, 429, 'Rate limit exceeded: free-models-per-min')],
  [
    'content_filter',
    403,
    { ...openai(null, 403), metadata: { reasons: ['x'], flagged_input: 'y' } },
  ],
  ['timeout', 408, {}],
  ['server', 502, {}],
  ['timeout', 504, {}],
  ['invalid_request', 422, {}],
])('%s: %s %o %o', (kind, status, body, headers) => {
  const error = toModelError(sdkError(status, body, { 'request-id': 'req_1', ...headers }))
  expect(error).toMatchObject({ kind, requestId: 'req_1' })
})

test('errors without an answer', () => {
  const named = (name: string) => Object.assign(new Error('x'), { name })
  expect(toModelError(named('AbortError')).kind).toBe('aborted')
  expect(toModelError(named('TimeoutError')).kind).toBe('timeout')
  expect(
    toModelError(new TypeError('fetch failed', { cause: new Error('ECONNREFUSED') })),
  ).toMatchObject({
    kind: 'connection',
    message: 'fetch failed (ECONNREFUSED)',
  })
  expect(toModelError(new SyntaxError('JSON')).kind).toBe('server')
  expect(toModelError('odd').kind).toBe('server')
  const same = new ModelError('quota', 'x')
  expect(toModelError(same)).toBe(same)
})

const NOW = Date.parse('2026-11-16T12:00:00Z')

test.each<[number | null, Record<string, string>]>([
  [17_000, { 'retry-after': '17' }],
  [1_500, { 'retry-after': '1.5' }],
  [90_000, { 'retry-after': 'Mon, 16 Nov 2026 12:01:30 GMT' }],
  [0, { 'retry-after': 'Mon, 16 Nov 2026 11:00:00 GMT' }],
  [250, { 'retry-after-ms': '250', 'retry-after': '1' }],
  [null, { 'retry-after': 'soon' }],
  [null, {}],
  // The empty bucket decides, not the one that is full again first.
  [
    60_000,
    {
      'anthropic-ratelimit-requests-remaining': '10',
      'anthropic-ratelimit-requests-reset': '2026-11-16T12:00:01Z',
      'anthropic-ratelimit-input-tokens-remaining': '0',
      'anthropic-ratelimit-input-tokens-reset': '2026-11-16T12:01:00Z',
    },
  ],
  [
    1_000,
    {
      'anthropic-ratelimit-requests-reset': '2026-11-16T12:00:01Z',
      'anthropic-ratelimit-tokens-reset': '2026-11-16T12:00:09Z',
    },
  ],
  [3_600_000, { 'anthropic-ratelimit-unified-reset': String(NOW / 1_000 + 3_600) }],
  // Until full: 6 minutes for 60 requests, so one is free after 6 seconds.
  [
    6_000,
    {
      'x-ratelimit-remaining-requests': '0',
      'x-ratelimit-limit-requests': '60',
      'x-ratelimit-reset-requests': '6m0s',
    },
  ],
  [
    12,
    {
      'x-ratelimit-remaining-tokens': '0',
      'x-ratelimit-limit-tokens': '9',
      'x-ratelimit-reset-tokens': '12ms',
    },
  ],
  [3_723_500, { 'x-ratelimit-reset-tokens': '1h2m3.5s' }],
  [5_000, { 'x-ratelimit-reset': String(NOW + 5_000) }],
  [31 * 86_400_000, { 'retry-after': '99999999' }],
])('retry after %s ms: %o', (wait, headers) => {
  expect(retryAfterMs(new Headers(headers), NOW)).toBe(wait)
})
