import type { IncomingMessage } from 'node:http'
import { type Keys, type TokenFault, verifyToken } from './keys.ts'

/** Who calls, and what the database is told about it. */
export interface Caller {
  role: string
  /** The claims as JSON, for `request.jwt.claims`. */
  claims: string
}

/** An answer given in place of the called service. */
export interface Refusal {
  status: number
  headers: Record<string, string>
  body: Record<string, unknown>
}

export type Admission = { caller: Caller } | { refusal: Refusal }

export interface Access {
  /** Checks the project key, and a user's token where one is sent: the token wins. */
  admit(request: IncomingMessage, url: URL): Admission | Promise<Admission>
  /** Checks the project key only; null when it is good. */
  refuse(request: IncomingMessage, url: URL): Refusal | null
  /** The role of a project key, else null. */
  roleOfKey(key: string): 'anon' | 'service_role' | null
}

const rememberedTokens = 1000

/** The gateway's door: hosted it is Kong in front, which knows keys, and PostgREST, which knows JWTs. */
export function createAccess(keys: Keys): Access {
  const anon: Admission = { caller: { role: 'anon', claims: '{"role":"anon"}' } }
  const service: Admission = { caller: { role: 'service_role', claims: '{"role":"service_role"}' } }
  const known = new Map<string, { caller: Caller; expires: number }>()

  function roleOfKey(key: string): 'anon' | 'service_role' | null {
    if (key === keys.publishableKey) return 'anon'
    return key === keys.secretKey ? 'service_role' : null
  }

  function refuse(request: IncomingMessage, url: URL): Refusal | null {
    const key = keyOf(request, url)
    if (!key) return missingKey
    const role = roleOfKey(key)
    if (!role) return unknownKey
    const agent = request.headers['user-agent'] ?? ''
    return role === 'service_role' && browser.test(agent) ? secretInBrowser : null
  }

  async function admitToken(token: string): Promise<Admission> {
    const remembered = known.get(token)
    if (remembered && remembered.expires > Date.now() / 1000) return remembered
    const verified = await verifyToken(token, keys.jwtSecret)
    if ('fault' in verified) return { refusal: refusedToken(verified.fault, token) }
    const { claims } = verified
    const caller = {
      role: typeof claims.role === 'string' ? claims.role : 'anon',
      claims: JSON.stringify(claims),
    }
    if (known.size >= rememberedTokens) known.clear()
    known.set(token, { caller, expires: claims.exp ?? Number.POSITIVE_INFINITY })
    return { caller }
  }

  return {
    roleOfKey,
    refuse,
    admit(request, url) {
      const refusal = refuse(request, url)
      if (refusal) return { refusal }
      const key = keyOf(request, url)
      const token = bearerOf(request.headers.authorization)
      if (token && token !== key && !token.startsWith('sb_')) return admitToken(token)
      return key === keys.secretKey ? service : anon
    },
  }
}

/** The token of an `Authorization: Bearer …` header, else null. */
export function bearerOf(header: string | null | undefined): string | null {
  return header?.match(/^Bearer\s+(\S+)\s*$/i)?.[1] ?? null
}

const browser = /^\s*Mozilla\/5\.0/i

function keyOf(request: IncomingMessage, url: URL): string | null {
  const header = request.headers.apikey
  return typeof header === 'string' ? header : url.searchParams.get('apikey')
}

const missingKey: Refusal = {
  status: 401,
  headers: { 'sb-error-code': 'UNAUTHORIZED_MISSING_API_KEY' },
  body: {
    message: 'No API key found in request',
    hint: 'No `apikey` request header or url param was found.',
  },
}

const unknownKey: Refusal = {
  status: 401,
  headers: { 'sb-error-code': 'UNAUTHORIZED_INVALID_API_KEY' },
  body: { message: 'Invalid API key', hint: 'Double check your Supabase `apikey`.' },
}

const secretInBrowser: Refusal = {
  status: 401,
  headers: { 'sb-error-code': 'UNAUTHORIZED_INVALID_API_KEY_TYPE' },
  body: { message: 'Forbidden use of secret API key in browser' },
}

/** PostgREST's answers: PGRST301 for a token it cannot read or trust, PGRST303 for one past its time. */
function refusedToken(fault: TokenFault, token: string): Refusal {
  const parts = token.split('.').length
  const [code, message, details] = {
    expired: ['PGRST303', 'JWT expired', null],
    malformed: ['PGRST301', `Expected 3 parts in JWT; got ${parts}`, null],
    signature: [
      'PGRST301',
      'No suitable key or wrong key type',
      'None of the keys was able to decode the JWT',
    ],
  }[fault]
  return {
    status: 401,
    headers: {
      'www-authenticate': `Bearer error="invalid_token", error_description="${message}"`,
    },
    body: { code, details, hint: null, message },
  }
}
