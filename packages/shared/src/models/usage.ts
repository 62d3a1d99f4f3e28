import type { ModelRequest, Usage } from './types.ts'

/** A count as a provider sends it; anything but a number is none. Zero is a count. */
export function countOf(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0 ? value : undefined
}

/** Tokens of a text where nobody counted them: four UTF-8 bytes each, rounded up. */
export function estimateTokens(text: string): number {
  return Math.ceil(new TextEncoder().encode(text).length / 4)
}

/** What a call probably used where the provider did not say. */
export function estimateUsage(request: ModelRequest, written: string): Usage {
  const { system, messages, tools } = request
  const input = estimateTokens(JSON.stringify([system, messages, tools]))
  return {
    input,
    cacheRead: 0,
    cacheWrite5m: 0,
    cacheWrite1h: 0,
    output: estimateTokens(written),
    reasoning: 0,
  }
}
