import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { signToken } from '../keys.ts'
import { startTestApi, type TestApi } from './harness.ts'

let api: TestApi

beforeAll(async () => {
  api = await startTestApi({ schemas: ['public', 'other'], maxRows: 5 })
  await api.sql.unsafe(`
    create schema other;
    grant usage on schema other to anon;
    create type public.point_of as (x int, y int);
    create table public.things (id int primary key, name text, tags jsonb);
    insert into public.things select g, 'thing ' || g, jsonb_build_object('n', g) from generate_series(1, 12) g;
    create function public.add(a int, b int default 10) returns int language sql immutable as 'select a + b';
    create function public.same_json(value json) returns json language sql immutable as 'select value';
    create function public.same_jsonb(value jsonb) returns jsonb language sql immutable as 'select value';
    create function public.same_text(value text) returns text language sql immutable as 'select value';
    create function public.whole(json) returns json language sql immutable as 'select $1';
    create function public.whole_text(text) returns text language sql immutable as 'select upper($1)';
    create function public.whole_bytes(bytea) returns int language sql immutable as 'select length($1)';
    create function public.nothing() returns void language sql as 'select';
    create function public.no_value() returns int language sql as 'select null::int';
    create function public.one_point() returns public.point_of language sql as 'select 1, 2';
    create function public.two_out(in a int, out twice int, out thrice int) language sql as 'select a * 2, a * 3';
    create function public.list_things() returns setof public.things language sql stable security definer
      set search_path = '' as 'select * from public.things order by id';
    create function public.numbers(n int) returns setof int language sql as 'select generate_series(1, n)';
    create function public.pairs(n int) returns table (k int, v text) language sql as
      'select g, nullif(g::text, ''2'') from generate_series(1, n) g';
    create function public.sum_all(variadic items int[]) returns bigint language sql as
      'select sum(i) from unnest(items) i';
    create function public.over(a int) returns text language sql as 'select ''int''';
    create function public.over(a int, b int) returns text language sql as 'select ''two''';
    create function public.both_ways(a int) returns text language sql as 'select ''int''';
    create function public.both_ways(a text) returns text language sql as 'select ''text''';
    create function other.where_am_i() returns text language sql as $$ select current_setting('search_path') $$;
    create function public.setting(name text) returns text language sql as $$ select current_setting(name, true) $$;
    create function public.who() returns jsonb language sql as $$
      select jsonb_build_object('role', current_user, 'claims', auth.jwt(), 'session', session_user) $$;
    create function public.slow(seconds float) returns void language sql as 'select pg_sleep(seconds)';
    create function public.slow_allowed() returns text language sql set statement_timeout = '20s' as
      $$ select current_setting('statement_timeout') $$;
    create function public.isolation() returns text language sql set default_transaction_isolation = 'serializable' as
      $$ select current_setting('transaction_isolation') $$;
    create function public.respond(status text, headers text) returns text language plpgsql as $$
    begin
      perform set_config('response.status', status, true), set_config('response.headers', headers, true);
      return 'done';
    end $$;
    create table public.notes (id int generated always as identity, body text);
    create function public.add_notes(n int) returns setof public.notes language sql security definer
      set search_path = '' as
      $$ insert into public.notes (body) select 'note' from generate_series(1, n) returning * $$;`)
})

afterAll(() => api.stop())

async function call(name: string, body: unknown, headers: Record<string, string> = {}) {
  const response = await api.send(`/rest/v1/rpc/${name}`, {
    method: 'POST',
    body: typeof body === 'string' ? body : JSON.stringify(body),
    headers: { 'content-type': 'application/json', ...headers },
  })
  const text = await response.text()
  return {
    status: response.status,
    headers: response.headers,
    text,
    body: text && JSON.parse(text),
  }
}

describe('what a function returns', () => {
  test('scalars, null, void, composites and out parameters', async () => {
    const client = api.client()
    expect(await client.rpc('add', { a: 1, b: 2 })).toMatchObject({ data: 3, status: 200 })
    expect((await client.rpc('no_value')).data).toBeNull()
    expect(await call('nothing', {})).toMatchObject({ status: 204, text: '' })
    expect((await client.rpc('one_point')).data).toEqual({ x: 1, y: 2 })
    expect((await client.rpc('two_out', { a: 5 })).data).toEqual({ twice: 10, thrice: 15 })
  })

  test('sets of scalars and rows, never more than max_rows', async () => {
    const client = api.client()
    expect((await client.rpc('numbers', { n: 3 })).data).toEqual([1, 2, 3])
    expect((await client.rpc('pairs', { n: 2 })).data).toEqual([
      { k: 1, v: '1' },
      { k: 2, v: null },
    ])
    expect((await client.rpc('list_things')).data).toHaveLength(5)
    expect((await client.rpc('numbers', { n: 0 })).data).toEqual([])
  })

  test('select, filters, order, range and count shape a set', async () => {
    const { data, count, status } = await api
      .client()
      .rpc('list_things', {}, { count: 'exact' })
      .select('id, label:name')
      .gt('id', 2)
      .not('id', 'in', '(4,5)')
      .order('id', { ascending: false })
      .range(1, 2)
    expect([data, count, status]).toEqual([
      [
        { id: 11, label: 'thing 11' },
        { id: 10, label: 'thing 10' },
      ],
      8,
      206,
    ])
    const beyond = await call('list_things?offset=90', {}, { prefer: 'count=exact' })
    expect(beyond).toMatchObject({ status: 416, body: { code: 'PGRST103' } })
    const range = await api.send('/rest/v1/rpc/list_things', { headers: { range: '2-3' } })
    expect(range.headers.get('content-range')).toBe('2-3/*')
  })

  test('head counts without a body', async () => {
    const { data, count } = await api
      .client()
      .rpc('list_things', {}, { head: true, count: 'exact' })
    expect([data, count]).toEqual([null, 12])
  })

  test('a single object is exactly one row, else nothing is written', async () => {
    const client = api.client()
    expect((await client.rpc('add_notes', { n: 1 }).single()).data).toMatchObject({ body: 'note' })
    const { error, status } = await client.rpc('add_notes', { n: 2 }).single()
    expect([status, error]).toMatchObject([
      406,
      { code: 'PGRST116', details: 'The result contains 2 rows' },
    ])
    expect((await api.sql`select from public.notes`).count).toBe(1)
    expect((await client.rpc('add_notes', { n: 0 }).maybeSingle()).error).toBeNull()
  })

  test('nulls=stripped leaves null fields out', async () => {
    const accept = 'application/vnd.pgrst.array+json;nulls=stripped'
    expect((await call('pairs', { n: 2 }, { accept })).body).toEqual([{ k: 1, v: '1' }, { k: 2 }])
  })

  test('response.status and response.headers are obeyed', async () => {
    const made = await call('respond', { status: '202', headers: '[{"X-A":"1"}]' })
    expect(made).toMatchObject({ status: 202, text: '"done"' })
    expect(made.headers.get('x-a')).toBe('1')
    const bad = await call('respond', { status: 'x', headers: '[]' })
    expect(bad).toMatchObject({ status: 500, body: { code: 'PGRST112' } })
    const worse = await call('respond', { status: '', headers: '{}' })
    expect(worse).toMatchObject({ status: 500, body: { code: 'PGRST111' } })
  })
})

describe('arguments', () => {
  const values = [
    null,
    true,
    0,
    -1.5e300,
    '',
    'text with "quotes", \'apostrophes\', \\backslashes\\ and \u2028 umlauts äöü 🙂',
    '{"not":"parsed"}',
    [],
    [1, [2, [null]], 'x'],
    {},
    { a: { b: [1, { c: null }] }, '': 'empty key', "k'ey": 1 },
  ]
  test.each(values.map((value) => [value]))(
    '%j is the same after json and jsonb',
    async (value) => {
      const client = api.client()
      expect((await client.rpc('same_json', { value })).data).toEqual(value)
      expect((await client.rpc('same_jsonb', { value })).data).toEqual(value)
    },
  )

  test('numbers beyond doubles and key order survive as json', async () => {
    const { text } = await call('same_json', '{"value":{"b":12345678901234567890.123,"a":1}}')
    expect(text).toBe('{"b":12345678901234567890.123,"a":1}')
  })

  test('a single unnamed parameter takes the whole body', async () => {
    expect((await call('whole', [1, { a: 2 }])).body).toEqual([1, { a: 2 }])
    const plain = await call('whole_text', "it's", { 'content-type': 'text/plain' })
    expect(plain.body).toBe("IT'S")
    const bytes = await call('whole_bytes', 'abc', { 'content-type': 'application/octet-stream' })
    expect(bytes.body).toBe(3)
  })

  test('come from the query string on GET, variadic ones repeated', async () => {
    const client = api.client()
    expect((await client.rpc('add', { a: 4 }, { get: true })).data).toBe(14)
    const sum = await api.send('/rest/v1/rpc/sum_all?items=1&items=2&items=3')
    expect(await sum.json()).toBe(6)
    expect((await call('sum_all', { items: [1, 2] })).body).toBe(3)
  })

  test('come from a form', async () => {
    const type = { 'content-type': 'application/x-www-form-urlencoded' }
    expect((await call('add', 'a=1&b=4', type)).body).toBe(5)
  })

  test('choose among overloads', async () => {
    expect((await call('over', { a: 1 })).body).toBe('int')
    expect((await call('over', { a: 1, b: 2 })).body).toBe('two')
    expect(await call('both_ways', { a: 1 })).toMatchObject({
      status: 300,
      body: {
        code: 'PGRST203',
        message:
          'Could not choose the best candidate function between: ' +
          'public.both_ways(a => integer), public.both_ways(a => text)',
      },
    })
  })

  test('that fit no function give PGRST202 with a hint', async () => {
    expect(await call('ad', { a: 1 })).toMatchObject({
      status: 404,
      body: {
        code: 'PGRST202',
        message: 'Could not find the function public.ad(a) in the schema cache',
        details:
          'Searched for the function public.ad with parameter a or with a single unnamed ' +
          'json/jsonb parameter, but no matches were found in the schema cache.',
        hint: 'Perhaps you meant to call the function public.add',
      },
    })
    const wrongArgument = await call('add', { a: 1, c: 2 })
    expect(wrongArgument.body.hint).toBe('Perhaps you meant to call the function public.add(a, b)')
    expect((await call('no_such_thing_at_all', {})).body.hint).toBeNull()
  })
})

describe('bad input', () => {
  test('invalid JSON, wrong types, NUL, lone surrogates and depth have stable codes', async () => {
    const cases: [name: string, body: string, status: number, code: string][] = [
      ['add', '{"a":', 400, 'PGRST102'],
      ['add', '{"a":"x"}', 400, '22P02'],
      ['same_text', '{"value":"a\\u0000b"}', 400, '22P05'],
      ['same_jsonb', '{"value":"a\\u0000b"}', 400, '22P05'],
      ['same_jsonb', '{"value":"\\ud800"}', 400, '22P02'],
      ['same_text', '{"value":"\\udc00\\ud800"}', 400, '22P02'],
      ['same_jsonb', `{"value":${'['.repeat(50_000)}${']'.repeat(50_000)}}`, 500, '54001'],
    ]
    for (const [name, body, status, code] of cases) {
      expect(await call(name, body), body.slice(0, 40)).toMatchObject({ status, body: { code } })
    }
    const nul = await api.send('/rest/v1/rpc/same_text?value=a%00b')
    expect([nul.status, await nul.json()]).toMatchObject([400, { code: '22021' }])
    const latin = await api.send('/rest/v1/rpc/add', {
      method: 'POST',
      body: new Uint8Array([0x22, 0xff, 0x22]),
      headers: { 'content-type': 'application/json' },
    })
    expect([latin.status, await latin.json()]).toMatchObject([400, { code: 'PGRST102' }])
  })

  test('10 MB pass, more than 20 MB are refused with 413', async () => {
    const value = 'x'.repeat(10_000_000)
    expect((await call('same_text', { value })).body).toBe(value)
    expect(await call('same_text', { value: value.repeat(2) })).toMatchObject({
      status: 413,
      body: { code: 'PAYLOAD_TOO_LARGE' },
    })
  })

  test('unknown schema, method, media type and path', async () => {
    expect(await call('add', { a: 1 }, { 'content-profile': 'secret' })).toMatchObject({
      status: 406,
      body: { code: 'PGRST106' },
    })
    expect((await api.send('/rest/v1/rpc/add', { method: 'DELETE' })).status).toBe(405)
    expect(await call('add', { a: 1 }, { accept: 'image/png' })).toMatchObject({
      status: 406,
      body: { code: 'PGRST107' },
    })
    for (const path of ['add/more', '%']) {
      expect(await call(path, {})).toMatchObject({ status: 404, body: { code: 'PGRST125' } })
    }
  })
})

describe('on whose behalf', () => {
  test('the key gives the role, a user token wins, and the claims arrive', async () => {
    expect((await api.client().rpc('who')).data).toMatchObject({
      role: 'anon',
      session: 'authenticator',
    })
    expect((await api.client(api.keys.secretKey).rpc('who')).data.role).toBe('service_role')
    const claims = { role: 'authenticated', sub: crypto.randomUUID(), extra: "it's" }
    const token = await signToken(claims, api.keys.jwtSecret)
    const authorization = `Bearer ${token}`
    expect((await call('who', {}, { authorization })).body).toMatchObject({
      role: 'authenticated',
      claims,
    })
  })

  test('tokens that are expired, forged, broken or of an unknown role', async () => {
    const expired = await signToken({ role: 'authenticated' }, api.keys.jwtSecret, -10)
    const forged = await signToken({ role: 'service_role' }, 'another secret of many characters')
    const stranger = await signToken({ role: 'nobody_knows' }, api.keys.jwtSecret)
    const superuser = await signToken({ role: 'supabase_admin' }, api.keys.jwtSecret)
    const cases: [token: string, status: number, code: string][] = [
      [expired, 401, 'PGRST303'],
      [forged, 401, 'PGRST301'],
      ['nonsense', 401, 'PGRST301'],
      [stranger, 401, '22023'],
      [superuser, 403, '42501'],
    ]
    for (const [token, status, code] of cases) {
      const result = await call('add', { a: 1 }, { authorization: `Bearer ${token}` })
      expect([result.status, result.body.code]).toEqual([status, code])
    }
  })

  test('search_path, request settings and nothing of the request before', async () => {
    const client = api.client()
    expect((await client.schema('other').rpc('where_am_i')).data).toBe(
      '"other", "public", "extensions"',
    )
    expect((await client.rpc('setting', { name: 'request.path' })).data).toBe('/rpc/setting')
    expect((await client.rpc('setting', { name: 'request.method' })).data).toBe('POST')
    const { body } = await call('setting', { name: 'request.headers' }, { 'x-mine': 'a"b' })
    expect(JSON.parse(body)['x-mine']).toBe('a"b')
    await call('respond', { status: '201', headers: '[]' })
    expect((await call('add', { a: 1 })).status).toBe(200)
  })

  test('timeouts by role, and those a function sets for itself', async () => {
    const client = api.client()
    const setting = { name: 'statement_timeout' }
    expect((await client.rpc('setting', setting)).data).toBe('3s')
    expect((await api.client(api.keys.secretKey).rpc('setting', setting)).data).toBe('8s')
    expect((await client.rpc('slow_allowed')).data).toBe('20s')
    expect((await client.rpc('isolation')).data).toBe('serializable')
    const { error, status } = await client.rpc('slow', { seconds: 30 })
    expect([status, error?.code]).toEqual([500, '57014'])
  })
})

describe('the schema cache', () => {
  test('knows a new function at once, and forgets a dropped one within a second', async () => {
    await api.sql.unsafe(
      `create function public.fresh() returns text language sql as $$ select 'new' $$`,
    )
    expect((await call('fresh', {})).body).toBe('new')
    await api.sql.unsafe('drop function public.fresh()')
    const forgotten = async () => (await call('fresh', {})).body.code
    await expect.poll(forgotten, { timeout: 1000 }).toBe('PGRST202')
  })

  test('a serialization failure is tried again', async () => {
    await api.sql.unsafe(`
      create sequence public.tries;
      create function public.sometimes() returns bigint language plpgsql security definer
        set search_path = '' as $$
      begin
        if nextval('public.tries') < 3 then raise sqlstate '40001'; end if;
        return currval('public.tries');
      end $$;`)
    expect((await call('sometimes', {})).body).toBe(3)
  })
})
