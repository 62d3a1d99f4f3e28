import postgres from 'postgres'
import { bearerOf } from '../access.ts'
import { type Keys, verifyToken } from '../keys.ts'
import { authError } from './errors.ts'
import { makeLink } from './links.ts'
import {
  countUsers,
  deleteUser,
  findUser,
  insertUser,
  listUsers,
  type UserFields,
  updateUser,
} from './users.ts'

export interface AdminContext {
  /** Logs in as the owner of the schema `auth`. */
  sql: postgres.Sql
  /** Below /auth/v1. */
  path: string
  keys: Keys
  apiUrl: string
}

/** `/auth/v1/admin/users` and `/auth/v1/admin/generate_link`, for callers with the secret key. */
export async function handleAdmin(request: Request, context: AdminContext): Promise<Response> {
  if (!(await isService(request, context.keys))) {
    return authError(403, 'not_admin', 'User not allowed')
  }
  try {
    return await serve(request, context)
  } catch (cause) {
    const code = cause instanceof postgres.PostgresError ? cause.code : ''
    if (code === '23505') return emailExists()
    if (code === '22P02') return authError(404, 'validation_failed', 'user_id must be an UUID')
    if (code === '22007')
      return authError(400, 'validation_failed', 'invalid format for ban duration')
    throw cause
  }
}

async function serve(request: Request, context: AdminContext): Promise<Response> {
  const { path, sql } = context
  const { method } = request
  const id = /^\/admin\/users\/([^/]+)$/.exec(path)?.[1]
  if (path === '/admin/users' && method === 'GET') return list(request, sql)
  if (path === '/admin/users' && method === 'POST') return create(await readBody(request), sql)
  if (path === '/admin/generate_link' && method === 'POST') {
    return makeLink(await readBody(request), context)
  }
  if (id && method === 'GET') return show(sql, id)
  if (id && method === 'PUT') return change(await readBody(request), sql, id)
  if (id && method === 'DELETE') {
    const { should_soft_delete } = await readBody(request)
    const found = await deleteUser(sql, id, should_soft_delete === true)
    return found ? Response.json({}) : userNotFound()
  }
  return new Response('404 page not found', { status: 404 })
}

/** The secret key as apikey without another bearer, or a token with role service_role. */
async function isService(request: Request, keys: Keys): Promise<boolean> {
  const url = new URL(request.url)
  const key = request.headers.get('apikey') ?? url.searchParams.get('apikey')
  const token = bearerOf(request.headers.get('authorization'))
  if (!token || token.startsWith('sb_')) return key === keys.secretKey
  const verified = await verifyToken(token, keys.jwtSecret)
  return 'claims' in verified && verified.claims.role === 'service_role'
}

async function list(request: Request, sql: postgres.Sql): Promise<Response> {
  const { searchParams } = new URL(request.url)
  const page = Math.max(1, Number(searchParams.get('page')) || 1)
  const limit = Math.max(1, Number(searchParams.get('per_page')) || 50)
  const users = await listUsers(sql, { limit, offset: (page - 1) * limit })
  const total = await countUsers(sql)
  const last = Math.max(1, Math.ceil(total / limit))
  const link = (to: number, rel: string): string =>
    `</admin/users?page=${to}&per_page=${limit}>; rel="${rel}"`
  const links = [...(page < last ? [link(page + 1, 'next')] : []), link(last, 'last')]
  return Response.json(
    { users, aud: 'authenticated' },
    { headers: { 'x-total-count': String(total), link: links.join(', ') } },
  )
}

async function create(body: Record<string, unknown>, sql: postgres.Sql): Promise<Response> {
  const fields = fieldsOf(body)
  if (!fields.email && !fields.phone) {
    return authError(
      400,
      'validation_failed',
      'Cannot create a user without either an email or phone',
    )
  }
  const refusal = refuse(fields)
  if (refusal) return refusal
  return show(sql, await insertUser(sql, fields))
}

async function change(
  body: Record<string, unknown>,
  sql: postgres.Sql,
  id: string,
): Promise<Response> {
  const fields = fieldsOf(body)
  const refusal = refuse(fields)
  if (refusal) return refusal
  return (await updateUser(sql, id, fields)) ? show(sql, id) : userNotFound()
}

async function show(sql: postgres.Sql, id: string): Promise<Response> {
  const user = await findUser(sql, { id })
  return user ? Response.json(user) : userNotFound()
}

const shortestPassword = 6
const longestPassword = 72

function refuse({ email, password }: UserFields): Response | null {
  if (email !== undefined && !/^[^\s@]+@[^\s@]+\.[^\s@]+$/.test(email)) {
    const message = 'Unable to validate email address: invalid format'
    return authError(400, 'validation_failed', message)
  }
  if (password !== undefined && password.length < shortestPassword) {
    const message = `Password should be at least ${shortestPassword} characters.`
    return authError(422, 'weak_password', message)
  }
  if (password !== undefined && Buffer.byteLength(password) > longestPassword) {
    const message = `Password cannot be longer than ${longestPassword} characters`
    return authError(400, 'validation_failed', message)
  }
  return null
}

function fieldsOf(body: Record<string, unknown>): UserFields {
  const fields: UserFields = {}
  if (typeof body.id === 'string') fields.id = body.id
  if (typeof body.email === 'string') fields.email = body.email
  if (typeof body.phone === 'string') fields.phone = body.phone
  if (typeof body.role === 'string') fields.role = body.role
  if (typeof body.password === 'string') fields.password = body.password
  if (typeof body.password_hash === 'string') fields.passwordHash = body.password_hash
  if (typeof body.ban_duration === 'string') fields.ban = body.ban_duration
  if (body.email_confirm === true) fields.confirmsEmail = true
  if (body.phone_confirm === true) fields.confirmsPhone = true
  if (isObject(body.app_metadata)) fields.appMetadata = body.app_metadata
  if (isObject(body.user_metadata)) fields.userMetadata = body.user_metadata
  return fields
}

async function readBody(request: Request): Promise<Record<string, unknown>> {
  const body: unknown = await request.json().catch(() => ({}))
  return isObject(body) ? body : {}
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function emailExists(): Response {
  const message = 'A user with this email address has already been registered'
  return authError(422, 'email_exists', message)
}

function userNotFound(): Response {
  return authError(404, 'user_not_found', 'User not found')
}
