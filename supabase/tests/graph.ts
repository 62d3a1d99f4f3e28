import type { Json, Shop } from './actors.ts'
import { claim, complete, enqueue, fail, type Lease, type Tenant } from './tenant.ts'

/** A task of a graph as tests look at it. */
export interface Node {
  id: number
  key: string | null
  status: string
  input: Json
  output: Json
  template: boolean
  index: number | null
  failure_class: string | null
  error: { message?: string; placeholder?: string; dependency?: number } | null
}

/** One enqueued graph whose tasks are worked off by key. */
export interface Graph {
  ids: Map<string, number>
  /** Claims whatever waits and completes this task. */
  complete(key: string, output: Json): Promise<void>
  /** Claims whatever waits and fails this task for good. */
  lose(key: string): Promise<void>
  read(key: string): Promise<Node>
  /** Status per key, in the order of the call. */
  statuses(): Promise<Record<string, string>>
}

/** Enqueues these tasks; elements without a key get `#<place>`, so that tests can name them. */
export async function openGraph(
  shop: Shop,
  tenant: Tenant,
  tasks: Record<string, Json>[],
): Promise<Graph> {
  const named = tasks.map((task, place) => ({ key: `#${place}`, ...task }))
  const rows = await enqueue(shop, tenant, named)
  const ids = new Map(rows.map((row) => [String(row.key), row.id]))
  const held = new Map<number, Lease>()
  const idOf = (key: string): number => {
    const id = ids.get(key)
    if (id === undefined) throw new Error(`no task "${key}"`)
    return id
  }
  const leaseOf = async (key: string): Promise<Lease> => {
    for (const lease of await claim(shop, tenant, { tasks: 1000 })) held.set(lease.task_id, lease)
    const lease = held.get(idOf(key))
    if (!lease) throw new Error(`task "${key}" cannot be claimed`)
    return lease
  }
  const read = async (list: number[]): Promise<Node[]> =>
    await shop.owner<
      Node[]
    >`select * from nightshift.tasks where id = any (${list}) order by array_position(${list}, id)`
  return {
    ids,
    complete: async (key, output) => {
      const [outcome] = await complete(shop, [await leaseOf(key)], output)
      if (outcome !== 'completed') throw new Error(`task "${key}" is ${outcome}`)
    },
    lose: async (key) => {
      await fail(shop, await leaseOf(key), 'permission', { message: 'no' })
    },
    read: async (key) => {
      const [node] = await read([idOf(key)])
      if (!node) throw new Error(`no task "${key}"`)
      return node
    },
    statuses: async () => {
      const nodes = await read([...ids.values()])
      return Object.fromEntries(nodes.map((node) => [String(node.key), node.status]))
    },
  }
}
