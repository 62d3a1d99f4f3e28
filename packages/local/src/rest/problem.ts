import postgres from 'postgres'

/** An error in PostgREST's shape. */
export class Problem extends Error {
  override name = 'Problem'
  readonly status: number
  readonly code: string
  readonly details: string | null
  readonly hint: string | null
  readonly headers: Record<string, string>

  constructor(
    status: number,
    code: string,
    rest: {
      message: string
      details?: string | null
      hint?: string | null
      headers?: Record<string, string>
    },
  ) {
    super(rest.message)
    this.status = status
    this.code = code
    this.details = rest.details ?? null
    this.hint = rest.hint ?? null
    this.headers = rest.headers ?? {}
  }

  /** The response body. */
  toJSON(): { code: string; details: string | null; hint: string | null; message: string } {
    const { code, details, hint, message } = this
    return { code, details, hint, message }
  }
}

/**
 * PostgREST's status for an SQLSTATE (v16): the exact code first, then its class of two characters,
 * else 400. 21000, 22023 and 42501 depend on more and are decided in `statusOf`.
 */
const statusBySqlstate: Record<string, number> = {
  '08': 503,
  '09': 500,
  '0L': 403,
  '0P': 403,
  '23503': 409,
  '23505': 409,
  '25': 500,
  '25006': 405,
  '28': 403,
  '2D': 500,
  '38': 500,
  '39': 500,
  '3B': 500,
  '40': 500,
  '42883': 404,
  '42P01': 404,
  '42P17': 500,
  '53': 503,
  '53400': 500,
  '54': 500,
  '55': 500,
  '57': 500,
  '57P01': 503,
  // Said at login only, which PostgREST answers as a lost connection.
  '57P03': 503,
  '58': 500,
  F0: 500,
  HV: 500,
  P0: 500,
  P0001: 400,
  XX: 500,
}

/** The answer to any failure of a request made as `role`. */
export function problemOf(cause: unknown, role: string): Problem {
  if (cause instanceof Problem) return cause
  if (cause instanceof postgres.PostgresError) return fromDatabase(cause, role)
  const message = cause instanceof Error ? cause.message : String(cause)
  // Lost, refused and timed out: CONNECTION_CLOSED, CONNECT_TIMEOUT, ECONNREFUSED, ECONNRESET …
  const isConnection = /^E?CONN/.test(codeOf(cause))
  if (!isConnection) return new Problem(500, 'XX000', { message })
  return new Problem(503, 'PGRST000', {
    message: 'Database connection error. Retrying the connection.',
    details: message,
  })
}

function codeOf(cause: unknown): string {
  return cause instanceof Error && 'code' in cause ? String(cause.code) : ''
}

function fromDatabase(error: postgres.PostgresError, role: string): Problem {
  if (error.code === 'PGRST') return raisedResponse(error)
  const status = statusOf(error, role)
  return new Problem(status, error.code, {
    message: error.message,
    details: error.detail ?? null,
    hint: error.hint ?? null,
    headers: status === 401 ? { 'www-authenticate': 'Bearer' } : {},
  })
}

function statusOf({ code, message }: postgres.PostgresError, role: string): number {
  if (code === '42501') return role === 'anon' ? 401 : 403
  if (code === '21000') return message.endsWith('requires a WHERE clause') ? 400 : 500
  if (code === '22023') return /^role .* does not exist$/.test(message) ? 401 : 400
  if (code.startsWith('PT')) {
    const status = Number(code.slice(2))
    return status >= 200 && status <= 599 ? status : 500
  }
  return statusBySqlstate[code] ?? statusBySqlstate[code.slice(0, 2)] ?? 400
}

/** `raise sqlstate 'PGRST'`: MESSAGE is the JSON body, DETAIL the JSON with status and headers. */
function raisedResponse(error: postgres.PostgresError): Problem {
  const body = object(error.message)
  if (typeof body?.code !== 'string' || typeof body.message !== 'string') {
    return unreadableRaise(
      `Invalid JSON value for MESSAGE: '${error.message}'`,
      "MESSAGE must be a JSON object with obligatory keys: 'code', 'message' and optional keys: 'details', 'hint'.",
    )
  }
  const response = object(error.detail ?? '')
  const headers = response?.headers
  if (typeof response?.status !== 'number' || typeof headers !== 'object' || headers === null) {
    return unreadableRaise(
      error.detail
        ? `Invalid JSON value for DETAIL: '${error.detail}'`
        : 'DETAIL is missing in the RAISE statement',
      "DETAIL must be a JSON object with obligatory keys: 'status', 'headers' and optional key: 'status_text'.",
    )
  }
  return new Problem(response.status, body.code, {
    message: body.message,
    details: text(body.details),
    hint: text(body.hint),
    headers: Object.fromEntries(
      Object.entries(headers).map(([name, value]) => [name.toLowerCase(), String(value)]),
    ),
  })
}

function unreadableRaise(details: string, hint: string): Problem {
  const message = 'Could not parse JSON in the "RAISE SQLSTATE \'PGRST\'" error'
  return new Problem(500, 'PGRST121', { message, details, hint })
}

function object(json: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(json)
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? { ...value }
      : null
  } catch {
    return null
  }
}

function text(value: unknown): string | null {
  return typeof value === 'string' ? value : null
}
