import type { BenchRow } from '../row.ts'
import type { Contender } from './contender.ts'
import { batchSize, drainByClaims } from './contender.ts'
import { inTurns, medianOf, type Round, rowOf } from './measure.ts'

/**
 * `engine.claim_N`: one claim at a backlog of N, and of 100 again after the largest backlog went through
 * ten workers. Peers without a call that claims are left out.
 */
export async function* claimRows(all: Contender[], scale: number): AsyncGenerator<BenchRow> {
  const contenders = all.filter((contender) => contender.claim && contender.complete)
  for (const contender of contenders) await contender.clear()
  let filled = 0
  let first = Number.NaN
  for (const [name, size] of [
    ['claim_100', 100],
    ['claim_200k', 200_000 * scale],
    ['claim_1m', 1_000_000 * scale],
  ] as const) {
    const backlog = Math.max(100, Math.round(size))
    for (const contender of contenders) {
      await contender.enqueueBatch(backlog - filled)
      await contender.analyze()
    }
    filled = backlog
    const rounds = await inTurns(contenders, measureClaims)
    const own = medianOf(rounds, 'nightshift')
    if (name === 'claim_100') first = own
    yield rowOf(name, 'ms', rounds, { extra: { backlog, times_claim_100: own / first } })
  }
  for (const contender of contenders)
    await drainByClaims(contender, filled, { size: batchSize, workers: 10 })
  for (const contender of contenders) {
    await contender.enqueueBatch(100)
    await contender.analyze()
  }
  const rounds = await inTurns(contenders, measureClaims)
  yield rowOf('claim_after_1m', 'ms', rounds, {
    extra: { worked_off: filled, times_claim_100: medianOf(rounds, 'nightshift') / first },
  })
  for (const contender of contenders) await contender.clear()
}

/** Forty claims; then what was taken is completed and replaced. */
async function measureClaims(contender: Contender): Promise<Round> {
  const taken: unknown[] = []
  const latencies: number[] = []
  for (let turn = 0; turn < 40; turn += 1) {
    const before = performance.now()
    const jobs = await contender.claim?.(1, 0)
    latencies.push(performance.now() - before)
    taken.push(...(jobs ?? []))
  }
  if (taken.length !== 40) throw new Error(`${contender.name} claimed ${taken.length} of 40 jobs`)
  await contender.complete?.(taken, 0)
  await contender.enqueueBatch(40)
  return { latencies }
}
