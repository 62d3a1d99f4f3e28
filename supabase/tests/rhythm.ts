import type { Json, Shop } from './actors.ts'
import { sweep, type Tenant } from './tenant.ts'

/** A row of nightshift.rhythm_runs as far as tests look at it. */
export interface Run {
  slot: Date
  outcome: string
  reason: string | null
  manual: boolean
  gathered: { rows: Json[]; count: number; truncated: boolean } | null
  task_ids: number[]
}

export type Definition = Record<string, Json>

let counter = 0

/** Sets a rhythm as the owner; hourly for the tenant's agent unless `definition` says otherwise. Returns its id. */
export async function setRhythm(
  shop: Shop,
  tenant: Tenant,
  definition: Definition = {},
): Promise<number> {
  counter += 1
  const name = `rhythm-${counter}`
  const full = { schedule: '0 * * * *', act: { agent: tenant.agent }, ...definition }
  const [row] = await shop.asUser(
    tenant.owner,
    (sql) => sql`select nightshift.set_rhythm(${tenant.project}, ${name}, ${sql.json(full)}) as id`,
  )
  return row?.id
}

/** Turns the clock, then sweeps and gathers as a host without pg_cron does. Returns the slots dealt with. */
export async function fireAt(shop: Shop, time: string): Promise<number> {
  shop.setClock(new Date(time))
  const done = await sweep(shop)
  await gatherRuns(shop)
  return Number(done.rhythms)
}

export async function gatherRuns(shop: Shop): Promise<number> {
  const [row] = await shop.asService((sql) => sql`select nightshift.gather_runs() as count`)
  return row?.count
}

/** All runs of a rhythm in the order of their slots. */
export async function runsOf(shop: Shop, id: number): Promise<Run[]> {
  return await shop.owner<
    Run[]
  >`select * from nightshift.rhythm_runs where rhythm_id = ${id} order by slot`
}

/** `HH:MM outcome` of all runs. */
export async function outcomesOf(shop: Shop, id: number): Promise<string[]> {
  const runs = await runsOf(shop, id)
  return runs.map((run) => `${run.slot.toISOString().slice(11, 16)} ${run.outcome}`)
}

export async function rhythmOf(shop: Shop, id: number): Promise<Record<string, unknown>> {
  const [row] = await shop.owner`select * from nightshift.rhythms where id = ${id}`
  return row ?? {}
}

/** Ends the tasks of a rhythm's runs, as if workers had. */
export async function finishTasks(shop: Shop, tenant: Tenant): Promise<void> {
  await shop.asService(async (sql) => {
    const leases =
      await sql`select task_id, fence from nightshift.claim('worker', ${[tenant.queue]}, 100)`
    const results = leases.map(({ task_id, fence }) => ({ task_id, fence, output: {} }))
    await sql`select nightshift.complete(${sql.json(results)})`
  })
}
