import { createHash, randomInt } from 'node:crypto'
import type { AdminContext } from './admin.ts'
import { authError } from './errors.ts'
import { findUser, insertUser, updateUser } from './users.ts'

/** Which kinds make the user when there is none, and where the server looks for their token. */
const kinds = new Map([
  ['invite', { creates: true, column: 'confirmation_token', sentAt: 'confirmation_sent_at' }],
  ['magiclink', { creates: true, column: 'recovery_token', sentAt: 'recovery_sent_at' }],
  ['recovery', { creates: false, column: 'recovery_token', sentAt: 'recovery_sent_at' }],
  ['signup', { creates: true, column: 'confirmation_token', sentAt: 'confirmation_sent_at' }],
])

/** Makes the link a mail would carry. It is only shown, never sent. */
export async function makeLink(
  body: Record<string, unknown>,
  { sql, apiUrl }: Pick<AdminContext, 'sql' | 'apiUrl'>,
): Promise<Response> {
  const { type, password } = body
  const email = typeof body.email === 'string' ? body.email.toLowerCase() : ''
  const kind = typeof type === 'string' ? kinds.get(type) : undefined
  if (typeof type !== 'string' || !kind) {
    return authError(400, 'validation_failed', `Invalid email action link type requested: ${type}`)
  }
  const known = await findUser(sql, { email })
  if (!known && !kind.creates)
    return authError(404, 'user_not_found', 'User with this email not found')
  const id = known?.id ?? (await insertUser(sql, { email }))
  if (typeof password === 'string') await updateUser(sql, String(id), { password })
  const otp = String(randomInt(1_000_000)).padStart(6, '0')
  // @supabase/lite looks for the SHA-256 of address and code.
  const hashed = createHash('sha256')
    .update(email + otp)
    .digest('hex')
  await sql`
    update auth.users set ${sql({ [kind.column]: hashed })}, ${sql(kind.sentAt)} = now()
    where id = ${String(id)}`
  const redirectTo =
    typeof body.redirect_to === 'string' ? body.redirect_to : 'http://127.0.0.1:3000'
  const query = new URLSearchParams({ token: hashed, type, redirect_to: redirectTo })
  return Response.json({
    ...(await findUser(sql, { email })),
    action_link: `${apiUrl}/auth/v1/verify?${query}`,
    email_otp: otp,
    hashed_token: hashed,
    redirect_to: redirectTo,
    verification_type: type,
  })
}
