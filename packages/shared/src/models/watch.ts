import { ModelError } from './errors.ts'
import { isObject, parseJson } from './json.ts'
import type { CallLimits } from './types.ts'

/**
 * Watches one call: aborts it when the first byte is late, when the stream falls silent, or when the caller says so.
 * Counts bytes, not events, so that a provider's keep-alive counts as life. `stop` must be called in the end.
 */
export class Watch {
  readonly #controller = new AbortController()
  readonly #limits: CallLimits
  readonly #onAbort = () => this.#end('aborted', 'the call was stopped by the caller')
  #timer: ReturnType<typeof setTimeout> | undefined
  #verdict: ModelError | null = null

  constructor(limits: CallLimits) {
    this.#limits = limits
    limits.signal.addEventListener('abort', this.#onAbort, { once: true })
    if (limits.signal.aborted) this.#onAbort()
    else this.#expect(limits.firstByteMs, 'no answer')
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  /** Why the watch has ended the call, or null if it has not. */
  get verdict(): ModelError | null {
    return this.#verdict
  }

  stop(): void {
    clearTimeout(this.#timer)
    this.#limits.signal.removeEventListener('abort', this.#onAbort)
  }

  /** `fetch` that reports each byte of a successful answer to the watch; for the SDKs' `fetch` option. */
  readonly fetch = async (input: string | URL | Request, init?: RequestInit): Promise<Response> => {
    const response = await fetch(input, init)
    if (!response.ok || response.body === null) return response
    if (response.headers.get('content-type')?.includes('application/json')) return asError(response)
    const heard = () => this.#expect(this.#limits.idleMs, 'the stream fell silent')
    const transform = (
      chunk: Uint8Array,
      controller: TransformStreamDefaultController<Uint8Array>,
    ) => {
      heard()
      controller.enqueue(chunk)
    }
    return new Response(response.body.pipeThrough(new TransformStream({ transform })), response)
  }

  #expect(milliseconds: number, complaint: string): void {
    clearTimeout(this.#timer)
    if (this.#verdict !== null) return
    this.#timer = setTimeout(
      () => this.#end('timeout', `${complaint} for ${milliseconds} ms`),
      milliseconds,
    )
  }

  #end(kind: 'timeout' | 'aborted', message: string): void {
    clearTimeout(this.#timer)
    this.#verdict ??= new ModelError(kind, message)
    this.#controller.abort()
  }
}

/**
 * A stream was asked for: one JSON message with status 200 is an error that came late (OpenRouter), or a proxy that
 * cannot stream. It is given the status its `error.code` mirrors, so that the SDK throws it.
 */
async function asError(response: Response): Promise<Response> {
  const text = await response.text()
  const body = parseJson(text)
  const code = isObject(body) && isObject(body.error) ? body.error.code : undefined
  const status = typeof code === 'number' && code >= 400 && code < 600 ? code : 502
  return new Response(text, { status, headers: response.headers })
}
