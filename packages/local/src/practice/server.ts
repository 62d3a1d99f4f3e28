import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { anthropic, anthropicError, readPrompt } from './anthropic.ts'
import { CallLog } from './calls.ts'
import { chat } from './chat.ts'
import { deliver } from './deliver.ts'
import { type Dialect, Refused } from './dialect.ts'
import { embeddingsAnswer, readEmbeddingRequest } from './embeddings.ts'
import { isObject, type JsonObject, parseJson } from './json.ts'
import { modelList } from './models.ts'
import { openaiError } from './openai.ts'
import { wholeText } from './question.ts'
import { composeReply } from './reply.ts'
import { responses } from './responses.ts'
import { parseScript, type Rule, ScriptError } from './rules.ts'
import { Script } from './script.ts'
import { PromptCache, promptTokens } from './usage.ts'

/** A running server of practice models. */
export interface PracticeServer {
  /** Base URL without a trailing slash; OpenAI clients need `/v1` after it. */
  url: string
  port: number
  stop(): Promise<void>
}

const MAXIMUM_BODY_BYTES = 32 * 1024 * 1024

const DIALECTS: { readonly [path: string]: Dialect } = {
  '/v1/messages': anthropic,
  '/v1/chat/completions': chat,
  '/v1/responses': responses,
}

/**
 * Starts practice models on 127.0.0.1: a server that speaks the Anthropic and the OpenAI protocol, answers the same
 * request with the same bytes, and fails as its script says (`POST /_script`, `GET /_calls`, `DELETE /_script`).
 * Any model name and any key that is not empty will do. Throws ScriptError for invalid rules.
 */
export async function startPractice(
  options: { port?: number; rules?: readonly Rule[] } = {},
): Promise<PracticeServer> {
  const practice = new Practice()
  practice.script.replace(parseScript({ rules: options.rules ?? [] }))
  const server = createServer((request, response) => {
    practice.handle(request, response).catch((error: unknown) => fail(response, error))
  })
  const port = await listen(server, options.port ?? 0)
  return { url: `http://127.0.0.1:${port}`, port, stop: () => close(server) }
}

function listen(server: Server, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, '127.0.0.1', () => {
      const address = server.address()
      resolve(typeof address === 'object' && address !== null ? address.port : port)
    })
  })
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve())
    server.closeAllConnections()
  })
}

function fail(response: ServerResponse, error: unknown): void {
  if (response.headersSent) response.destroy()
  else sendJson(response, 500, { error: { message: String(error), type: 'server_error' } })
}

/** A request with its body read. */
interface Received {
  method: string
  path: string
  raw: string
  keyed: boolean
  /** True if the caller expects Anthropic's shapes. */
  toAnthropic: boolean
}

class Practice {
  readonly script = new Script()
  readonly #calls = new CallLog()
  readonly #cache = new PromptCache()
  #requests = 0

  async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = new URL(request.url ?? '/', 'http://localhost').pathname
    const method = request.method ?? 'GET'
    const raw = await bodyOf(request)
    if (path.startsWith('/_')) {
      const { status, body } = this.#control(`${method} ${path}`, raw ?? '')
      return sendJson(response, status, body)
    }
    this.#requests += 1
    this.#calls.record({ method, path, headers: request.headers, raw: raw ?? '' })
    const {
      authorization = '',
      'x-api-key': key = '',
      'anthropic-version': version,
    } = request.headers
    const keyed = /^bearer +\S/i.test(authorization) || String(key).trim() !== ''
    const toAnthropic = path.startsWith('/v1/messages') || version !== undefined
    const received = { method, path, raw: raw ?? '', keyed, toAnthropic }
    response.setHeader(toAnthropic ? 'request-id' : 'x-request-id', this.#requestId())
    try {
      if (raw === null)
        throw new Refused(413, `The request is larger than ${MAXIMUM_BODY_BYTES} bytes.`)
      await this.#answer(received, response)
    } catch (error) {
      if (!(error instanceof Refused)) throw error
      sendJson(response, error.status, this.#errorBody(received, error))
    }
  }

  async #answer(received: Received, response: ServerResponse): Promise<void> {
    const { method, path, keyed } = received
    if (!keyed) throw new Refused(401, 'No API key was sent: give any key that is not empty.')
    if (method === 'GET' && path === '/v1/models')
      return sendJson(response, 200, modelList(received.toAnthropic))
    const dialect = DIALECTS[path]
    const known =
      dialect !== undefined || path === '/v1/messages/count_tokens' || path === '/v1/embeddings'
    if (!known || method !== 'POST')
      throw new Refused(known ? 405 : 404, `Unknown request: ${method} ${path}`)
    const body = parseJson(received.raw)
    if (!isObject(body)) throw new Refused(400, 'The request body is not a JSON object.')
    if (dialect !== undefined) return this.#converse(dialect, received, { body, response })
    if (path === '/v1/embeddings') return this.#embed(received, { body, response })
    if (typeof body.model !== 'string') throw new Refused(400, 'model: Field required')
    return sendJson(response, 200, { input_tokens: promptTokens(readPrompt(body).segments) })
  }

  #converse(dialect: Dialect, received: Received, { body, response }: Exchange): Promise<void> {
    const question = dialect.read(body)
    const rule = this.script.next(question.model, wholeText(question))
    const { reply, spoilt } = composeReply(question, received.raw, { rule, cache: this.#cache })
    const delivery = {
      whole: () => dialect.whole(reply),
      events: question.stream ? () => dialect.events(reply) : null,
      errorEvent: (content: unknown) => dialect.errorEvent(content),
      errorBody: (status: number) => this.#errorBody(received, scriptedRefusal(status)),
      spoilt,
    }
    return deliver(response, delivery, rule?.fault ?? {})
  }

  /** Rules apply to embeddings too; of what they respond only faults make sense. */
  #embed(received: Received, { body, response }: Exchange): Promise<void> {
    const wanted = readEmbeddingRequest(body)
    const { fault = {} } = this.script.next(wanted.model, wanted.inputs.join('\n')) ?? {}
    const delivery = {
      whole: () => embeddingsAnswer(wanted),
      events: null,
      errorEvent: chat.errorEvent,
      errorBody: (status: number) => this.#errorBody(received, scriptedRefusal(status)),
      spoilt: fault.malformed_json === true,
    }
    return deliver(response, delivery, fault)
  }

  #control(request: string, raw: string): { status: number; body: unknown } {
    if (request === 'GET /_health') return { status: 200, body: { status: 'ok' } }
    if (request === 'GET /_calls') return { status: 200, body: this.#calls.list() }
    if (request === 'POST /_script') return this.#rewrite(parseJson(raw))
    if (request === 'DELETE /_script') {
      this.#calls.clear()
      this.#cache.clear()
      return this.#rewrite({ rules: [] })
    }
    const message = `Unknown request: ${request}`
    return { status: 404, body: { error: { code: 'PRACTICE_NOT_FOUND', message } } }
  }

  #rewrite(script: unknown): { status: number; body: unknown } {
    try {
      const rules = parseScript(script)
      this.script.replace(rules)
      return { status: 200, body: { rules: rules.length } }
    } catch (error) {
      if (!(error instanceof ScriptError)) throw error
      const { code, field, message } = error
      return { status: 400, body: { error: { code, field, message } } }
    }
  }

  #errorBody({ toAnthropic }: Received, { status, message, code, param }: Refused): JsonObject {
    if (toAnthropic) return anthropicError(status, message, this.#requestId())
    return openaiError(status, message, { code, param })
  }

  #requestId(): string {
    return `req_practice_${this.#requests}`
  }
}

interface Exchange {
  body: JsonObject
  response: ServerResponse
}

function scriptedRefusal(status: number): Refused {
  return new Refused(status, `The script of the practice models prescribes status ${status}.`)
}

/** The body as text; null where it is too large, after the rest of it has been thrown away. */
async function bodyOf(request: IncomingMessage): Promise<string | null> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of request) {
    const part = Buffer.from(chunk)
    bytes += part.length
    if (bytes <= MAXIMUM_BODY_BYTES) chunks.push(part)
  }
  return bytes > MAXIMUM_BODY_BYTES ? null : Buffer.concat(chunks).toString('utf8')
}

function sendJson(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
}
