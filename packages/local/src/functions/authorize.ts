import { decodeProtectedHeader } from 'jose'
import { bearerOf } from '../access.ts'
import { type Keys, verifyToken } from '../keys.ts'
import { type UnauthorizedCode, unauthorized } from './unauthorized.ts'

/**
 * The hosted check before a function with `verify_jwt`: a JWT of this project as bearer. Project
 * keys (`sb_…`) are no JWTs and do not pass. Null lets the request through.
 */
export async function authorize(request: Request, keys: Keys): Promise<Response | null> {
  const header = request.headers.get('authorization')
  if (!header) return unauthorized('UNAUTHORIZED_NO_AUTH_HEADER')
  const token = bearerOf(header)
  const fault = token ? await faultOf(token, keys) : 'UNAUTHORIZED_INVALID_JWT_FORMAT'
  return fault && unauthorized(fault)
}

async function faultOf(token: string, keys: Keys): Promise<UnauthorizedCode | null> {
  const algorithm = algorithmOf(token)
  if (algorithm === null) return 'UNAUTHORIZED_INVALID_JWT_FORMAT'
  // The stack signs with HS256 and publishes no keys, so none of these can be its own.
  if (/^(ES|RS|PS)\d+$|^EdDSA$/.test(algorithm)) return 'UNAUTHORIZED_ASYMMETRIC_JWT'
  if (algorithm !== 'HS256') return 'UNAUTHORIZED_UNSUPPORTED_TOKEN_ALGORITHM'
  const verified = await verifyToken(token, keys.jwtSecret)
  return 'claims' in verified ? null : 'UNAUTHORIZED_LEGACY_JWT'
}

function algorithmOf(token: string): string | null {
  try {
    return token.split('.').length === 3 ? (decodeProtectedHeader(token).alg ?? null) : null
  } catch {
    return null
  }
}
