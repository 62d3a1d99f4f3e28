import { createHash, randomBytes } from 'node:crypto'
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type JWTPayload, jwtVerify, SignJWT } from 'jose'

/** What a project signs with and lets callers in with. */
export interface Keys {
  /** HS256 secret of the project's tokens. */
  jwtSecret: string
  /** `sb_publishable_…`: lets a caller in as anon. */
  publishableKey: string
  /** `sb_secret_…`: lets a caller in as service_role. */
  secretKey: string
}

/** Why a token is refused; `malformed` means it is no JWT at all. */
export type TokenFault = 'expired' | 'malformed' | 'signature'

export type Verified = { claims: JWTPayload } | { fault: TokenFault }

/** The keys kept in `<home>/keys.json` (readable by its owner only), made at first use. */
export function createKeys(home: string): Keys {
  const path = join(home, 'keys.json')
  if (existsSync(path)) return readKeys(path)
  const keys: Keys = {
    jwtSecret: randomBytes(48).toString('base64url'),
    publishableKey: projectKey('publishable'),
    secretKey: projectKey('secret'),
  }
  mkdirSync(home, { recursive: true })
  writeFileSync(path, `${JSON.stringify(keys, null, 2)}\n`, { mode: 0o600 })
  return keys
}

/** A token for these claims that is good for `seconds` from now. */
export function signToken(claims: JWTPayload, secret: string, seconds = 3600): Promise<string> {
  const now = Math.floor(Date.now() / 1000)
  return new SignJWT({ iat: now, exp: now + seconds, ...claims })
    .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
    .sign(secretBytes(secret))
}

/** Checks signature and time of an HS256 token. */
export async function verifyToken(token: string, secret: string): Promise<Verified> {
  try {
    const { payload } = await jwtVerify(token, secretBytes(secret), { algorithms: ['HS256'] })
    return { claims: payload }
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? cause.code : ''
    if (code === 'ERR_JWT_EXPIRED') return { fault: 'expired' }
    return { fault: token.split('.').length === 3 ? 'signature' : 'malformed' }
  }
}

/** The hosted form: a kind, 22 random characters, and the first 8 of a checksum over both. */
function projectKey(kind: 'publishable' | 'secret'): string {
  const body = `sb_${kind}_${randomBytes(17).toString('base64url').slice(0, 22)}`
  const checksum = createHash('sha256').update(body).digest('base64url').slice(0, 8)
  return `${body}_${checksum}`
}

function readKeys(path: string): Keys {
  chmodSync(path, 0o600)
  const found: Partial<Keys> = JSON.parse(readFileSync(path, 'utf8'))
  const { jwtSecret, publishableKey, secretKey } = found
  if (!jwtSecret || !publishableKey || !secretKey) {
    throw new Error(`Cannot use keys in "${path}": incomplete -> delete the file to make new ones`)
  }
  return { jwtSecret, publishableKey, secretKey }
}

function secretBytes(secret: string): Uint8Array {
  return new TextEncoder().encode(secret)
}
