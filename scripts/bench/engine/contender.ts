/** A job somebody has taken and will complete. */
export type Taken = unknown

/**
 * One queue under test. All contenders keep their data in a database of their own on the same server
 * and do no work in the handler. A missing method means that it has no such call.
 */
export interface Contender {
  name: 'nightshift' | 'floor' | 'pg_boss' | 'graphile_worker' | 'dbos'
  /** Hands in one job and waits for the acknowledgement; `client` numbers the connection. */
  enqueue(client: number): Promise<unknown>
  /** Hands in many jobs in its cheapest way. */
  enqueueBatch(count: number): Promise<unknown>
  /** Takes up to so many jobs; `client` numbers the connection. */
  claim?(count: number, client: number): Promise<Taken[]>
  complete?(taken: Taken[], client: number): Promise<unknown>
  /** Works off a backlog of so many jobs, one at a time or in its fastest way. */
  drain(count: number, way: Way): Promise<void>
  /** Starts workers in the fastest way; `onStart` is called once per started job. */
  work(onStart: () => void): Promise<{ stop(): Promise<void> }>
  /** Runs so many durable jobs of three recorded steps, from handing in to the end; returns each one's ms. */
  chains?(count: number): Promise<number[]>
  /** Maps so many jobs, waits for all, maps as many again, waits for all; durable from end to end. */
  map?(width: number): Promise<void>
  /** Renews the planner's statistics, as autovacuum does within a minute of a large change. */
  analyze(): Promise<unknown>
  /** Removes all jobs. */
  clear(): Promise<void>
  close(): Promise<void>
}

/** Jobs that workers take in one call. */
export const batchSize = 500

/** Connections of a contender, and durable jobs that it runs at once. */
export const connections = 16

/** Workers that claim batches at once. */
export const workers = 2

/** The payload of every job. */
export const payload = { question: 'Now?' }

/** How to work off a backlog. */
export type Way = 'single' | 'batch'

/** Claims and completes on some connections at once until so many jobs are done. */
export async function drainByClaims(
  contender: Pick<Contender, 'claim' | 'complete'>,
  count: number,
  { size, workers }: { size: number; workers: number },
): Promise<void> {
  let open = count
  await Promise.all(
    Array.from({ length: workers }, async (_, client) => {
      while (open > 0) {
        const taken = (await contender.claim?.(size, client)) ?? []
        open -= taken.length
        if (taken.length > 0) await contender.complete?.(taken, client)
      }
    }),
  )
}

/** Jobs per call and connections of each way. */
export const ways: Record<Way, { size: number; workers: number }> = {
  single: { size: 1, workers: 1 },
  batch: { size: batchSize, workers },
}

/**
 * Claims and completes on all connections at once until stopped; an idle connection sleeps until `wake`
 * is called and looks again after 100 ms at the latest.
 */
export function workByClaims(
  contender: Pick<Contender, 'claim' | 'complete'>,
  onStart: () => void,
): { wake(): void; stop(): Promise<void> } {
  let stopped = false
  let sleepers: (() => void)[] = []
  const wake = (): void => {
    const woken = sleepers
    sleepers = []
    for (const sleeper of woken) sleeper()
  }
  const sleep = (): Promise<void> =>
    new Promise((settle) => {
      const timer = setTimeout(settle, 100)
      sleepers.push(() => {
        clearTimeout(timer)
        settle()
      })
    })
  const running = Array.from({ length: workers }, async (_, client) => {
    while (!stopped) {
      const taken = (await contender.claim?.(batchSize, client)) ?? []
      for (const _job of taken) onStart()
      if (taken.length > 0) await contender.complete?.(taken, client)
      else await sleep()
    }
  })
  return {
    wake,
    stop: async () => {
      stopped = true
      wake()
      await Promise.all(running)
    },
  }
}

/** Runs `call` for each of `count` numbers, so many at once; returns the ms of each. */
export async function timedEach(
  count: number,
  atOnce: number,
  call: (index: number, client: number) => Promise<unknown>,
): Promise<number[]> {
  const times: number[] = []
  let next = 0
  await Promise.all(
    Array.from({ length: atOnce }, async (_, client) => {
      while (next < count) {
        const index = next
        next += 1
        const before = performance.now()
        await call(index, client)
        times.push(performance.now() - before)
      }
    }),
  )
  return times
}
