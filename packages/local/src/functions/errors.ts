/**
 * What the hosted gateway answers in a function's place: `{code, message}` and the header
 * `sb-error-code`. Plain web code, because the bootstrap inside Deno uses it as well.
 */

export type FailureCode = 'BOOT_ERROR' | 'IDLE_TIMEOUT' | 'WORKER_ERROR' | 'WORKER_LIMIT'

const failures: Record<FailureCode, { status: number; message: string }> = {
  BOOT_ERROR: { status: 503, message: 'Function failed to start (please check logs)' },
  IDLE_TIMEOUT: { status: 504, message: 'Request idle timeout limit reached' },
  WORKER_ERROR: { status: 500, message: 'Function exited due to an error (please check logs)' },
  // Named WORKER_LIMIT by the CLI's local gateway; the hosted one is moving to
  // WORKER_RESOURCE_LIMIT (docs, May 2026) with the same status.
  WORKER_LIMIT: {
    status: 546,
    message: 'Function failed due to not having enough compute resources (please check logs)',
  },
}

/** The response for a function that could not answer. */
export function failure(code: FailureCode, message = failures[code].message): Response {
  return Response.json({ code, message }, { status: failures[code].status, headers: coded(code) })
}

/** The response for a slug without a function. */
export function functionNotFound(): Response {
  return new Response('Function not found', { status: 404, headers: coded('NOT_FOUND') })
}

/** The header that names an error, readable by browsers on other origins too. */
export function coded(code: string): Record<string, string> {
  return { 'sb-error-code': code, 'access-control-expose-headers': 'sb-error-code' }
}
