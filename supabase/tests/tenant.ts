import type { Json, Shop } from './actors.ts'

/** A project with one owner and one agent whose tasks wait in a queue of their own. */
export interface Tenant {
  project: string
  owner: string
  agent: string
  queue: string
}

/** What a worker holds. */
export interface Lease {
  task_id: number
  fence: number
  attempt: number
}

/** What enqueue answers per task. */
export interface Accepted {
  id: number
  key: string | null
  status: string
  created: boolean
}

/** A row of nightshift.tasks as far as tests look at it. */
export interface TaskRow {
  id: number
  status: string
  attempt: number
  rescues: number
  fence: number | null
  run_at: Date
  lease_until: Date | null
  failure_class: string | null
  error: { message?: string; [field: string]: Json | undefined } | null
  output: Json
  step_count: number
  spent_usd: string
  open_dependencies: number
  version: number
}

/** The outcome part of a commit. */
export type Outcome = { status: string; [field: string]: Json | undefined }

/** What a worker writes in one move; see nightshift.commit_tick. */
export interface Commit {
  after?: number
  steps?: Json[]
  calls?: Json[]
  outcome?: Outcome
}

let counter = 0

export async function createUser(shop: Shop): Promise<string> {
  const id = crypto.randomUUID()
  await shop.admin`insert into auth.users (id, email) values (${id}, ${`${id}@example.test`})`
  return id
}

/** Makes a project; `definition` extends the agent's definition, `tools` are set first. */
export async function createTenant(
  shop: Shop,
  options: { definition?: Record<string, Json>; tools?: Record<string, Json> } = {},
): Promise<Tenant> {
  counter += 1
  const owner = await createUser(shop)
  const tenant = { project: '', owner, agent: 'clerk', queue: `queue${counter}` }
  await shop.asUser(owner, async (sql) => {
    const [row] = await sql`select nightshift.create_project('Test') as id`
    tenant.project = row?.id
    for (const [name, tool] of Object.entries(options.tools ?? {})) {
      await sql`select nightshift.set_tool(${tenant.project}, ${name}, ${sql.json(tool)})`
    }
    const definition = { instructions: 'Work.', queue: tenant.queue, ...options.definition }
    await sql`select nightshift.set_agent(${tenant.project}, 'clerk', ${sql.json(definition)})`
  })
  return tenant
}

export async function addMember(shop: Shop, tenant: Tenant, role: string): Promise<string> {
  const user = await createUser(shop)
  await shop.asUser(
    tenant.owner,
    (sql) => sql`select nightshift.set_member(${tenant.project}, ${user}, ${role})`,
  )
  return user
}

/** Enqueues as the owner; `project`, `agent` and `input` are filled in. `agent: null` leaves it out. */
export function enqueue(
  shop: Shop,
  tenant: Tenant,
  tasks: Record<string, Json>[],
): Promise<Accepted[]> {
  const full = tasks.map(({ agent = tenant.agent, ...task }) => ({
    project: tenant.project,
    input: {},
    ...task,
    ...(agent === null ? {} : { agent }),
  }))
  return shop.asUser(
    tenant.owner,
    (sql) => sql<Accepted[]>`select * from nightshift.enqueue(${sql.json(full)})`,
  )
}

/** Enqueues one task and returns its id. */
export async function enqueueOne(
  shop: Shop,
  tenant: Tenant,
  task: Record<string, Json> = {},
): Promise<number> {
  const [accepted] = await enqueue(shop, tenant, [task])
  return accepted?.id ?? 0
}

export function claim(
  shop: Shop,
  tenant: Tenant,
  options: { tasks?: number; worker?: string; leaseSeconds?: number } = {},
): Promise<Lease[]> {
  const { tasks = 1, worker = 'worker', leaseSeconds = 90 } = options
  return shop.asService(
    (sql) =>
      sql<
        Lease[]
      >`select * from nightshift.claim(${worker}, ${[tenant.queue]}, ${tasks}, ${leaseSeconds})`,
  )
}

/** Claims the one task that must be there. */
export async function claimOne(shop: Shop, tenant: Tenant): Promise<Lease> {
  const [lease] = await claim(shop, tenant)
  if (!lease) throw new Error('nothing to claim')
  return lease
}

/** Enqueues a task and claims it. */
export async function startOne(
  shop: Shop,
  tenant: Tenant,
  task: Record<string, Json> = {},
): Promise<Lease> {
  await enqueue(shop, tenant, [task])
  return claimOne(shop, tenant)
}

export interface TickAnswer {
  status: string
  step_count: number
  spent_usd: number
  repeated: boolean
}

export async function commit(shop: Shop, lease: Lease, move: Commit): Promise<TickAnswer> {
  const { after = 0, steps = [], calls = [], outcome = { status: 'running' } } = move
  const [row] = await shop.asService(
    (sql) => sql<{ answer: TickAnswer }[]>`
      select nightshift.commit_tick(${lease.task_id}, ${lease.fence}, ${after},
        ${sql.json(steps)}, ${sql.json(calls)}, ${sql.json(outcome)}) as answer`,
  )
  if (!row) throw new Error('commit_tick answered nothing')
  return row.answer
}

/** Completes held tasks; returns the outcomes in order of id. */
export async function complete(shop: Shop, leases: Lease[], output: Json = {}): Promise<string[]> {
  const results = leases.map(({ task_id, fence }) => ({ task_id, fence, output }))
  const rows = await shop.asService(
    (sql) => sql`select outcome from nightshift.complete(${sql.json(results)})`,
  )
  return rows.map((row) => row.outcome)
}

export async function fail(
  shop: Shop,
  lease: Lease,
  failureClass: string,
  error: Json = {},
): Promise<string> {
  const [row] = await shop.asService(
    (sql) => sql`
      select nightshift.fail(${lease.task_id}, ${lease.fence}, ${failureClass}, ${sql.json(error)}) as status`,
  )
  return row?.status
}

export async function cancel(shop: Shop, tenant: Tenant, id: number): Promise<string> {
  const [row] = await shop.asUser(
    tenant.owner,
    (sql) => sql`select nightshift.cancel(${id}, 'changed my mind') as status`,
  )
  return row?.status
}

export async function retry(shop: Shop, tenant: Tenant, id: number): Promise<string> {
  const [row] = await shop.asUser(
    tenant.owner,
    (sql) => sql`select nightshift.retry(${id}) as status`,
  )
  return row?.status
}

/** Runs the sweep as pg_cron would and returns what it did. */
export async function sweep(shop: Shop): Promise<Record<string, number | boolean>> {
  const [row] = await shop.asService((sql) => sql`select nightshift.sweep() as done`)
  return row?.done
}

export async function taskOf(shop: Shop, id: number): Promise<TaskRow> {
  const [row] = await shop.owner<TaskRow[]>`select * from nightshift.tasks where id = ${id}`
  if (!row) throw new Error(`no task ${id}`)
  return row
}

/** Statuses in the order of the ids. */
export async function statusesOf(shop: Shop, ids: number[]): Promise<string[]> {
  const rows = await shop.owner<
    { id: number; status: string }[]
  >`select id, status from nightshift.tasks where id = any (${ids})`
  return ids.map((id) => rows.find((row) => row.id === id)?.status ?? 'missing')
}

/** A model call for `commit`, for the step at `step` (from 1) of the same commit. */
export function modelCall(step: number, over: Record<string, Json> = {}): Json {
  return {
    step,
    model: 'practice-mid',
    provider: 'practice',
    region: 'local',
    processor: 'practice',
    prompt: { messages: ['hello'] },
    output: { text: 'hi' },
    latency_ms: 12,
    input_tokens: 10,
    output_tokens: 2,
    cost_usd: 0.001,
    started_at: '2026-11-21T00:00:00Z',
    ...over,
  }
}

/** The model_call step that belongs to `modelCall`. */
export const modelStep: Json = {
  kind: 'model_call',
  action: 'practice-mid',
  output: { text: 'hi' },
  duration_ms: 12,
}
