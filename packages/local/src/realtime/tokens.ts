import { RealtimeError } from './errors.ts'
import { type JsonObject, objectOf } from './protocol.ts'

/** A verified token's content; `role` is always there. */
export type Claims = JsonObject

export interface TokenChecks {
  /** The claims of a JWT whose signature and time are good, else null. */
  verifyToken(token: string): Promise<Claims | null>
  /** The role of a project key (`sb_publishable_…`, `sb_secret_…`), else null. */
  isKnownApiKey(key: string): 'anon' | 'service_role' | null
}

/**
 * The claims of a project key or JWT. Throws RealtimeError in the server's words: `InvalidJWTToken`
 * (expired, or without role or exp), `MalformedJWT`, `JwtSignatureError`.
 */
export async function claimsOf(token: string, checks: TokenChecks): Promise<Claims> {
  const role = checks.isKnownApiKey(token)
  if (role) return { role }
  const claims = await checks.verifyToken(token)
  refuseExpired(claims ?? peek(token))
  if (!claims) throw new RealtimeError('JwtSignatureError', 'Failed to validate JWT signature')
  if (typeof claims.role !== 'string' || typeof claims.exp !== 'number') {
    throw new RealtimeError('InvalidJWTToken', 'Fields `role` and `exp` are required in JWT')
  }
  return claims
}

/** Seconds until a token ends; a project key never does. */
export function secondsLeft(claims: Claims): number {
  return typeof claims.exp === 'number' ? claims.exp - Date.now() / 1000 : Number.POSITIVE_INFINITY
}

function refuseExpired(claims: Claims): void {
  const left = secondsLeft(claims)
  if (left > 0) return
  const ago = Math.floor(-left)
  throw new RealtimeError('InvalidJWTToken', `Token has expired ${ago} seconds ago`)
}

/** Unverified claims, only to say why a token was refused. */
function peek(token: string): Claims {
  try {
    const [, body = ''] = token.split('.')
    return objectOf(JSON.parse(Buffer.from(body, 'base64url').toString('utf8')))
  } catch {
    throw new RealtimeError('MalformedJWT', 'The token provided is not a valid JWT')
  }
}
