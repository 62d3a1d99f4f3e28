import type { Bench } from './row.ts'

/** Filled in below, once the stack is up: RPC throughput and the way from insert to handler. */
export const local: Bench = async function* () {
  yield* []
}
