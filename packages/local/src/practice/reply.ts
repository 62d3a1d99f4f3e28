import { createHash } from 'node:crypto'
import { think } from './answer.ts'
import type { Reply } from './dialect.ts'
import type { Answer, AnsweredCall, Question, Stop } from './question.ts'
import type { Rule, ScriptedCall, ScriptedResponse } from './rules.ts'
import { type PromptCache, prescribedUsage, tokensOf, type Usage } from './usage.ts'

/**
 * The reply to a question: what the rule prescribes, and where it prescribes nothing, the practice model's own answer.
 * `spoilt` is true if the rule wants broken JSON and the answer holds none, so that the message itself must be broken.
 */
export function composeReply(
  question: Question,
  raw: string,
  { rule, cache }: { rule: Rule | undefined; cache: PromptCache },
): { reply: Reply; spoilt: boolean } {
  const { respond = {}, fault = {} } = rule ?? {}
  const composed = composeAnswer(question, raw, respond)
  const holdsJson =
    composed.calls.length > 0 || (question.outputSchema !== null && composed.text !== '')
  const answer = fault.malformed_json === true && holdsJson ? withBrokenJson(composed) : composed
  const counted = { ...cache.count(question), output: tokensOf(spoken(answer)), reasoning: 0 }
  const prescribed: Usage =
    respond.usage === undefined ? counted : prescribedUsage(respond.usage, counted)
  const usage = fault.no_usage === true ? null : prescribed
  return { reply: { question, answer, usage }, spoilt: fault.malformed_json === true && !holdsJson }
}

/** Ids come from the request alone, so that they differ between the turns of a conversation but not between runs. */
function composeAnswer(question: Question, raw: string, respond: ScriptedResponse): Answer {
  const id = createHash('sha256').update(raw).digest('hex').slice(0, 16)
  const { text, tool_calls, refusal, stop } = respond
  const isScripted = text !== undefined || tool_calls !== undefined || refusal !== undefined
  const said = isScripted ? { text: text ?? '', calls: tool_calls ?? [] } : think(question)
  const calls = said.calls.map((call, index) => numbered(call, `call_${id}_${index}`))
  return {
    id,
    text: said.text,
    calls,
    refusal: refusal ?? null,
    stop: stop ?? naturalStop(refusal, calls),
  }
}

function numbered(call: ScriptedCall, id: string): AnsweredCall {
  const written =
    typeof call.arguments === 'string' ? call.arguments : JSON.stringify(call.arguments)
  return { id: call.id ?? id, name: call.name, arguments: written }
}

function naturalStop(refusal: string | undefined, calls: readonly AnsweredCall[]): Stop {
  if (refusal !== undefined) return 'refusal'
  return calls.length > 0 ? 'tool_calls' : 'end'
}

/** The last character of the last piece of JSON is missing, as after a cut. */
function withBrokenJson(answer: Answer): Answer {
  const last = answer.calls.at(-1)
  if (last === undefined) return { ...answer, text: answer.text.slice(0, -1) }
  return {
    ...answer,
    calls: [...answer.calls.slice(0, -1), { ...last, arguments: last.arguments.slice(0, -1) }],
  }
}

function spoken({ text, refusal, calls }: Answer): string {
  return [text, refusal ?? '', ...calls.map((call) => `${call.name}${call.arguments}`)].join('')
}
