/** One result. A ratio above 1 always means that ours is better. */
export interface BenchRow {
  name: string
  /** Unit of `median`: `/s` or `ms`. */
  unit: '/s' | 'ms'
  n: number
  median: number
  /** Latency, ms. */
  p50: number
  p99: number
  ratio_to_floor: number
  ratio_to: Record<string, number>
  /** Further figures, in words of the row. */
  extra?: Record<string, number>
  /** Peers that could not be measured, and why. */
  missing?: Record<string, string>
}

/** Measures and yields rows as they come. `scale` shrinks what is large: backlogs and batches. */
export type Bench = (options: { scale: number }) => AsyncIterable<BenchRow>

/** The value below which this share of the samples lies. */
export function quantile(samples: number[], share: number): number {
  const sorted = samples.toSorted((left, right) => left - right)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
}

/** Runs `call` from so many clients at once for a while; returns calls per second and each latency in ms. */
export async function hammer(
  clients: number,
  seconds: number,
  call: (client: number) => Promise<unknown> | undefined,
): Promise<{ perSecond: number; latencies: number[] }> {
  const latencies: number[] = []
  const started = performance.now()
  const ends = started + seconds * 1000
  await Promise.all(
    Array.from({ length: clients }, async (_, client) => {
      while (performance.now() < ends) {
        const before = performance.now()
        await call(client)
        latencies.push(performance.now() - before)
      }
    }),
  )
  return { perSecond: latencies.length / ((performance.now() - started) / 1000), latencies }
}
