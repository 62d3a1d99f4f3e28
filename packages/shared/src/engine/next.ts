import { z } from 'zod'
import type { FailureClass } from '../rpc.ts'
import {
  answerSchema,
  decisionSchema,
  type Session,
  type Step,
  type Tool,
  type toolCallSchema,
} from './session.ts'

type ToolCall = z.infer<typeof toolCallSchema>
type Answer = z.infer<typeof answerSchema>

/** One move of an agent. */
export type Action =
  | { kind: 'call_model' }
  | { kind: 'run_tool'; call: ToolCall; tool: Tool; args: unknown }
  | { kind: 'answer_tool'; call: ToolCall; output: unknown }
  | { kind: 'refuse_tool'; call: ToolCall; reason: string }
  | { kind: 'ask'; call: ToolCall; tool: Tool; args: unknown }
  | { kind: 'repair'; reason: string }
  | { kind: 'finish'; output: unknown }
  | { kind: 'fail'; failureClass: FailureClass; message: string }

/** More calls than this in one answer are refused: nobody reviews 500 parallel calls. */
const maxParallelCalls = 16

/**
 * Decides the next move from the recorded history alone: no effects, no clock, no randomness, so that
 * a crash at any point leads to the same move again.
 */
export function next(session: Session): Action {
  const answerStep = session.steps.findLast((step) => step.kind === 'model_call')
  if (!answerStep)
    return session.steps.length < session.agent.max_steps
      ? { kind: 'call_model' }
      : outOfSteps(session)
  const answer = answerSchema.parse(answerStep.output)
  const since = session.steps.filter((step) => step.seq > answerStep.seq)
  const open = answer.toolCalls.find((call) => !since.some((step) => resolves(step, call)))
  if (open) return settleCall(session, { answer, call: open, since })
  if (answer.toolCalls.length > 0 || answer.stop === 'pause') return goOn(session)
  return conclude(session, answer, since)
}

function goOn(session: Session): Action {
  return session.steps.length < session.agent.max_steps
    ? { kind: 'call_model' }
    : outOfSteps(session)
}

function outOfSteps(session: Session): Action {
  return {
    kind: 'fail',
    failureClass: 'stuck',
    message: `no result after ${session.agent.max_steps} steps`,
  }
}

function resolves(step: Step, call: ToolCall): boolean {
  return step.kind === 'tool_call' && callId(step) === call.id
}

function callId(step: Step): unknown {
  return z.object({ call_id: z.string() }).safeParse(step.input).data?.call_id
}

/** The move that brings one open tool call forward. */
function settleCall(
  session: Session,
  situation: { answer: Answer; call: ToolCall; since: Step[] },
): Action {
  const { answer, call, since } = situation
  if (answer.toolCalls.indexOf(call) >= maxParallelCalls) {
    return { kind: 'refuse_tool', call, reason: `more than ${maxParallelCalls} calls at once` }
  }
  const tool = session.tools.find((candidate) => candidate.name === call.name)
  if (!tool) return { kind: 'refuse_tool', call, reason: `unknown tool "${call.name}"` }
  const decided = since.find((step) => step.kind === 'decision' && callId(step) === call.id)
  if (decided) return applyDecision(decided, call, tool)
  const problem = argumentProblem(tool, call)
  if (problem) return { kind: 'refuse_tool', call, reason: problem }
  if (tool.approval === 'ask') return { kind: 'ask', call, tool, args: call.arguments }
  return { kind: 'run_tool', call, tool, args: call.arguments }
}

function applyDecision(step: Step, call: ToolCall, tool: Tool): Action {
  const decision = decisionSchema.parse(step.output)
  switch (decision.verb) {
    case 'approve':
    case 'edit':
      return { kind: 'run_tool', call, tool, args: decision.args }
    case 'reject':
      return {
        kind: 'refuse_tool',
        call,
        reason: `a person rejected this${decision.note ? `: ${decision.note}` : ''}`,
      }
    case 'respond':
      return { kind: 'answer_tool', call, output: { answer: decision.note } }
  }
}

function argumentProblem(tool: Tool, call: ToolCall): string | null {
  if (call.arguments === undefined)
    return `arguments are not valid JSON: ${call.rawArguments.slice(0, 200)}`
  return violation(tool.input_schema, call.arguments)
}

/** Turns the model's last words into the task's output, or into one request for repair. */
function conclude(session: Session, answer: Answer, since: Step[]): Action {
  if (since.some((step) => step.kind === 'error')) return goOn(session)
  if (answer.stop === 'refusal') {
    return {
      kind: 'fail',
      failureClass: 'permission',
      message: `model refused: ${answer.refusal ?? answer.text}`,
    }
  }
  const output = readOutput(session, answer)
  if ('value' in output) return { kind: 'finish', output: output.value }
  const repairs = session.steps.filter((step) => step.kind === 'error' && step.action === 'repair')
  if (repairs.length > 0)
    return { kind: 'fail', failureClass: 'malformed_output', message: output.problem }
  return { kind: 'repair', reason: output.problem }
}

function readOutput(session: Session, answer: Answer): { value: unknown } | { problem: string } {
  if (answer.stop === 'max_tokens') return { problem: 'the answer was cut at the token limit' }
  if (!session.agent.output_schema) {
    return answer.text.trim()
      ? { value: { text: answer.text } }
      : { problem: 'the answer was empty' }
  }
  let value: unknown
  try {
    value = JSON.parse(answer.text)
  } catch {
    return { problem: 'the answer is not valid JSON' }
  }
  const problem = violation(session.agent.output_schema, value)
  return problem ? { problem } : { value }
}

/** The first way in which a value breaks a JSON Schema, in words a model can act on, or null. */
export function violation(schema: Record<string, unknown>, value: unknown): string | null {
  const result = z.fromJSONSchema(schema).safeParse(value)
  if (result.success) return null
  const [issue] = result.error.issues
  return `${issue?.path.length ? `"${issue.path.join('.')}": ` : ''}${issue?.message ?? 'invalid'}`
}
