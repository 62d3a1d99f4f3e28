import { nightshift, type Verification } from '@nightshift/client'
import type { SupabaseClient } from '@supabase/supabase-js'
import { must } from './run.ts'

/** What a run came to; every number is read from the database by the signed-in person. */
export interface Summary {
  ok: boolean
  mode: 'practice' | 'live'
  project: string
  root: number
  mails: number
  tasks: Record<string, number>
  categories: Record<string, number>
  drafts: number
  refunds: { order_number: string; amount_eur: number; decided: string }[]
  cards: Record<string, number>
  steps: number
  model_calls: number
  models: Record<string, number>
  tokens: { input: number; output: number }
  cost_usd: number
  seconds: number
  conclusion: string | null
  audit: Verification
}

type Row = Record<string, unknown>

/** Reads the summary of the run below `root`. */
export async function summarise(
  supabase: SupabaseClient,
  project: string,
  root: number,
): Promise<Summary> {
  const db = supabase.schema('nightshift')
  const tree: { id: number }[] = must(await db.rpc('task_tree', { task_id: root }))
  const ids = tree.map(({ id }) => id)
  const [tasks, steps, calls, cards] = await Promise.all([
    read(db.from('tasks').select('*').in('id', ids)),
    read(db.from('steps').select('*').in('task_id', ids)),
    read(
      db
        .from('llm_calls')
        .select('model,provider,input_tokens,output_tokens,cost_usd')
        .in('task_id', ids),
    ),
    read(db.from('cards').select('*').in('task_id', ids)),
  ])
  const audit = await nightshift(supabase).verify(project)
  const rootTask = tasks.find((task) => task.id === root)
  const children = tasks.filter((task) => task.id !== root)
  const finished = tasks.every((task) => task.status === 'completed')
  return {
    ok: finished && audit.ok,
    mode: calls.some((call) => call.provider === 'practice') ? 'practice' : 'live',
    project,
    root,
    mails: children.filter((task) => task.agent === 'mail-triage').length,
    tasks: countBy(tasks, (task) => task.status),
    categories: countBy(
      children.filter((task) => task.agent === 'mail-triage'),
      (task) => field(task.output, 'category'),
    ),
    drafts: steps.filter(
      (step) => step.kind === 'tool_call' && step.action === 'save_draft' && !step.error,
    ).length,
    refunds: cards.map(toRefund),
    cards: countBy(cards, (card) => card.verb ?? card.status),
    steps: steps.length,
    model_calls: calls.length,
    models: countBy(calls, (call) => call.model),
    tokens: { input: sum(calls, 'input_tokens'), output: sum(calls, 'output_tokens') },
    cost_usd: sum(calls, 'cost_usd'),
    seconds: secondsOf(rootTask),
    conclusion: rootTask?.output ? String(field(rootTask.output, 'text')) : null,
    audit,
  }
}

function toRefund(card: Row): Summary['refunds'][number] {
  const args = card.decided_args ?? field(card.action, 'args')
  return {
    order_number: String(field(args, 'order_number')),
    amount_eur: Number(field(args, 'amount_eur')),
    decided: String(card.verb ?? card.status),
  }
}

async function read(
  query: PromiseLike<{ data: Row[] | null; error: { message: string } | null }>,
): Promise<Row[]> {
  return must(await query)
}

function field(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined
}

function countBy(rows: Row[], key: (row: Row) => unknown): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const row of rows) counts[String(key(row))] = (counts[String(key(row))] ?? 0) + 1
  return counts
}

function sum(rows: Row[], name: string): number {
  return rows.reduce((total, row) => total + Number(row[name]), 0)
}

function secondsOf(task: Row | undefined): number {
  if (!task?.finished_at) return 0
  return (Date.parse(String(task.finished_at)) - Date.parse(String(task.created_at))) / 1000
}
