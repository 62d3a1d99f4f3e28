import { afterAll, beforeAll, expect, test } from 'vitest'
import { startTestApi, type TestApi } from './harness.ts'

let api: TestApi

beforeAll(async () => {
  api = await startTestApi()
  await api.sql.unsafe(`
    create function public.fail(code text) returns int language plpgsql as $$
    begin
      raise exception using errcode = code, message = 'what', detail = 'why', hint = 'how';
    end $$;
    create table public.parents (id int primary key, name text unique not null check (name <> 'bad'));
    create table public.children (id int primary key, parent int references public.parents);
    insert into public.parents values (1, 'one');
    grant insert, select, update on public.parents, public.children to anon;
    create table public.hidden (id int);
    create function public.run(statement text) returns void language plpgsql as $$
    begin execute statement; end $$;
    create function public.is_read_only() returns text language sql stable as
      $$ select current_setting('transaction_read_only') $$;`)
})

afterAll(() => api.stop())

async function fail(code: string): Promise<{ status: number; body: unknown }> {
  const response = await post('/rest/v1/rpc/fail', { code })
  return { status: response.status, body: await response.json() }
}

function post(path: string, body: unknown, headers: Record<string, string> = {}) {
  return api.send(path, {
    method: 'POST',
    body: JSON.stringify(body),
    headers: { 'content-type': 'application/json', ...headers },
  })
}

// SQLSTATE -> status as PostgREST 16 answers an anonymous caller.
test.each([
  ['08006', 503],
  ['09000', 500],
  ['0L000', 403],
  ['0P000', 403],
  ['21000', 500],
  ['22000', 400],
  ['22012', 400],
  ['23000', 400],
  ['23502', 400],
  ['23503', 409],
  ['23505', 409],
  ['23514', 400],
  ['25001', 500],
  ['25006', 405],
  ['28000', 403],
  ['2D000', 500],
  ['38000', 500],
  ['39000', 500],
  ['3B000', 500],
  ['3F000', 400],
  ['40001', 500],
  ['40P01', 500],
  ['42501', 401],
  ['42601', 400],
  ['42703', 400],
  ['42883', 404],
  ['42P01', 404],
  ['42P17', 500],
  ['53000', 503],
  ['53400', 500],
  ['54000', 500],
  ['55000', 500],
  ['57014', 500],
  ['57P01', 503],
  ['58000', 500],
  ['F0000', 500],
  ['HV000', 500],
  ['NS001', 400],
  ['P0001', 400],
  ['P0002', 500],
  ['PT418', 418],
  ['PT999', 500],
  ['XX000', 500],
])('SQLSTATE %s becomes %i with message, details and hint', async (code, status) => {
  expect(await fail(code)).toEqual({
    status,
    body: { code, message: 'what', details: 'why', hint: 'how' },
  })
})

test('the same SQLSTATE on a table has the same status and body as in a function', async () => {
  const insert = async (path: string, row: unknown) => {
    const response = await post(path, row)
    return { status: response.status, body: await response.json() }
  }
  expect(await insert('/rest/v1/parents', { id: 1, name: 'again' })).toEqual({
    status: 409,
    body: {
      code: '23505',
      message: 'duplicate key value violates unique constraint "parents_pkey"',
      details: 'Key (id)=(1) already exists.',
      hint: null,
    },
  })
  expect(await insert('/rest/v1/children', { id: 1, parent: 7 })).toMatchObject({
    status: 409,
    body: { code: '23503' },
  })
  expect(await insert('/rest/v1/parents', { id: 2, name: 'bad' })).toMatchObject({
    status: 400,
    body: { code: '23514', details: 'Failing row contains (2, bad).' },
  })
  expect(await insert('/rest/v1/hidden', { id: 2 })).toMatchObject({
    status: 401,
    body: { code: '42501' },
  })
  const { error, status } = await api.client().from('parents').update({ name: 'x' })
  expect([status, error]).toMatchObject([400, { code: '21000' }])
})

test('42501 is 403 for a caller with a role of its own', async () => {
  const { data, error } = await api.client().auth.signUp({
    email: 'someone@example.com',
    password: 'secret-1',
  })
  expect(error).toBeNull()
  const response = await post(
    '/rest/v1/rpc/run',
    { statement: 'select * from public.hidden' },
    { authorization: `Bearer ${data.session?.access_token}` },
  )
  expect(response.status).toBe(403)
})

test('a write inside GET is refused with 405, a stable function reads only', async () => {
  const statement = encodeURIComponent("insert into public.parents values (3, 'three')")
  const read = await api.send(`/rest/v1/rpc/run?statement=${statement}`)
  expect([read.status, await read.json()]).toMatchObject([405, { code: '25006' }])
  const stable = await post('/rest/v1/rpc/is_read_only', {})
  expect(await stable.json()).toBe('on')
})

test('raise PGRST decides status, headers and body', async () => {
  const raise = (message: string, detail: string) =>
    post('/rest/v1/rpc/run', {
      statement: `do $do$ begin raise sqlstate 'PGRST' using message = '${message}', detail = '${detail}'; end $do$`,
    })
  const made = await raise(
    '{"code":"X1","message":"no","details":null,"hint":"try"}',
    '{"status":402,"headers":{"X-Why":"money"}}',
  )
  expect(made.status).toBe(402)
  expect(made.headers.get('x-why')).toBe('money')
  expect(await made.json()).toEqual({ code: 'X1', message: 'no', details: null, hint: 'try' })
  const broken = await raise('{"code":1}', '{}')
  expect([broken.status, await broken.json()]).toMatchObject([500, { code: 'PGRST121' }])
})
