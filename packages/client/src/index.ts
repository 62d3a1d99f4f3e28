import type { SupabaseClient } from '@supabase/supabase-js'
import { payloadProblem, requestProblem } from './payload.ts'
import { type Change, watchProject, watchTask } from './watch.ts'

export type { Change } from './watch.ts'

/** A task to hand in; see the contract of `nightshift.enqueue`. */
export interface NewTask {
  project: string
  /** Left out, the task is a group that completes with the results of its children; needs `combinator`. */
  agent?: string
  /** May hold placeholders such as `{{prev_result.title}}`; see `template`. */
  input?: unknown
  /**
   * Whether `input` is a template. Default: true with `after`, `parent` or `combinator`, else false. Say
   * false where the input is text from outside.
   */
  template?: boolean
  /** Name for references from later elements of the same call. */
  key?: string
  /** 0 (urgent) to 5 (background); default 2. */
  lane?: number
  queue?: string
  /** ISO 8601; not before. */
  run_at?: string
  /** Keys of earlier elements or ids of tasks that must complete first. */
  after?: (string | number | Dependency)[]
  parent?: string | number
  /** What `{{index}}` says; default: the position among the elements with the same parent. */
  index?: number
  /** When the children of this task are enough; the others are cancelled. */
  combinator?: 'all' | 'race' | 'any' | 'all_settled'
  /** With `any` and `all_settled`: so many completed children are enough. */
  quorum?: number
  /** The same key with the same content returns the same task; with other content NS024. */
  idempotency_key?: string
  subject?: string
  purpose?: string
  budget_usd?: number
  deadline_at?: string
  labels?: string[]
}

/** A task to wait for, and what becomes of the one that waits when it fails or is cancelled. */
export interface Dependency {
  task: string | number
  /** `fail` (default) with it, `skip`: be cancelled, `continue` with null as its result. */
  on_failure?: 'fail' | 'skip' | 'continue'
}

export interface EnqueuedTask {
  id: number
  key: string | null
  status: string
  created: boolean
}

/** What a person says to a card. `digest` is the one the card showed. */
export interface Decision {
  card: number
  verb: 'approve' | 'edit' | 'reject' | 'respond'
  digest: string
  note?: string
  args?: unknown
  idempotencyKey?: string
}

export interface Verification {
  ok: boolean
  events: number
  calls: number
  seals: number
  unsealed: number
  head: string | null
  findings: { check: string; object: string; detail: string }[]
}

/**
 * A refused call: `code` is stable (docs/errors.md, or Postgres' and PostgREST's own), `hint` says
 * what to do. Code `connection` with status 0: nobody answered.
 */
export class ClientError extends Error {
  readonly code: string
  readonly status: number
  readonly hint: string | null

  constructor(fault: { code: string; message: string; hint: string | null; status: number }) {
    super(fault.message)
    this.name = 'ClientError'
    this.code = fault.code || (fault.status === 0 ? 'connection' : `HTTP${fault.status}`)
    this.status = fault.status
    this.hint = fault.hint || (fault.status === 0 ? 'Check the address and the network.' : null)
  }
}

export interface Nightshift {
  /** Hands in tasks, all or none. One element of the answer per task, in order. */
  enqueue(tasks: NewTask | NewTask[]): Promise<EnqueuedTask[]>
  /** Decides a card; the first decision wins (NS041 for everyone after). */
  decide(decision: Decision): Promise<{ card: number; task: number; verb: string }>
  cancel(task: number, reason?: string): Promise<string>
  retry(task: number): Promise<string>
  /** Checks the audit log of a project. */
  verify(project: string): Promise<Verification>
  /** Changes of a project's tasks, live by Realtime with polling behind it; ids only, refetch what you show. */
  watchProject(project: string, signal: AbortSignal): AsyncIterable<Change>
  /** Changes of one task until it ends. */
  watchTask(task: number, signal?: AbortSignal): AsyncIterable<Change>
}

/** Wraps a supabase-js client that is signed in as a member, or carries a secret key. */
export function nightshift(supabase: SupabaseClient): Nightshift {
  const call = async (name: string, args: Record<string, unknown>): Promise<unknown> => {
    const problem = requestProblem(args)
    if (problem) throw new ClientError(problem)
    const { data, error, status } = await supabase.schema('nightshift').rpc(name, args)
    if (error) {
      throw new ClientError({ code: error.code, message: error.message, hint: error.hint, status })
    }
    return data
  }
  return {
    enqueue: async (tasks) => {
      const list = Array.isArray(tasks) ? tasks : [tasks]
      for (const task of list) {
        const problem = payloadProblem(task?.input)
        if (problem) throw new ClientError(problem)
      }
      return (await call('enqueue', { tasks: list })) as EnqueuedTask[]
    },
    decide: async (decision) =>
      (await call('decide', {
        card_id: decision.card,
        verb: decision.verb,
        digest: decision.digest,
        note: decision.note ?? null,
        args: decision.args ?? null,
        idempotency_key: decision.idempotencyKey ?? null,
      })) as { card: number; task: number; verb: string },
    cancel: async (task, reason = '') => String(await call('cancel', { task_id: task, reason })),
    retry: async (task) => String(await call('retry', { task_id: task })),
    verify: async (project) => (await call('audit_verify', { project })) as Verification,
    watchProject: (project, signal) => watchProject(supabase, project, signal),
    watchTask: (task, signal) => watchTask(supabase, task, signal),
  }
}
