import type { Commit, Database, Lease, NewCall, NewStep, Outcome } from '../rpc.ts'
import { type CallContext, callModel } from './call_model.ts'
import { clean } from './clean.ts'
import { failed, type Move, withStep } from './move.ts'
import { type Action, next } from './next.ts'
import { type Session, sessionSchema, type Tool } from './session.ts'

/** What a tick may touch; everything with an effect is handed in. */
export interface TickContext extends CallContext {
  database: Database
  leaseSeconds: number
}

/**
 * Drives a held task until it is decided or `mayGoOn` says no; then it is given back at a checkpoint.
 * Each model call is committed before the next begins, so a crash repeats at most the one in flight.
 * Resolves to the last state written. Throws `NightshiftError` NS030 when the task was taken over.
 */
export async function runTask(
  lease: Lease,
  context: TickContext,
  mayGoOn: () => boolean,
): Promise<string> {
  let session = sessionSchema.parse(await context.database.loadSession(lease))
  for (;;) {
    const afterStep = session.steps.length
    const move = await decide(session, context)
    const outcome: Outcome =
      move.outcome.status === 'running' && !mayGoOn() ? { status: 'pending' } : move.outcome
    const answer = await context.database.commitTick(
      toCommit({
        lease,
        afterStep,
        steps: move.steps,
        calls: move.calls,
        outcome,
        leaseSeconds: context.leaseSeconds,
      }),
    )
    if (answer.status !== 'running') return answer.status
    session = { ...move.session, task: { ...move.session.task, spent_usd: answer.spentUsd } }
  }
}

function toCommit(commit: Commit): Commit {
  return {
    ...commit,
    steps: clean(commit.steps) as NewStep[],
    calls: clean(commit.calls) as NewCall[],
    outcome: clean(commit.outcome) as Outcome,
  }
}

/** At most one model call, then every move that needs no effect. */
async function decide(session: Session, context: TickContext): Promise<Move> {
  let move: Move = { session, steps: [], calls: [], outcome: { status: 'running' } }
  let action = next(session)
  if (action.kind === 'call_model') {
    move = await callModel(move, context)
    if (move.outcome.status !== 'running') return move
    action = next(move.session)
  }
  while (action.kind !== 'call_model' && move.outcome.status === 'running') {
    move = settle(move, action)
    if (move.outcome.status === 'running') action = next(move.session)
  }
  return move
}

/** Moves without outside effects. */
function settle(move: Move, action: Exclude<Action, { kind: 'call_model' }>): Move {
  switch (action.kind) {
    case 'run_tool':
      return withStep(move, toolStep(action.call, { output: { recorded: action.args } }))
    case 'answer_tool':
      return withStep(move, toolStep(action.call, { output: action.output }))
    case 'refuse_tool':
      return withStep(move, toolStep(action.call, { error: { message: action.reason } }))
    case 'repair':
      return withStep(move, { kind: 'error', action: 'repair', error: { message: action.reason } })
    case 'ask':
      return ask(move, action)
    case 'finish':
      return { ...move, outcome: { status: 'completed', output: action.output } }
    case 'fail':
      return failed(move, action.failureClass, { message: action.message })
  }
}

function toolStep(
  call: { id: string; name: string; rawArguments: string },
  result: { output: unknown } | { error: unknown },
): NewStep {
  return {
    kind: 'tool_call',
    action: call.name,
    input: { call_id: call.id, name: call.name, arguments: call.rawArguments },
    ...result,
  }
}

function ask(move: Move, { call, tool, args }: Extract<Action, { kind: 'ask' }>): Move {
  const asked = withStep(move, {
    kind: 'ask',
    action: tool.name,
    input: { call_id: call.id, name: tool.name, args },
  })
  return {
    ...asked,
    outcome: {
      status: 'awaiting_approval',
      card: {
        title: `${tool.name.replaceAll('_', ' ')}: ${summary(tool, args)}`.slice(0, 200),
        consequence: firstSentence(tool.description),
        action: { tool: tool.name, call_id: call.id, args },
        risk: tool.risk,
        reversible: tool.reversible,
        evidence: [{ task: move.session.task.id, agent: move.session.agent.name }],
      },
    },
  }
}

/** Three arguments on one line, in the order in which the tool requires them: jsonb forgets any other. */
function summary({ input_schema: { required } }: Tool, args: unknown): string {
  if (typeof args !== 'object' || args === null) return String(args)
  const first: unknown[] = Array.isArray(required) ? required : []
  return [...new Set([...first.map(String), ...Object.keys(args)])]
    .map((name): unknown => Reflect.get(args, name))
    .filter((value) => ['string', 'number'].includes(typeof value))
    .map((value) => String(value).replace(/\s+/g, ' ').slice(0, 60))
    .slice(0, 3)
    .join(' · ')
}

/** Tool descriptions are written for models; people get their first sentence. */
function firstSentence(text: string): string {
  return (/^.*?[.!?](?=\s|$)/s.exec(text)?.[0] ?? text).slice(0, 500)
}
