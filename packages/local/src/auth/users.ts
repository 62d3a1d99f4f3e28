import type postgres from 'postgres'

/** What the admin API may set; absent fields stay as they are. */
export interface UserFields {
  id?: string
  email?: string
  phone?: string
  role?: string
  /** A bcrypt hash. */
  passwordHash?: string
  password?: string
  confirmsEmail?: boolean
  confirmsPhone?: boolean
  appMetadata?: Record<string, unknown>
  userMetadata?: Record<string, unknown>
  /** An interval such as `24h`, or `none`. */
  ban?: string
}

/** A user as GoTrue shows it, ready to be sent. */
export type UserJson = Record<string, unknown>

/** GoTrue's JSON of the users that `where` picks; `u` is auth.users. */
export async function listUsers(
  sql: postgres.Sql,
  page: { limit: number; offset: number; id?: string; email?: string },
): Promise<UserJson[]> {
  const rows = await sql<{ user: UserJson }[]>`
    select json_strip_nulls(json_build_object(
      'id', u.id, 'aud', u.aud, 'role', u.role, 'email', coalesce(u.email, ''),
      'email_confirmed_at', u.email_confirmed_at, 'invited_at', u.invited_at,
      'phone', coalesce(u.phone, ''), 'phone_confirmed_at', u.phone_confirmed_at,
      'confirmation_sent_at', u.confirmation_sent_at, 'confirmed_at', u.confirmed_at,
      'recovery_sent_at', u.recovery_sent_at, 'last_sign_in_at', u.last_sign_in_at,
      'app_metadata', coalesce(u.raw_app_meta_data, '{}'),
      'user_metadata', coalesce(u.raw_user_meta_data, '{}'),
      'identities', coalesce((
        select json_agg(json_build_object(
          'identity_id', i.id, 'id', i.provider_id, 'user_id', i.user_id,
          'identity_data', i.identity_data, 'provider', i.provider,
          'last_sign_in_at', i.last_sign_in_at, 'created_at', i.created_at,
          'updated_at', i.updated_at, 'email', i.email) order by i.created_at)
        from auth.identities i where i.user_id = u.id), '[]'),
      'created_at', u.created_at, 'updated_at', u.updated_at, 'banned_until', u.banned_until,
      'deleted_at', u.deleted_at, 'is_anonymous', u.is_anonymous
    )) as user
    from auth.users u
    where (${page.id ?? null}::uuid is null or u.id = ${page.id ?? null})
      and (${page.email ?? null}::text is null or u.email = ${page.email ?? null})
    order by u.created_at desc, u.id
    limit ${page.limit} offset ${page.offset}`
  return rows.map((row) => row.user)
}

/** The user with this id or address, or null. */
export async function findUser(
  sql: postgres.Sql,
  by: { id: string } | { email: string },
): Promise<UserJson | null> {
  const [user] = await listUsers(sql, { ...by, limit: 1, offset: 0 })
  return user ?? null
}

export async function countUsers(sql: postgres.Sql): Promise<number> {
  const [row] = await sql<{ count: number }[]>`select count(*)::int from auth.users`
  return row?.count ?? 0
}

/** Makes a user with an e-mail identity and returns its id. Raises 23505 when the address is taken. */
export async function insertUser(sql: postgres.Sql, fields: UserFields): Promise<string> {
  const id = fields.id ?? crypto.randomUUID()
  const email = fields.email?.toLowerCase() ?? null
  const appMetadata = {
    provider: email ? 'email' : 'phone',
    providers: [email ? 'email' : 'phone'],
    ...fields.appMetadata,
  }
  const identity = { sub: id, email, email_verified: false, phone_verified: false }
  await sql.begin(async (transaction) => {
    await transaction`
      insert into auth.users (id, aud, role, email, phone, encrypted_password, email_confirmed_at,
        phone_confirmed_at, raw_app_meta_data, raw_user_meta_data, created_at, updated_at)
      values (${id}, 'authenticated', ${fields.role ?? 'authenticated'}, ${email},
        ${fields.phone ?? null}, ${hash(transaction, fields)},
        ${fields.confirmsEmail ? transaction`now()` : null},
        ${fields.confirmsPhone ? transaction`now()` : null},
        ${json(transaction, appMetadata)}, ${json(transaction, fields.userMetadata ?? {})},
        now(), now())`
    if (email) {
      await transaction`
        insert into auth.identities (provider_id, user_id, identity_data, provider, last_sign_in_at)
        values (${id}, ${id}, ${json(transaction, identity)}, 'email', now())`
    }
    if (fields.ban) await ban(transaction, id, fields.ban)
  })
  return id
}

/** Changes the given fields. False when there is no such user. */
export async function updateUser(
  sql: postgres.Sql,
  id: string,
  fields: UserFields,
): Promise<boolean> {
  return sql.begin(async (transaction) => {
    const email = fields.email?.toLowerCase() ?? null
    const changed = await transaction`
      update auth.users set
        email = coalesce(${email}, email),
        phone = coalesce(${fields.phone ?? null}, phone),
        role = coalesce(${fields.role ?? null}, role),
        encrypted_password = coalesce(${hash(transaction, fields)}, encrypted_password),
        email_confirmed_at = case when ${fields.confirmsEmail ?? false} then now() else email_confirmed_at end,
        phone_confirmed_at = case when ${fields.confirmsPhone ?? false} then now() else phone_confirmed_at end,
        raw_app_meta_data = ${merged(transaction, 'raw_app_meta_data', fields.appMetadata)},
        raw_user_meta_data = ${merged(transaction, 'raw_user_meta_data', fields.userMetadata)},
        updated_at = now()
      where id = ${id}`
    if (email) {
      await transaction`
        update auth.identities
        set identity_data = identity_data || jsonb_build_object('email', ${email}::text)
        where user_id = ${id} and provider = 'email'`
    }
    if (fields.ban) await ban(transaction, id, fields.ban)
    return changed.count === 1
  })
}

/** False when there is no such user. */
export async function deleteUser(sql: postgres.Sql, id: string, isSoft: boolean): Promise<boolean> {
  const gone = isSoft
    ? await sql`
        update auth.users set deleted_at = now(), email = null, phone = null,
          encrypted_password = null, raw_user_meta_data = '{}', updated_at = now()
        where id = ${id}`
    : await sql`delete from auth.users where id = ${id}`
  if (isSoft) await sql`delete from auth.sessions where user_id = ${id}`
  return gone.count === 1
}

function hash(sql: postgres.ISql, { password, passwordHash }: UserFields) {
  if (password === undefined) return passwordHash ?? null
  return sql`extensions.crypt(${password}, extensions.gen_salt('bf', 10))`
}

function json(sql: postgres.ISql, value: Record<string, unknown>) {
  return sql`${JSON.stringify(value)}::text::jsonb`
}

/** New keys are added, keys with null go, as GoTrue merges metadata. */
function merged(sql: postgres.ISql, column: string, value: Record<string, unknown> | undefined) {
  if (!value) return sql(column)
  return sql`jsonb_strip_nulls(coalesce(${sql(column)}, '{}') || ${JSON.stringify(value)}::text::jsonb)`
}

async function ban(sql: postgres.ISql, id: string, duration: string): Promise<void> {
  const interval = duration === 'none' ? null : duration
  await sql`
    update auth.users set banned_until = now() + ${interval}::text::interval where id = ${id}`
  if (interval) await sql`delete from auth.sessions where user_id = ${id}`
}
