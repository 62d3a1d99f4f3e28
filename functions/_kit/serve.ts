import { NightshiftError } from '../../packages/shared/src/errors.ts'

export interface ServeOptions {
  method: 'GET' | 'POST'
  /** Throws a `NightshiftError` when the caller may not. */
  authorize: (request: Request) => void | Promise<void>
}

/** Wraps a handler with what every function needs: method, caller check, and errors as JSON with a code. */
export function serve(
  options: ServeOptions,
  handler: (request: Request) => Response | Promise<Response>,
): (request: Request) => Promise<Response> {
  return async (request) => {
    try {
      if (request.method !== options.method) {
        throw new NightshiftError(
          `method "${request.method}" not allowed, use "${options.method}"`,
          {
            code: 'method_not_allowed',
            status: 405,
          },
        )
      }
      await options.authorize(request)
      return await handler(request)
    } catch (error) {
      return toResponse(error)
    }
  }
}

/** The one error body: {code, message, hint}. Unknown errors show no inner details to the caller. */
export function toResponse(error: unknown): Response {
  if (error instanceof NightshiftError) {
    const { code, message, hint, status } = error
    return Response.json({ code, message, hint }, { status })
  }
  console.error(error)
  return Response.json(
    { code: 'internal', message: 'unexpected error', hint: 'See the function log.' },
    { status: 500 },
  )
}

/** Refuses callers whose header is none of the secrets; compares in constant time. */
export function requireSecret(
  header: string,
  secrets: readonly string[],
): (request: Request) => Promise<void> {
  return async (request) => {
    const given = await digest(request.headers.get(header) ?? '')
    const known = await Promise.all(secrets.map(digest))
    if (!known.some((secret) => sameBytes(secret, given))) {
      throw new NightshiftError(`header "${header}" is missing or wrong`, {
        code: 'unauthorized',
        status: 401,
        hint: 'The secret is kept in Vault and in the function settings; nightshift doctor compares them.',
      })
    }
  }
}

async function digest(text: string): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text)))
}

/** Equal-length digests make the time independent of where the texts differ. */
function sameBytes(left: Uint8Array, right: Uint8Array): boolean {
  return (
    left.reduce((difference, byte, index) => difference | (byte ^ (right[index] ?? 0)), 0) === 0
  )
}
