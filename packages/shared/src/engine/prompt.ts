import { z } from 'zod'
import { dataRule, renderData } from '../guard/render.ts'
import type { ModelMessage } from '../models/types.ts'
import { answerSchema, type Session, type Step, type TaskResult } from './session.ts'

const callInput = z.object({ call_id: z.string(), name: z.string() })

/** System prompt and messages of the next model call, derived from the session alone. */
export async function buildPrompt(
  session: Session,
): Promise<{ system: string; messages: ModelMessage[] }> {
  const boundary = await boundaryOf(session)
  return {
    system: `${session.agent.instructions.trim()}\n\n${dataRule(boundary)}`,
    messages: [
      { role: 'user', content: openingMessage(session, boundary) },
      ...session.steps.flatMap((step) => stepMessages(step)),
    ],
  }
}

/**
 * Stable over the life of a task, so that the provider's prompt cache stays warm, and unknown to
 * whoever wrote the input: it hangs on ids and times that were drawn after the text was written.
 */
async function boundaryOf({ task }: Session): Promise<string> {
  const seed = new TextEncoder().encode(`${task.project_id}:${task.id}:${task.created_at}`)
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', seed))
  return Array.from(digest.slice(0, 6), (byte) => byte.toString(16).padStart(2, '0')).join('')
}

function openingMessage(session: Session, boundary: string): string {
  return [
    renderData('input', session.task.input, boundary),
    ...session.dependencies.map((result) =>
      renderData(`result of ${result.agent}`, result.output, boundary),
    ),
    ...(session.children.length
      ? [renderData('results', session.children.map(brief), boundary)]
      : []),
  ].join('\n\n')
}

function brief({ id, agent, status, labels, output, failure_class }: TaskResult): object {
  return { id, agent, status, labels, output, ...(failure_class ? { failure_class } : {}) }
}

function stepMessages(step: Step): ModelMessage[] {
  if (step.kind === 'model_call') {
    const answer = answerSchema.parse(step.output)
    return [
      {
        role: 'assistant',
        content: answer.text,
        toolCalls: answer.toolCalls.map((call) => ({ ...call, arguments: call.arguments })),
      },
    ]
  }
  if (step.kind === 'tool_call') {
    const { call_id: callId, name } = callInput.parse(step.input)
    const isError = step.error !== null && step.error !== undefined
    return [
      {
        role: 'tool',
        callId,
        name,
        isError,
        content: JSON.stringify(isError ? step.error : step.output),
      },
    ]
  }
  if (step.kind === 'error' && step.action === 'repair') {
    const { message } = z.object({ message: z.string() }).parse(step.error)
    return [
      { role: 'user', content: `Your answer cannot be used: ${message}. Answer again, correctly.` },
    ]
  }
  return []
}
