import type { ProviderAccess } from '../env.ts'
import { ModelError } from '../models/errors.ts'
import type { ModelRequest, ModelResponse, Provider, Usage } from '../models/types.ts'
import type { FailureClass, NewCall } from '../rpc.ts'
import { costUsd, worstCaseUsd } from './cost.ts'
import { failed, type Move, withStep } from './move.ts'
import { buildPrompt } from './prompt.ts'
import type { Model, Session } from './session.ts'

/** A model call with its limits, as `models/complete.ts` makes it. */
export type Complete = (
  provider: Provider,
  request: ModelRequest,
  limits: { signal: AbortSignal; firstByteMs: number; idleMs: number },
) => Promise<ModelResponse>

/** What a model call needs; everything with an effect is handed in. */
export interface CallContext {
  complete: Complete
  access: Record<string, ProviderAccess>
  firstByteMs: number
  idleMs: number
  /** Milliseconds since 1970. */
  now: () => number
  /** Aborts the model call when the lease is lost or the worker must go. */
  signal: AbortSignal
}

/** Asks the first callable model of the tier; the answer or the failure becomes a step and an audit row. */
export async function callModel(move: Move, context: CallContext): Promise<Move> {
  const { session } = move
  const route = routeOf(session, context.access)
  if (!route) {
    return failed(move, 'permission', {
      message: `no model of tier "${session.agent.tier}" can be called`,
      hint: 'Set a provider key such as ANTHROPIC_API_KEY, or start the local stack for practice models.',
    })
  }
  const { model, provider } = route
  const request = await toRequest(session, model)
  const promptBytes = new TextEncoder().encode(JSON.stringify(request)).length
  const most = worstCaseUsd(model, promptBytes, request.maxTokens)
  const { budget_usd: budget, spent_usd: spent } = session.task
  if (budget !== null && spent + most > budget) {
    return failed(move, 'budget', {
      message: `next call may cost $${most.toFixed(6)}, left are $${(budget - spent).toFixed(6)}`,
    })
  }
  const started = context.now()
  const audit = auditOf(model, request, started)
  try {
    const response = await context.complete(provider, request, {
      signal: context.signal,
      firstByteMs: context.firstByteMs,
      idleMs: context.idleMs,
    })
    return answered(move, {
      model,
      response,
      audit,
      latencyMs: Math.round(context.now() - started),
    })
  } catch (error) {
    // An interrupted call is nobody's failure: the task is given back and the call made again.
    if (!(error instanceof ModelError) || error.kind === 'aborted') throw error
    return refused(move, { model, error, audit, latencyMs: Math.round(context.now() - started) })
  }
}

/** The first model of the tier, in waterfall order, whose provider we can reach. */
function routeOf(
  { models }: Session,
  access: CallContext['access'],
): { model: Model; provider: Provider } | null {
  for (const model of models) {
    const { apiKey, baseUrls } = access[model.provider] ?? { apiKey: '', baseUrls: {} }
    const baseUrl = baseUrls[model.protocol]
    if (apiKey && baseUrl) return { model, provider: { protocol: model.protocol, baseUrl, apiKey } }
  }
  return null
}

async function toRequest(session: Session, model: Model): Promise<ModelRequest> {
  const { system, messages } = await buildPrompt(session)
  return {
    model: model.provider_model,
    system,
    messages,
    tools: session.tools.map((tool) => ({
      name: tool.name,
      description: tool.description,
      inputSchema: tool.input_schema,
    })),
    ...(session.agent.output_schema
      ? {
          outputSchema: {
            name: session.agent.name.replaceAll('-', '_'),
            schema: session.agent.output_schema,
          },
        }
      : {}),
    maxTokens: session.agent.max_output_tokens,
    cache: true,
  }
}

type CallAudit = Pick<
  NewCall,
  'step' | 'model' | 'provider' | 'region' | 'processor' | 'prompt' | 'started_at'
>

function auditOf(model: Model, request: ModelRequest, startedMs: number): CallAudit {
  return {
    step: 1,
    model: model.name,
    provider: model.provider,
    region: model.region,
    processor: model.processor,
    prompt: {
      system: request.system,
      messages: request.messages,
      tools: request.tools.map((tool) => tool.name),
    },
    started_at: new Date(startedMs).toISOString(),
  }
}

function answered(
  move: Move,
  call: { model: Model; response: ModelResponse; audit: CallAudit; latencyMs: number },
): Move {
  const { response, model, audit, latencyMs } = call
  const { text, toolCalls, stop, refusal } = response
  const output = { text, toolCalls, stop, ...(refusal ? { refusal } : {}) }
  const next = withStep(move, {
    kind: 'model_call',
    action: model.name,
    input: { tier: move.session.agent.tier, degradations: response.degradations },
    output,
    duration_ms: latencyMs,
  })
  const billed = bill(model, { usage: response.usage, estimated: response.usageMissing })
  return {
    ...next,
    calls: [{ ...audit, ...billed, output, latency_ms: latencyMs, request_id: response.requestId }],
  }
}

/** A failed call is booked too: what was used before a stream broke is on the provider's bill. */
function refused(
  move: Move,
  call: { model: Model; error: ModelError; audit: CallAudit; latencyMs: number },
): Move {
  const { model, error, audit, latencyMs } = call
  const described = {
    kind: error.kind,
    status: error.status,
    message: error.message.slice(0, 2000),
  }
  const noted = withStep(move, {
    kind: 'error',
    action: 'model_call',
    error: described,
    duration_ms: latencyMs,
  })
  const billed = bill(model, { usage: error.usage, estimated: true })
  return {
    ...failed(noted, failureClassOf(error), {
      ...described,
      ...(error.retryAfterMs === null ? {} : { retry_after_ms: error.retryAfterMs }),
    }),
    calls: [
      { ...audit, ...billed, error: described, latency_ms: latencyMs, request_id: error.requestId },
    ],
  }
}

type Billed = Pick<
  NewCall,
  | 'input_tokens'
  | 'output_tokens'
  | 'cache_read_tokens'
  | 'cache_write_tokens'
  | 'usage_estimated'
  | 'cost_usd'
>

function bill(model: Model, counted: { usage: Usage | null; estimated: boolean }): Billed {
  const { usage, estimated } = counted
  return {
    input_tokens: usage?.input ?? 0,
    output_tokens: usage?.output ?? 0,
    cache_read_tokens: usage?.cacheRead ?? 0,
    cache_write_tokens: (usage?.cacheWrite5m ?? 0) + (usage?.cacheWrite1h ?? 0),
    usage_estimated: estimated,
    cost_usd: usage ? costUsd(model, usage) : 0,
  }
}

function failureClassOf(error: ModelError): FailureClass {
  switch (error.kind) {
    case 'rate_limit':
    case 'overloaded':
      return 'rate_limit'
    case 'context_length':
      return 'context_loss'
    case 'auth':
    case 'quota':
    case 'content_filter':
    case 'not_found':
    case 'invalid_request':
      return 'permission'
    default:
      return 'external'
  }
}
