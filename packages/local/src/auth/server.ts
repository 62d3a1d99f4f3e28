import { App } from '@supabase/lite'
import type postgres from 'postgres'
import { bearerOf } from '../access.ts'
import { type Keys, signToken, verifyToken } from '../keys.ts'
import { lendConnections } from '../lending.ts'
import { LentConnection } from '../lite.ts'
import { wireTypes } from '../rest/wire.ts'
import { handleAdmin } from './admin.ts'
import { authError } from './errors.ts'

export interface AuthOptions {
  /** Logs in as `supabase_auth_admin`, who owns the schema `auth`. */
  url: string
  keys: Keys
  /** Where the API is reached from outside, for links and the tokens' issuer. */
  apiUrl: () => string
  /** Seconds a token is good for. Default 3600. */
  tokenSeconds?: number
  /** Receives the mails that a hosted project would send. */
  log?: (line: string) => void
}

export interface AuthServer {
  /** Answers a request below /auth/v1; never rejects. */
  handle(request: Request): Promise<Response>
  stop(): Promise<void>
}

/** lite hands JSON columns over as JSON text, which the driver must not encode once more. */
const passThrough = {
  serialize: (value: unknown) => (typeof value === 'string' ? value : JSON.stringify(value)),
  parse: (value: string): unknown => JSON.parse(value),
}

/**
 * Auth through @supabase/lite, plus what that lacks: the admin API, bans, and the claims GoTrue
 * puts into tokens. Sign-up confirms at once, since no mail leaves the machine.
 */
export function startAuth(options: AuthOptions): AuthServer {
  const { keys, tokenSeconds = 3600, log = () => {} } = options
  const lender = lendConnections({
    url: options.url,
    max: 8,
    name: 'auth',
    types: () => ({
      ...wireTypes([]),
      json: { to: 114, from: [114], ...passThrough },
      jsonb: { to: 3802, from: [3802], ...passThrough },
    }),
  })
  const app = new App({
    connection: new LentConnection(options.url, lender),
    api: { enabled: false },
    storage: { enabled: false },
    auth: {
      enabled: true,
      jwt_secret: keys.jwtSecret,
      jwt_expiry: tokenSeconds,
      enable_refresh_token_rotation: true,
      site_url: 'http://127.0.0.1:3000',
      additional_redirect_urls: ['http://127.0.0.1:**', 'http://localhost:**'],
      email: { enable_signup: true, enable_confirmations: false, double_confirm_changes: false },
    },
    options: {
      server: { apiKeys: false, disableStudio: true },
      drivers: {
        email: {
          send: async ({ to, subject, text }) => log(`mail to ${to}: ${subject}: ${text ?? ''}`),
        },
      },
    },
  })

  async function serve(request: Request): Promise<Response> {
    const url = new URL(request.url)
    const path = url.pathname.slice('/auth/v1'.length)
    if (path.startsWith('/admin/')) {
      const apiUrl = options.apiUrl()
      return lender.use((sql) => handleAdmin(request, { sql, path, keys, apiUrl }))
    }
    const response = await app.fetch(withoutKey(request, url))
    const issues = path === '/signup' || path === '/token' || path === '/verify'
    if (!issues || request.method !== 'POST' || !response.ok) return response
    const body: unknown = await response.json()
    const grant = grantOf(body)
    if (!grant) return Response.json(body, { status: response.status })
    const banned = await lender.use((sql) => isBanned(sql, grant.user.id))
    if (banned) return authError(400, 'user_banned', 'User is banned')
    const token = await enrich(grant, { keys, tokenSeconds, issuer: `${options.apiUrl()}/auth/v1` })
    return Response.json({ ...grant, access_token: token }, { status: response.status })
  }

  return {
    async handle(request) {
      try {
        return await serve(request)
      } catch (cause) {
        log(`auth: ${cause instanceof Error ? cause.stack : cause}`)
        return authError(500, 'unexpected_failure', 'Internal Server Error')
      }
    },
    stop: () => lender.end(),
  }
}

/** supabase-js sends the project key as bearer when nobody is signed in; it is no JWT. */
function withoutKey(request: Request, url: URL): Request {
  const headers = new Headers(request.headers)
  if (bearerOf(headers.get('authorization'))?.startsWith('sb_')) headers.delete('authorization')
  headers.delete('apikey')
  url.searchParams.delete('apikey')
  return new Request(new Request(url, request), { headers })
}

/** An answer that signs somebody in. */
interface Grant {
  access_token: string
  user: {
    id: string
    phone?: unknown
    app_metadata?: unknown
    user_metadata?: unknown
    is_anonymous?: unknown
  }
}

function grantOf(body: unknown): Grant | null {
  if (typeof body !== 'object' || body === null || !('access_token' in body)) return null
  const { access_token } = body
  const user = 'user' in body ? body.user : null
  if (typeof access_token !== 'string' || typeof user !== 'object' || user === null) return null
  if (!('id' in user) || typeof user.id !== 'string') return null
  return { ...body, access_token, user: { ...user, id: user.id } }
}

/** Signs the token anew with the claims that GoTrue adds and lite leaves out. */
async function enrich(
  { access_token, user }: Grant,
  setup: { keys: Keys; tokenSeconds: number; issuer: string },
): Promise<string> {
  const { jwtSecret } = setup.keys
  const verified = await verifyToken(access_token, jwtSecret)
  if ('fault' in verified) throw new Error(`Cannot read the token just signed: ${verified.fault}`)
  const { claims } = verified
  const added = {
    iss: setup.issuer,
    phone: user.phone ?? '',
    app_metadata: user.app_metadata ?? {},
    user_metadata: user.user_metadata ?? {},
    aal: 'aal1',
    amr: [{ method: 'password', timestamp: claims.iat ?? Math.floor(Date.now() / 1000) }],
    is_anonymous: user.is_anonymous === true,
  }
  return signToken({ ...added, ...claims }, jwtSecret, setup.tokenSeconds)
}

async function isBanned(sql: postgres.Sql, id: string): Promise<boolean> {
  const [row] = await sql`select from auth.users where id = ${id} and banned_until > now()`
  return row !== undefined
}
