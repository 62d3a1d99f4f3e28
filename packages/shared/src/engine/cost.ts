import type { Usage } from '../models/types.ts'
import type { Model } from './session.ts'

/** What a call cost, USD: disjoint token classes times prices per million tokens. */
export function costUsd(model: Model, usage: Usage): number {
  const micro =
    usage.input * model.input_usd +
    usage.cacheRead * model.cache_read_usd +
    (usage.cacheWrite5m + usage.cacheWrite1h) * model.cache_write_usd +
    usage.output * model.output_usd
  return micro / 1_000_000
}

/**
 * The most a call can cost, USD: every prompt byte a token (tokens are never shorter than a byte),
 * all of it written to the cache, and the whole output allowance used.
 */
export function worstCaseUsd(model: Model, promptBytes: number, maxOutputTokens: number): number {
  const input = Math.max(model.input_usd, model.cache_write_usd)
  return (promptBytes * input + maxOutputTokens * model.output_usd) / 1_000_000
}
