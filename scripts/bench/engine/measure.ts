import { type BenchRow, quantile } from '../row.ts'
import type { Contender } from './contender.ts'

/** What one contender did in one round. */
export interface Round {
  /** Jobs per second, in rows of that unit. */
  perSecond?: number
  /** ms each. */
  latencies: number[]
}

/** All rounds of each contender that took part. */
export type Rounds = Map<Contender['name'], Round[]>

/** Rounds of each measurement; a contender's turn comes first and last in turn. */
const roundCount = 5

/** Lets contenders take turns, so that whatever disturbs the machine disturbs all of them. */
export async function inTurns(
  contenders: Contender[],
  measure: (contender: Contender) => Promise<Round>,
  options: { rounds?: number } = {},
): Promise<Rounds> {
  const rounds: Rounds = new Map(contenders.map(({ name }) => [name, []]))
  for (let round = 0; round < (options.rounds ?? roundCount); round += 1) {
    for (const contender of round % 2 === 0 ? contenders : contenders.toReversed()) {
      rounds.get(contender.name)?.push(await measure(contender))
    }
  }
  return rounds
}

/** The row of Nightshift beside the floor and its peers. Rates are medians of rounds, latencies of all samples. */
export function rowOf(
  name: string,
  unit: BenchRow['unit'],
  rounds: Rounds,
  extra: Pick<BenchRow, 'extra' | 'missing'> = {},
): BenchRow {
  const own = rounds.get('nightshift') ?? []
  const latencies = own.flatMap((round) => round.latencies)
  const median = middle(unit, own)
  const ratios = [...rounds].flatMap(([peer, theirs]): [string, number][] => {
    if (peer === 'nightshift') return []
    const other = middle(unit, theirs)
    return [[peer, unit === '/s' ? median / other : other / median]]
  })
  const { floor = Number.NaN, ...ratioTo } = Object.fromEntries(ratios)
  return {
    name: `engine.${name}`,
    unit,
    n: latencies.length,
    median,
    p50: quantile(latencies, 0.5),
    p99: quantile(latencies, 0.99),
    ratio_to_floor: floor,
    ratio_to: ratioTo,
    ...extra,
  }
}

/** Median of all latencies of one contender, ms. */
export function medianOf(rounds: Rounds, name: Contender['name']): number {
  return middle('ms', rounds.get(name) ?? [])
}

function middle(unit: BenchRow['unit'], rounds: Round[]): number {
  return unit === '/s'
    ? quantile(
        rounds.map((round) => round.perSecond ?? Number.NaN),
        0.5,
      )
    : quantile(
        rounds.flatMap((round) => round.latencies),
        0.5,
      )
}

/** Times one call that handles so many jobs. */
export async function timedRate(count: number, call: () => Promise<unknown>): Promise<Round> {
  const before = performance.now()
  await call()
  const duration = performance.now() - before
  return { perSecond: (count * 1000) / duration, latencies: [duration] }
}
