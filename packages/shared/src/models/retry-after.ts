/** Longer waits are not believed: the clock of a proxy may be wrong. */
const LONGEST_MS = 31 * 24 * 3_600_000
const ANTHROPIC_BUCKETS = ['requests', 'tokens', 'input-tokens', 'output-tokens']
const OPENAI_BUCKETS = ['requests', 'tokens']

/**
 * Milliseconds until the provider wants to be asked again, or null where it does not say. `retry-after-ms` and
 * `retry-after` (seconds or HTTP date) win; else the buckets that are empty decide, and where none is, the one that
 * is full again first.
 */
export function retryAfterMs(headers: Headers, now: number): number | null {
  const said =
    numeric(headers.get('retry-after-ms')) ?? secondsOrDate(headers.get('retry-after'), now)
  const wait = said ?? fromBuckets(headers, now)
  return wait === undefined ? null : Math.min(Math.max(0, Math.ceil(wait)), LONGEST_MS)
}

function secondsOrDate(value: string | null, now: number): number | undefined {
  const seconds = numeric(value)
  return seconds === undefined ? until(value, now) : seconds * 1_000
}

function fromBuckets(headers: Headers, now: number): number | undefined {
  const subscription = numeric(headers.get('anthropic-ratelimit-unified-reset'))
  if (subscription !== undefined) return subscription * 1_000 - now
  const anthropic = ANTHROPIC_BUCKETS.map((bucket): Bucket => {
    const prefix = `anthropic-ratelimit-${bucket}`
    return {
      left: numeric(headers.get(`${prefix}-remaining`)),
      wait: until(headers.get(`${prefix}-reset`), now),
    }
  })
  const openai = OPENAI_BUCKETS.map((bucket) => openaiBucket(headers, bucket))
  return (
    longestOfEmpty([...anthropic, ...openai]) ?? resetTime(headers.get('x-ratelimit-reset'), now)
  )
}

interface Bucket {
  left: number | undefined
  wait: number | undefined
}

function longestOfEmpty(buckets: readonly Bucket[]): number | undefined {
  const known = buckets.flatMap(({ left, wait }) => (wait === undefined ? [] : [{ left, wait }]))
  const empty = known.filter(({ left }) => left === 0).map(({ wait }) => wait)
  if (empty.length > 0) return Math.max(...empty)
  return known.length > 0 ? Math.min(...known.map(({ wait }) => wait)) : undefined
}

/**
 * OpenAI's reset is the time until the bucket is full again, so one request is free after its share of that time.
 * Of tokens the whole bucket is awaited, as nobody knows here how many the next call needs.
 */
function openaiBucket(headers: Headers, bucket: string): Bucket {
  const full = duration(headers.get(`x-ratelimit-reset-${bucket}`))
  const limit = numeric(headers.get(`x-ratelimit-limit-${bucket}`))
  const left = numeric(headers.get(`x-ratelimit-remaining-${bucket}`))
  const missing = limit === undefined || left === undefined ? 0 : limit - left
  if (bucket === 'tokens' || full === undefined || missing <= 0) return { left, wait: full }
  return { left, wait: full / missing }
}

/** `6m0s`, `1h2m3.5s`, `12ms`, in milliseconds. */
function duration(value: string | null): number | undefined {
  if (value === null || !/^(\d+(\.\d+)?(ms|[dhms]))+$/.test(value)) return undefined
  const units: { readonly [unit: string]: number } = {
    ms: 1,
    s: 1_000,
    m: 60_000,
    h: 3_600_000,
    d: 86_400_000,
  }
  const parts = [...value.matchAll(/(\d+(?:\.\d+)?)(ms|[dhms])/g)]
  return parts.reduce((sum, [, count, unit]) => sum + Number(count) * (units[unit ?? ''] ?? 0), 0)
}

/** OpenRouter: unix milliseconds; others: unix seconds, or seconds from now. */
function resetTime(value: string | null, now: number): number | undefined {
  const number = numeric(value)
  if (number === undefined) return duration(value) ?? until(value, now)
  if (number > 1e11) return number - now
  return number > 1e8 ? number * 1_000 - now : number * 1_000
}

function until(date: string | null, now: number): number | undefined {
  const time = date === null ? Number.NaN : Date.parse(date)
  return Number.isNaN(time) ? undefined : time - now
}

function numeric(value: string | null): number | undefined {
  return value !== null && /^\s*\d+(\.\d+)?\s*$/.test(value) ? Number(value) : undefined
}
