import { z } from 'zod'

const json = z.unknown()

/** One recorded action, as `load_session` returns it. */
export const stepSchema = z.object({
  seq: z.number(),
  kind: z.enum(['model_call', 'tool_call', 'ask', 'decision', 'checkpoint', 'error']),
  action: z.string(),
  input: json,
  output: json,
  error: json,
})

const toolSchema = z.object({
  name: z.string(),
  description: z.string(),
  input_schema: z.record(z.string(), z.unknown()),
  kind: z.literal('record'),
  risk: z.enum(['low', 'medium', 'high', 'critical']),
  approval: z.enum(['run', 'ask']),
  reversible: z.enum(['yes', 'partly', 'no']),
})

const modelSchema = z.object({
  name: z.string(),
  provider: z.string(),
  provider_model: z.string(),
  protocol: z.enum(['anthropic', 'openai']),
  region: z.string(),
  processor: z.string(),
  context_tokens: z.number(),
  input_usd: z.coerce.number(),
  output_usd: z.coerce.number(),
  cache_read_usd: z.coerce.number(),
  cache_write_usd: z.coerce.number(),
})

/** What another task came to: a dependency or a child. */
const resultSchema = z.object({
  id: z.number(),
  agent: z.string(),
  status: z.string(),
  labels: z.array(z.string()),
  input: json,
  output: json,
  failure_class: z.string().nullable(),
})

/** Everything the next move of a task depends on (`nightshift.load_session`). */
export const sessionSchema = z.object({
  task: z.object({
    id: z.number(),
    project_id: z.string(),
    agent: z.string(),
    input: json,
    attempt: z.number(),
    step_count: z.number(),
    budget_usd: z.coerce.number().nullable(),
    spent_usd: z.coerce.number(),
    created_at: z.string(),
    combinator: z.string().nullable(),
  }),
  agent: z.object({
    name: z.string(),
    version: z.number(),
    instructions: z.string(),
    tier: z.string(),
    output_schema: z.record(z.string(), z.unknown()).nullable(),
    max_steps: z.number(),
    max_output_tokens: z.number(),
  }),
  tools: z.array(toolSchema),
  steps: z.array(stepSchema),
  dependencies: z.array(resultSchema),
  children: z.array(resultSchema),
  models: z.array(modelSchema),
})

export type Session = z.infer<typeof sessionSchema>
export type Step = z.infer<typeof stepSchema>
export type Tool = z.infer<typeof toolSchema>
export type Model = z.infer<typeof modelSchema>
export type TaskResult = z.infer<typeof resultSchema>

/** A tool call as a model_call step keeps it; `arguments` is undefined when the JSON was malformed. */
export const toolCallSchema = z.object({
  id: z.string(),
  name: z.string(),
  arguments: z.unknown().optional(),
  rawArguments: z.string(),
})

/** Output of a model_call step. */
export const answerSchema = z.object({
  text: z.string(),
  toolCalls: z.array(toolCallSchema),
  stop: z.enum(['end', 'tool_calls', 'max_tokens', 'refusal', 'pause']),
  refusal: z.string().optional(),
})

/** Output of a decision step: what a person said to a card. */
export const decisionSchema = z.object({
  verb: z.enum(['approve', 'edit', 'reject', 'respond']),
  note: z.string().nullable(),
  args: z.unknown(),
})
