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
  await sql`
    with made as (
      insert into auth.users (id, aud, role, email, phone, encrypted_password, email_confirmed_at,
        phone_confirmed_at, raw_app_meta_data, raw_user_meta_data, banned_until, created_at, updated_at)
      values (${id}, 'authenticated', ${fields.role ?? 'authenticated'}, ${email},
        ${fields.phone ?? null}, ${hash(sql, fields)},
        ${fields.confirmsEmail ? sql`now()` : null}, ${fields.confirmsPhone ? sql`now()` : null},
        ${json(sql, appMetadata)}, ${json(sql, fields.userMetadata ?? {})},
        ${banned(sql, fields)}, now(), now())
      returning id, email
    )
    insert into auth.identities (provider_id, user_id, identity_data, provider, last_sign_in_at)
    select id, id, ${json(sql, identity)}, 'email', now() from made where email is not null`
  return id
}

/** Changes the given fields. False when there is no such user. A ban ends all sessions. */
export async function updateUser(
  sql: postgres.Sql,
  id: string,
  fields: UserFields,
): Promise<boolean> {
  const email = fields.email?.toLowerCase() ?? null
  const changed = await sql`
    with changed_identity as (
      update auth.identities
      set identity_data = identity_data || jsonb_build_object('email', ${email}::text)
      where user_id = ${id} and provider = 'email' and ${email}::text is not null
    ), ended as (
      delete from auth.sessions where user_id = ${id} and ${isBan(fields)}
    )
    update auth.users set
      email = coalesce(${email}, email),
      phone = coalesce(${fields.phone ?? null}, phone),
      role = coalesce(${fields.role ?? null}, role),
      encrypted_password = coalesce(${hash(sql, fields)}, encrypted_password),
      email_confirmed_at = case when ${fields.confirmsEmail ?? false} then now() else email_confirmed_at end,
      phone_confirmed_at = case when ${fields.confirmsPhone ?? false} then now() else phone_confirmed_at end,
      raw_app_meta_data = ${merged(sql, 'raw_app_meta_data', fields.appMetadata)},
      raw_user_meta_data = ${merged(sql, 'raw_user_meta_data', fields.userMetadata)},
      banned_until = ${fields.ban === undefined ? sql`banned_until` : banned(sql, fields)},
      updated_at = now()
    where id = ${id}`
  return changed.count === 1
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

function hash(sql: postgres.Sql, { password, passwordHash }: UserFields) {
  if (password === undefined) return passwordHash ?? null
  return sql`extensions.crypt(${password}, extensions.gen_salt('bf', 10))`
}

function json(sql: postgres.Sql, value: Record<string, unknown>) {
  return sql`${JSON.stringify(value)}::text::jsonb`
}

/** New keys are added, keys with null go, as GoTrue merges metadata. */
function merged(sql: postgres.Sql, column: string, value: Record<string, unknown> | undefined) {
  if (!value) return sql(column)
  return sql`jsonb_strip_nulls(coalesce(${sql(column)}, '{}') || ${JSON.stringify(value)}::text::jsonb)`
}

function isBan({ ban }: UserFields): boolean {
  return ban !== undefined && ban !== 'none'
}

function banned(sql: postgres.Sql, fields: UserFields) {
  return isBan(fields) ? sql`now() + ${fields.ban ?? ''}::text::interval` : null
}
