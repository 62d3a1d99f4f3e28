import { claimRows } from './engine/claims.ts'
import type { Contender } from './engine/contender.ts'
import { openDbos } from './engine/dbos.ts'
import { openFloor } from './engine/floor.ts'
import { openGraphileWorker } from './engine/graphile-worker.ts'
import { inTurns, type Round, rowOf, timedRate } from './engine/measure.ts'
import { openNightshift } from './engine/nightshift.ts'
import { installPeers } from './engine/peers.ts'
import { openPgBoss } from './engine/pg-boss.ts'
import { startServer } from './engine/server.ts'
import type { Bench, BenchRow } from './row.ts'
import { hammer } from './row.ts'

/**
 * The engine beside pg-boss, graphile-worker and DBOS and beside a raw-SQL floor: the same Postgres,
 * every commit kept, turns taken. Handlers do nothing; all clients live in this process.
 */
export const engine: Bench = async function* ({ scale }) {
  const server = await startServer()
  const opened: Contender[] = []
  const missing: Record<string, string> = {}
  try {
    opened.push(await openNightshift(server), await openFloor(server))
    const refusal = installPeers()
    for (const [name, open] of [
      ['pg_boss', openPgBoss],
      ['graphile_worker', openGraphileWorker],
      ['dbos', openDbos],
    ] as const) {
      try {
        if (refusal) throw new Error(refusal)
        opened.push(await open(server))
      } catch (cause) {
        missing[name] = cause instanceof Error ? cause.message : String(cause)
      }
    }
    for await (const row of rows(opened, scale)) {
      yield Object.keys(missing).length > 0 ? { ...row, missing } : row
    }
  } finally {
    for (const contender of opened) await contender.close()
    await server.stop()
  }
}

async function* rows(contenders: Contender[], scale: number): AsyncGenerator<BenchRow> {
  const many = Math.max(1000, Math.round(20_000 * scale))
  const rate = async (
    name: string,
    measure: (contender: Contender) => Promise<Round>,
    who = contenders,
  ): Promise<BenchRow> => {
    // The first turn of each, which prepares statements and fills caches, does not count.
    await inTurns(who, measure, { rounds: 1 })
    return rowOf(name, '/s', await inTurns(who, measure))
  }
  yield await rate('enqueue', (contender) => enqueueFor(contender, 1))
  yield await rate('enqueue_16', (contender) => enqueueFor(contender, 16))
  yield await rate('enqueue_batch', (contender) =>
    emptied(contender, () => timedRate(many, () => contender.enqueueBatch(many))),
  )
  yield await rate('drain', (contender) => drain(contender, Math.round(many / 20), 'single'))
  yield await rate('drain_batch', (contender) => drain(contender, many, 'batch'))
  yield await rate('flow', (contender) => emptied(contender, () => flow(contender, many)))
  const durable = contenders.filter((contender) => contender.chains)
  yield await rate(
    'chain_3',
    (contender) => emptied(contender, () => chains(contender, 200)),
    durable,
  )
  const mapping = contenders.filter((contender) => contender.map)
  const maps = await inTurns(mapping, (contender) =>
    emptied(contender, () => timedRate(1000, async () => contender.map?.(500))),
  )
  yield rowOf('map_500', 'ms', maps)
  const starts = await inTurns(contenders, (contender) =>
    emptied(contender, () => startLatency(contender, 20)),
  )
  yield rowOf('start_latency', 'ms', starts)
  yield* claimRows(contenders, scale)
}

async function emptied(contender: Contender, measure: () => Promise<Round>): Promise<Round> {
  await contender.clear()
  return measure()
}

function enqueueFor(contender: Contender, clients: number): Promise<Round> {
  return emptied(contender, () => hammer(clients, 1, (client) => contender.enqueue(client)))
}

async function drain(contender: Contender, count: number, way: 'single' | 'batch'): Promise<Round> {
  await contender.clear()
  // DBOS durably starts each one by itself: fewer, so that filling takes no minutes.
  const jobs = contender.name === 'dbos' ? Math.min(count, 1000) : count
  await contender.enqueueBatch(jobs)
  const { perSecond = Number.NaN } = await timedRate(jobs, () => contender.drain(jobs, way))
  return { perSecond, latencies: [1000 / perSecond] }
}

/** Hands in and works off at the same time until all is done. */
async function flow(contender: Contender, count: number): Promise<Round> {
  const jobs = contender.name === 'dbos' ? Math.min(count, 1000) : count
  let open = jobs
  let finish = (): void => {}
  const done = new Promise<void>((settle) => {
    finish = settle
  })
  const working = await contender.work(() => {
    open -= 1
    if (open === 0) finish()
  })
  const round = await timedRate(jobs, async () => {
    await contender.enqueueBatch(jobs)
    await done
  })
  await working.stop()
  return round
}

async function chains(contender: Contender, count: number): Promise<Round> {
  const before = performance.now()
  const latencies = (await contender.chains?.(count)) ?? []
  return { perSecond: (count * 1000) / (performance.now() - before), latencies }
}

/** From just before handing in to the start of the handler, on an idle system. */
async function startLatency(contender: Contender, samples: number): Promise<Round> {
  let started = (): void => {}
  const working = await contender.work(() => started())
  const latencies: number[] = []
  for (let sample = -2; sample < samples; sample += 1) {
    // Idle, and not in step with anybody's rhythm of polling.
    await new Promise((settle) => setTimeout(settle, 110 + Math.random() * 100))
    const start = new Promise<void>((settle) => {
      started = settle
    })
    const before = performance.now()
    await contender.enqueue(0)
    await start
    // The first two wake up what sleeps.
    if (sample >= 0) latencies.push(performance.now() - before)
  }
  await working.stop()
  return { latencies }
}
