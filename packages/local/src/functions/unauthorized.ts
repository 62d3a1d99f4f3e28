import { coded } from './errors.ts'

/** Why the hosted gateway refuses a request to a function with `verify_jwt = true`. */
export type UnauthorizedCode =
  | 'UNAUTHORIZED_ASYMMETRIC_JWT'
  | 'UNAUTHORIZED_INVALID_JWT_FORMAT'
  | 'UNAUTHORIZED_LEGACY_JWT'
  | 'UNAUTHORIZED_NO_AUTH_HEADER'
  | 'UNAUTHORIZED_UNSUPPORTED_TOKEN_ALGORITHM'

const messages: Record<UnauthorizedCode, string> = {
  UNAUTHORIZED_ASYMMETRIC_JWT: 'Invalid JWT',
  UNAUTHORIZED_INVALID_JWT_FORMAT: 'Invalid JWT format',
  UNAUTHORIZED_LEGACY_JWT: 'Invalid JWT',
  UNAUTHORIZED_NO_AUTH_HEADER: 'Missing authorization header',
  UNAUTHORIZED_UNSUPPORTED_TOKEN_ALGORITHM: 'Unsupported JWT algorithm',
}

/** The hosted 401: the sentence stands in `message` and, for older clients, in `msg`. */
export function unauthorized(code: UnauthorizedCode, message = messages[code]): Response {
  return Response.json({ code, message, msg: message }, { status: 401, headers: coded(code) })
}
