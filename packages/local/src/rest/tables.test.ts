import postgres from 'postgres'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startTestApi, type TestApi } from './harness.ts'

let api: TestApi

beforeAll(async () => {
  api = await startTestApi({ schemas: ['other', 'public'], maxRows: 3 })
  await api.sql.unsafe(`
    create schema other;
    grant usage on schema other to anon, authenticated;
    create table other.notes (
      id bigint generated always as identity primary key, owner uuid default auth.uid(), body text
    );
    alter table other.notes enable row level security;
    create policy own_rows on other.notes to authenticated
      using (owner = (select auth.uid())) with check (owner = (select auth.uid()));
    grant select, insert (body), update (body), delete on other.notes to authenticated;
    create table other.secrets (id int);
    create table public.kinds (
      id int primary key, doc jsonb, raw json, at timestamptz, day date, clock timestamp,
      large bigint, exact numeric, bytes bytea, list int[], words text[]
    );
    grant select, insert, update, delete on public.kinds to anon;
    create table public.slow (id int primary key);
    grant select on public.slow to anon;
    create view public.slower as select id from public.slow where pg_sleep(30) is not null;
    grant select on public.slower to anon;
    insert into public.slow values (1);
    create function public.tell() returns trigger language plpgsql as $$
    begin
      raise exception using errcode = 'NS042', message = 'no ' || current_setting('request.method'),
        hint = 'ask ' || current_setting('search_path');
    end $$;
    create trigger tell before delete on public.kinds for each row execute function public.tell();`)
})

afterAll(() => api.stop())

async function signUp(email: string) {
  const client = api.client()
  const { error } = await client.auth.signUp({ email, password: 'secret-1' })
  expect(error).toBeNull()
  return client.schema('other')
}

/** Every grant and default privilege of the project's schemas. */
function grants(): Promise<postgres.RowList<postgres.Row[]>> {
  return api.sql`
    select 'relation' as kind, c.oid::regclass::text as name, c.relacl::text as grants
    from pg_class c where c.relnamespace in ('other'::regnamespace, 'public'::regnamespace)
    union all
    select 'column', a.attrelid::regclass || '.' || a.attname, a.attacl::text
    from pg_attribute a where a.attacl is not null
    union all select 'schema', nspname, nspacl::text from pg_namespace
    union all select 'default', defaclrole::regrole || ' ' || defaclnamespace::regnamespace, defaclacl::text
    from pg_default_acl
    order by 1, 2`
}

test('requests leave every grant as it was, and RLS filters rows', async () => {
  const before = await grants()
  const ann = await signUp('ann@example.com')
  const bob = await signUp('bob@example.com')
  expect((await ann.from('notes').insert([{ body: 'a1' }, { body: 'a2' }])).error).toBeNull()
  expect((await bob.from('notes').insert({ body: 'b1' })).error).toBeNull()
  expect((await ann.from('notes').select('body').order('id')).data).toEqual([
    { body: 'a1' },
    { body: 'a2' },
  ])
  expect((await bob.from('notes').update({ body: 'mine' }).eq('body', 'a1').select()).data).toEqual(
    [],
  )
  expect((await bob.from('notes').select('body')).data).toEqual([{ body: 'b1' }])
  const anon = await api.client().schema('other').from('notes').select()
  expect([anon.status, anon.error?.code]).toEqual([401, '42501'])
  expect((await bob.from('secrets').select()).status).toBe(403)
  expect(await grants()).toEqual(before)
})

test('only granted columns are writable', async () => {
  const cora = await signUp('cora@example.com')
  const { error, status } = await cora
    .from('notes')
    .insert({ body: 'x', owner: crypto.randomUUID() })
  expect([status, error?.code]).toEqual([403, '42501'])
})

test('values keep their form', async () => {
  const row = {
    id: 1,
    doc: { a: [1, null], b: 'x' },
    raw: [true, 'text'],
    at: '2026-11-20T19:16:05+00:00',
    day: '2026-11-20',
    clock: '2026-11-20T19:16:05.5',
    large: 42,
    exact: 1.5,
    bytes: '\\xdead',
    list: [1, 2],
    words: ['a', 'b "c"'],
  }
  const kinds = api.client().schema('public').from('kinds')
  expect(await kinds.insert(row).select().single()).toMatchObject({ error: null, data: row })
  for (const [index, doc] of ['text', '{"not":"parsed"}', true, 5, null, [], {}].entries()) {
    const { data } = await kinds
      .insert({ id: 10 + index, doc })
      .select('doc')
      .single()
    expect(data?.doc).toEqual(doc)
  }
  await api.sql`insert into public.kinds (id, large, exact) values (2, 9007199254740993, 12345678901234567890.10)`
  const response = await api.send('/rest/v1/kinds?id=eq.2&select=large,exact', {
    headers: { 'accept-profile': 'public' },
  })
  expect(await response.text()).toBe('[{"large":9007199254740993,"exact":12345678901234567890.10}]')
})

test('errors from triggers come through, with the session they saw', async () => {
  const { error, status } = await api.client().schema('public').from('kinds').delete().gt('id', 0)
  expect([status, error]).toMatchObject([
    400,
    { code: 'NS042', message: 'no DELETE', hint: 'ask "public", "public", "extensions"' },
  ])
})

test('the role has its timeout, rows their limit, unknown names their codes', async () => {
  const client = api.client().schema('public')
  const { error, status } = await client.from('slower').select()
  expect([status, error?.code]).toEqual([500, '57014'])
  await api.sql`insert into public.slow select generate_series(2, 9)`
  expect((await client.from('slow').select()).data).toHaveLength(3)
  expect(await client.from('nowhere').select()).toMatchObject({
    status: 404,
    error: { code: 'PGRST205' },
  })
  expect(await client.from('slow').select('nope')).toMatchObject({
    status: 400,
    error: { code: '42703', message: 'column slow.nope does not exist' },
  })
  expect((await api.client().schema('auth').from('users').select()).error?.code).toBe('PGRST106')
})

test('a new table is served at once, its changes within a second', async () => {
  await api.sql`create table public.fresh (id int)`
  await api.sql`grant select on public.fresh to anon`
  const fresh = () => api.client().schema('public').from('fresh').select()
  expect((await fresh()).status).toBe(200)
  await api.sql`alter table public.fresh add column added text`
  await api.sql`insert into public.fresh values (1, 'x')`
  await expect.poll(async () => (await fresh()).data).toEqual([{ id: 1, added: 'x' }])
})

test('the API logs in without rights of its own', async () => {
  const { host, port, pathname } = new URL(api.adminUrl)
  expect(port && host).toContain('127.0.0.1')
  const login = postgres(`postgresql://authenticator:postgres@${host}${pathname}`, { max: 1 })
  await expect(login`select set_config('role', 'supabase_admin', false)`).rejects.toThrow(
    'permission denied to set role',
  )
  await login.end()
})
