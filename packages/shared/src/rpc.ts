import { fromPostgrest, isTransient, type PostgrestFault } from './errors.ts'

/** The part of a supabase-js client that workers use; only this file knows SQL names. */
export interface RpcClient {
  schema(name: 'nightshift'): {
    rpc(
      name: string,
      args: Record<string, unknown>,
    ): PromiseLike<{ data: unknown; error: PostgrestFault | null; status: number }>
  }
}

/** A claimed task: every later write carries `taskId` and `fence`. */
export interface Lease {
  taskId: number
  fence: number
  agent: string
  attempt: number
}

/** One recorded action of a task (`nightshift.steps`). */
export interface NewStep {
  kind: 'model_call' | 'tool_call' | 'ask' | 'error'
  action: string
  input?: unknown
  output?: unknown
  error?: unknown
  duration_ms?: number
}

/** One model call for the audit log (`nightshift.llm_calls`); `step` counts from 1 within the commit. */
export interface NewCall {
  step: number
  model: string
  provider: string
  region: string
  processor: string
  prompt: unknown
  output?: unknown
  error?: unknown
  latency_ms: number
  input_tokens: number
  output_tokens: number
  cache_read_tokens: number
  cache_write_tokens: number
  usage_estimated: boolean
  cost_usd: number
  request_id: string | null
  started_at: string
}

/** Where the task goes after a commit; `running` keeps the lease. */
export type Outcome =
  | { status: 'running' }
  | { status: 'pending' }
  | { status: 'awaiting_approval'; card: NewCard }
  | { status: 'completed'; output: unknown }
  | { status: 'failed'; failure_class: FailureClass; error: Record<string, unknown> }

/** See `nightshift.failure_policies`: the class, not the message, decides what happens next. */
export type FailureClass =
  | 'context_loss'
  | 'rate_limit'
  | 'optimistic_completion'
  | 'stuck'
  | 'malformed_output'
  | 'dependency'
  | 'external'
  | 'permission'
  | 'budget'
  | 'expired'
  | 'internal'

/** A decision asked of a person (`nightshift.cards`). */
export interface NewCard {
  title: string
  consequence: string
  action: { tool: string; call_id: string; args: unknown }
  risk: 'low' | 'medium' | 'high' | 'critical'
  reversible: 'yes' | 'partly' | 'no'
  evidence: unknown[]
}

export interface Commit {
  lease: Lease
  /** Steps the worker had seen; another number in the database refuses the commit. */
  afterStep: number
  steps: NewStep[]
  calls: NewCall[]
  outcome: Outcome
  leaseSeconds: number
}

/** The calls a worker makes. Errors are `NightshiftError`; passing ones were already retried. */
export interface Database {
  claim(options: {
    worker: string
    queues: string[]
    tasks: number
    leaseSeconds: number
  }): Promise<Lease[]>
  loadSession(lease: Lease): Promise<unknown>
  commitTick(commit: Commit): Promise<{ status: string; spentUsd: number; repeated: boolean }>
  /** Returns the leases that are still held. */
  heartbeat(leases: Lease[], leaseSeconds: number): Promise<Lease[]>
  release(lease: Lease): Promise<void>
  fail(lease: Lease, failureClass: FailureClass, error: Record<string, unknown>): Promise<void>
  sweep(): Promise<void>
}

const retryDelaysMs = [50, 200, 800, 2000]

/** Opens the worker calls over a supabase-js client that carries a secret key. */
export function openDatabase(client: RpcClient): Database {
  const call = (name: string, args: Record<string, unknown>): Promise<unknown> =>
    withRetries(async () => {
      const { data, error, status } = await client.schema('nightshift').rpc(name, args)
      if (error) throw fromPostgrest(error, status)
      return data
    })
  return {
    claim: async ({ worker, queues, tasks, leaseSeconds }) =>
      rows(
        await call('claim', { worker, queues, max_tasks: tasks, lease_seconds: leaseSeconds }),
      ).map((row) => ({
        taskId: Number(row.task_id),
        fence: Number(row.fence),
        agent: String(row.agent),
        attempt: Number(row.attempt),
      })),
    loadSession: (lease) => call('load_session', { task_id: lease.taskId, fence: lease.fence }),
    commitTick: async (commit) => {
      const [answer = {}] = rows([
        await call('commit_tick', {
          task_id: commit.lease.taskId,
          fence: commit.lease.fence,
          after_step: commit.afterStep,
          steps: commit.steps,
          calls: commit.calls,
          outcome: commit.outcome,
          lease_seconds: commit.leaseSeconds,
        }),
      ])
      return {
        status: String(answer.status),
        spentUsd: Number(answer.spent_usd),
        repeated: answer.repeated === true,
      }
    },
    heartbeat: async (leases, leaseSeconds) => {
      const held = rows(
        await call('heartbeat', {
          leases: leases.map(({ taskId, fence }) => ({ task_id: taskId, fence })),
          lease_seconds: leaseSeconds,
        }),
      )
      return leases.filter((lease) => held.some((row) => Number(row.fence) === lease.fence))
    },
    release: async (lease) => {
      await call('release', { task_id: lease.taskId, fence: lease.fence })
    },
    fail: async ({ taskId, fence }, failureClass, error) => {
      await call('fail', { task_id: taskId, fence, failure_class: failureClass, error })
    },
    sweep: async () => {
      await call('sweep', {})
    },
  }
}

async function withRetries<T>(attempt: () => Promise<T>): Promise<T> {
  for (const delay of retryDelaysMs) {
    try {
      return await attempt()
    } catch (error) {
      if (!isTransient(error)) throw error
      await new Promise((settle) => setTimeout(settle, delay * (0.5 + Math.random())))
    }
  }
  return attempt()
}

function rows(data: unknown): Record<string, unknown>[] {
  return Array.isArray(data) ? data.filter((row) => typeof row === 'object' && row !== null) : []
}
