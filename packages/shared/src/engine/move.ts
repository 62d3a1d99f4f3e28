import type { FailureClass, NewCall, NewStep, Outcome } from '../rpc.ts'
import type { Session } from './session.ts'

/**
 * One move and what follows from it for free, committed in one call. `steps` and `calls` are what is
 * about to be written, `session` already contains them, `outcome` says where the task goes.
 */
export interface Move {
  session: Session
  steps: NewStep[]
  calls: NewCall[]
  outcome: Outcome
}

/** The move with one more step, in what is to be written and in the session it leads to. */
export function withStep(move: Move, step: NewStep): Move {
  const recorded = {
    seq: move.session.steps.length + 1,
    kind: step.kind,
    action: step.action,
    input: step.input ?? {},
    output: step.output ?? null,
    error: step.error ?? null,
  }
  return {
    ...move,
    session: { ...move.session, steps: [...move.session.steps, recorded] },
    steps: [...move.steps, step],
  }
}

/** The move ended as failed; the class decides what happens next. */
export function failed(
  move: Move,
  failureClass: FailureClass,
  error: Record<string, unknown>,
): Move {
  return { ...move, outcome: { status: 'failed', failure_class: failureClass, error } }
}
