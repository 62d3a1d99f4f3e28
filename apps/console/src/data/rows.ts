/** Rows of schema `nightshift` as far as the console reads them; times are ISO 8601, money is US dollars. */

export type Status =
  | 'blocked'
  | 'scheduled'
  | 'pending'
  | 'running'
  | 'awaiting_tool'
  | 'awaiting_approval'
  | 'awaiting_children'
  | 'completed'
  | 'failed'
  | 'cancelled'

export type Risk = 'low' | 'medium' | 'high' | 'critical'

export interface Card {
  id: number
  project_id: string
  task_id: number
  kind: string
  title: string
  consequence: string
  action: { tool?: string; args?: unknown }
  digest: string
  risk: Risk
  reversible: 'yes' | 'partly' | 'no'
  evidence: unknown[]
  allowed: string[]
  deadline_at: string | null
  on_expiry: string
  status: 'open' | 'decided' | 'expired' | 'superseded'
  verb: string | null
  note: string | null
  decided_by: string | null
  decided_at: string | null
  created_at: string
}

/** A task as the list shows it. */
export interface TaskRow {
  id: number
  project_id: string
  agent: string
  status: Status
  lane: number
  created_at: string
  finished_at: string | null
  spent_usd: number
  failure_class: string | null
}

export interface Task extends TaskRow {
  agent_version: number
  parent_id: number | null
  attempt: number
  max_attempts: number
  input: unknown
  output: unknown
  error: unknown
  started_at: string | null
  cards: { id: number; status: Card['status'] }[]
}

export interface Step {
  seq: number
  kind: string
  action: string
  input: unknown
  output: unknown
  error: unknown
  duration_ms: number | null
  created_at: string
}

/** A model call without its texts, which are read only when someone opens them. */
export interface ModelCall {
  id: number
  step_seq: number
  model: string
  provider: string
  latency_ms: number
  input_tokens: number
  output_tokens: number
  cache_read_tokens: number
  cache_write_tokens: number
  cost_usd: number
  created_at: string
}

export interface ModelCallTexts {
  prompt: unknown
  output: unknown
  error: unknown
}

export interface TreeRow {
  id: number
  parent_id: number | null
  depth: number
  agent: string
  status: Status
  failure_class: string | null
  spent_usd: number
}

export interface AuditEvent {
  id: number
  project_id: string
  at: string
  actor_kind: 'person' | 'worker' | 'system'
  actor: string | null
  action: string
  object_type: string
  object_id: string
  task_id: number | null
  meta: unknown
}

export interface Project {
  id: string
  name: string
  /** The person's role in it. */
  role: string
}

export interface Agent {
  project_id: string
  name: string
  description: string
  input_schema: unknown
}
