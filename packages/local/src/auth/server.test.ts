import { decodeJwt } from 'jose'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startTestApi, type TestApi } from '../rest/harness.ts'

let api: TestApi
const password = 'secret-1'

beforeAll(async () => {
  api = await startTestApi()
  await api.sql.unsafe(`
    create table public.profiles (id uuid primary key references auth.users on delete cascade, name text);
    create function public.make_profile() returns trigger language plpgsql security definer
      set search_path = '' as $$
    begin
      insert into public.profiles values (new.id, new.raw_user_meta_data ->> 'name');
      return new;
    end $$;
    create trigger make_profile after insert on auth.users
      for each row execute function public.make_profile();
    create function public.claims() returns jsonb language sql as 'select auth.jwt()';
    create function public.me() returns uuid language sql as 'select auth.uid()';`)
})

afterAll(() => api.stop())

test('sign-up confirms at once, fires triggers of the project, and signs in', async () => {
  const client = api.client()
  const { data, error } = await client.auth.signUp({
    email: 'Ann@Example.com',
    password,
    options: { data: { name: 'Ann' } },
  })
  expect(error).toBeNull()
  expect(data.user).toMatchObject({ email: 'ann@example.com', user_metadata: { name: 'Ann' } })
  expect((await client.rpc('me')).data).toBe(data.user?.id)
  expect(await api.sql`select name from public.profiles where id = ${data.user?.id ?? ''}`).toEqual(
    [{ name: 'Ann' }],
  )
  const [row] = await api.sql`select jsonb_typeof(raw_user_meta_data) as type from auth.users`
  expect(row?.type).toBe('object')
})

test('tokens carry the claims of the hosted server', async () => {
  const client = api.client()
  const { data } = await client.auth.signInWithPassword({ email: 'ann@example.com', password })
  const claims = decodeJwt(data.session?.access_token ?? '')
  expect(claims).toMatchObject({
    iss: `${api.url}/auth/v1`,
    aud: 'authenticated',
    role: 'authenticated',
    sub: data.user?.id,
    email: 'ann@example.com',
    phone: '',
    aal: 'aal1',
    is_anonymous: false,
    app_metadata: { provider: 'email', providers: ['email'] },
    user_metadata: { name: 'Ann' },
  })
  expect(claims.session_id).toEqual(expect.any(String))
  expect(Number(claims.exp) - Number(claims.iat)).toBe(3600)
  expect((await client.rpc('claims')).data).toEqual(claims)
})

test('wrong password, refresh, rotation, update, sign-out', async () => {
  const client = api.client()
  const wrong = await client.auth.signInWithPassword({ email: 'ann@example.com', password: 'x' })
  expect(wrong.error).toMatchObject({ status: 400, code: 'invalid_credentials' })
  const { data } = await client.auth.signInWithPassword({ email: 'ann@example.com', password })
  const refreshed = await client.auth.refreshSession()
  expect(refreshed.error).toBeNull()
  expect(refreshed.data.session?.refresh_token).not.toBe(data.session?.refresh_token)
  expect(decodeJwt(refreshed.data.session?.access_token ?? '').user_metadata).toMatchObject({
    name: 'Ann',
  })
  expect(
    (await client.auth.updateUser({ data: { name: 'Anna' } })).data.user?.user_metadata,
  ).toMatchObject({ name: 'Anna' })
  expect((await client.auth.getUser()).data.user?.email).toBe('ann@example.com')
  expect((await client.auth.getClaims()).data?.claims.email).toBe('ann@example.com')
  expect((await client.auth.signOut()).error).toBeNull()
  const gone = await api.client().auth.refreshSession({
    refresh_token: refreshed.data.session?.refresh_token ?? '',
  })
  expect(gone.error?.status).toBe(400)
})

test('public endpoints', async () => {
  const settings = await api.send('/auth/v1/settings')
  expect(await settings.json()).toMatchObject({ disable_signup: false, external: { email: true } })
  const jwks = await fetch(`${api.url}/auth/v1/.well-known/jwks.json`)
  expect(await jwks.json()).toEqual({ keys: [] })
  expect((await fetch(`${api.url}/auth/v1/settings`)).status).toBe(401)
})

test('admin: create, list, get, update, delete', async () => {
  const { admin } = api.client(api.keys.secretKey).auth
  const made = await admin.createUser({
    email: 'Bob@Example.com',
    password,
    email_confirm: true,
    user_metadata: { name: 'Bob' },
    app_metadata: { plan: 'free' },
  })
  expect(made.error).toBeNull()
  const id = made.data.user?.id ?? ''
  expect(made.data.user).toMatchObject({
    aud: 'authenticated',
    role: 'authenticated',
    email: 'bob@example.com',
    user_metadata: { name: 'Bob' },
    app_metadata: { provider: 'email', providers: ['email'], plan: 'free' },
    identities: [{ provider: 'email', id, identity_data: { sub: id, email: 'bob@example.com' } }],
    is_anonymous: false,
  })
  const again = await admin.createUser({ email: 'bob@example.com' })
  expect(again.error).toMatchObject({ status: 422, code: 'email_exists' })
  const signedIn = await api
    .client()
    .auth.signInWithPassword({ email: 'bob@example.com', password })
  expect(decodeJwt(signedIn.data.session?.access_token ?? '').app_metadata).toMatchObject({
    plan: 'free',
  })

  const listed = await admin.listUsers({ page: 1, perPage: 1 })
  expect(listed.data).toMatchObject({
    total: 2,
    nextPage: 2,
    users: [{ email: 'bob@example.com' }],
  })
  expect((await admin.getUserById(id)).data.user?.email).toBe('bob@example.com')
  expect((await admin.getUserById(crypto.randomUUID())).error).toMatchObject({
    status: 404,
    code: 'user_not_found',
  })

  const changed = await admin.updateUserById(id, {
    email: 'rob@example.com',
    password: 'secret-2',
    app_metadata: { plan: 'paid' },
  })
  expect(changed.data.user).toMatchObject({
    email: 'rob@example.com',
    app_metadata: { provider: 'email', plan: 'paid' },
  })
  const rob = { email: 'rob@example.com', password: 'secret-2' }
  expect((await api.client().auth.signInWithPassword(rob)).error).toBeNull()

  await admin.updateUserById(id, { ban_duration: '24h' })
  expect((await api.client().auth.signInWithPassword(rob)).error?.code).toBe('user_banned')
  await admin.updateUserById(id, { ban_duration: 'none' })
  expect((await api.client().auth.signInWithPassword(rob)).error).toBeNull()

  expect((await admin.deleteUser(id)).error).toBeNull()
  expect((await api.sql`select from public.profiles where id = ${id}`).count).toBe(0)
})

test('admin: links sign in', async () => {
  const { admin } = api.client(api.keys.secretKey).auth
  const { data, error } = await admin.generateLink({ type: 'magiclink', email: 'ann@example.com' })
  expect(error).toBeNull()
  const client = api.client()
  const token_hash = data.properties?.hashed_token ?? ''
  const verified = await client.auth.verifyOtp({ token_hash, type: 'magiclink' })
  expect(verified.data.user?.email).toBe('ann@example.com')
  expect((await client.rpc('me')).data).toBe(data.user?.id)
  const link = await admin.generateLink({ type: 'recovery', email: 'ann@example.com' })
  const opened = await fetch(link.data.properties?.action_link ?? '', { redirect: 'manual' })
  expect([opened.status, opened.headers.get('location')]).toEqual([
    303,
    expect.stringContaining('#access_token='),
  ])
})

test('admin: closed to everyone without the secret key', async () => {
  const client = api.client()
  expect((await client.auth.admin.listUsers()).error).toMatchObject({
    status: 403,
    code: 'not_admin',
  })
  await client.auth.signInWithPassword({ email: 'ann@example.com', password })
  expect((await client.auth.admin.createUser({ email: 'eve@example.com' })).error?.status).toBe(403)
  const short = await api
    .client(api.keys.secretKey)
    .auth.admin.createUser({ email: 'eve@example.com', password: 'x' })
  expect(short.error).toMatchObject({ status: 422, code: 'weak_password' })
})
