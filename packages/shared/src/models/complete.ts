import { anthropicExchange } from './anthropic.ts'
import { ModelError, toModelError } from './errors.ts'
import type { Exchange } from './exchange.ts'
import { openaiExchange } from './openai.ts'
import type { CallLimits, ModelRequest, ModelResponse, Provider } from './types.ts'
import { Watch } from './watch.ts'

/**
 * Calls a model once, without retries, and resolves to its complete answer. It always streams from the provider:
 * time limits then apply to silence instead of length, and the Anthropic SDK refuses long answers otherwise. A stream
 * that ends before its terminal event is a failure, never an answer. Throws ModelError and nothing else.
 */
export async function complete(
  provider: Provider,
  request: ModelRequest,
  limits: CallLimits,
): Promise<ModelResponse> {
  if (provider.protocol === 'anthropic') return run(anthropicExchange(provider, request), limits)
  return run(openaiExchange(provider, request), limits)
}

async function run<Event>(exchange: Exchange<Event>, limits: CallLimits): Promise<ModelResponse> {
  const watch = new Watch(limits)
  let requestId: string | null = null
  let streaming = false
  try {
    if (watch.verdict !== null) throw watch.verdict
    const stream = await exchange.open(watch)
    requestId = stream.requestId
    streaming = true
    for await (const event of stream.events) exchange.add(event)
    // An aborted stream ends without an error in both SDKs.
    if (watch.verdict !== null) throw watch.verdict
    if (!exchange.isComplete())
      throw new ModelError('truncated', 'the stream ended before the answer did')
    return { ...exchange.answer(), requestId }
  } catch (error) {
    const seen = toModelError(watch.verdict ?? error)
    const kind = streaming && seen.kind === 'connection' ? 'truncated' : seen.kind
    throw new ModelError(kind, seen.message, {
      status: seen.status,
      retryAfterMs: seen.retryAfterMs,
      requestId: seen.requestId ?? requestId,
      usage: exchange.usageSoFar(),
      cause: error,
    })
  } finally {
    watch.stop()
  }
}
