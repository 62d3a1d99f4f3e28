import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createClient, type SupabaseClient } from '@supabase/supabase-js'
import postgres from 'postgres'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Stack, type StackOptions, startStack } from './index.ts'
import { signToken } from './keys.ts'

const folder = mkdtempSync(join(tmpdir(), 'supabase-stack-'))
const projectDir = join(folder, 'project')
const home = join(folder, 'home')
const lines: string[] = []
const options: StackOptions = {
  projectDir,
  home,
  ports: { api: 0, db: 0, practice: 0 },
  env: { GREETING: 'hello' },
  vault: { password: "it's secret" },
  durable: false,
  log: (line) => lines.push(line),
}
let stack: Stack

function write(path: string, text: string): void {
  const file = join(projectDir, 'supabase', path)
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, text)
}

function client(key = stack.keys.publishableKey): SupabaseClient {
  return createClient(stack.urls.api, key, { auth: { persistSession: false } })
}

beforeAll(async () => {
  write('config.toml', '[functions.open]\nverify_jwt = false\n')
  write(
    'migrations/20260101000000_base.sql',
    `create table public.visits (id bigint generated always as identity, who text);
     grant select, insert on public.visits to anon;
     create function public.shout() returns void language sql security definer
       set search_path = '' as $$ select realtime.send('{"a":1}', 'shout', 'room', false) $$;
     create function public.call_me(url text) returns bigint language sql security definer
       set search_path = '' as $$ select net.http_post(url) $$;`,
  )
  write('seed.sql', `insert into public.visits (who) values ('seed');`)
  const echo = `export default { fetch: (request: Request) => Response.json({
    path: new URL(request.url).pathname,
    greeting: Deno.env.get('GREETING'),
    keys: JSON.parse(Deno.env.get('SUPABASE_SECRET_KEYS') ?? '{}'),
    url: Deno.env.get('SUPABASE_URL'),
  }) }`
  write('functions/open/index.ts', echo)
  write('functions/closed/index.ts', echo)
  stack = await startStack(options)
})

afterAll(async () => {
  await stack.stop()
  rmSync(folder, { recursive: true, force: true })
})

test('stack.json tells others where it is, for its owner only', () => {
  const file = join(home, 'stack.json')
  expect(JSON.parse(readFileSync(file, 'utf8'))).toEqual({
    pid: process.pid,
    urls: stack.urls,
    keys: { publishableKey: stack.keys.publishableKey, secretKey: stack.keys.secretKey },
  })
  expect(statSync(file).mode & 0o777).toBe(0o600)
})

test('a second start in the same home names the process that runs', async () => {
  await expect(startStack(options)).rejects.toMatchObject({
    code: 'STACK_RUNNING',
    message: `Cannot start in "${home}": process ${process.pid} runs a stack there -> stop it first`,
  })
  expect((await client().from('visits').select()).error).toBeNull()
})

test('migrations, seed and Vault are there', async () => {
  expect((await client().from('visits').select('who')).data).toEqual([{ who: 'seed' }])
  const sql = postgres(stack.urls.db, { max: 1 })
  expect(await sql`select name, decrypted_secret from vault.decrypted_secrets`).toEqual([
    { name: 'password', decrypted_secret: "it's secret" },
  ])
  await sql.end()
})

test('functions have their environment, and JWT checks with the hosted answers', async () => {
  const { data, error } = await client().functions.invoke('open')
  expect(error).toBeNull()
  expect(data).toEqual({
    path: '/open',
    greeting: 'hello',
    keys: { default: stack.keys.secretKey },
    url: stack.urls.api,
  })
  const refusals: [authorization: string | null, code: string][] = [
    [null, 'UNAUTHORIZED_NO_AUTH_HEADER'],
    [`Bearer ${stack.keys.publishableKey}`, 'UNAUTHORIZED_INVALID_JWT_FORMAT'],
    [`Bearer ${await signToken({ role: 'anon' }, 'x'.repeat(32))}`, 'UNAUTHORIZED_LEGACY_JWT'],
  ]
  for (const [authorization, code] of refusals) {
    const headers = new Headers(authorization ? { authorization } : {})
    const response = await fetch(`${stack.urls.functions}/closed`, { headers })
    expect([response.status, response.headers.get('sb-error-code')]).toEqual([401, code])
    const { message } = await response.clone().json()
    expect(await response.json()).toEqual({ code, message, msg: message })
  }
  const token = await signToken({ role: 'authenticated' }, stack.keys.jwtSecret)
  const authorization = `Bearer ${token}`
  const response = await fetch(`${stack.urls.functions}/closed/deep`, {
    headers: { authorization },
  })
  expect(await response.json()).toMatchObject({ path: '/closed/deep' })
})

test('broadcasts from the database reach clients, and requests of the database functions', async () => {
  const supabase = client()
  const heard = Promise.withResolvers<unknown>()
  await new Promise<void>((settle, refuse) => {
    supabase
      .channel('room')
      .on('broadcast', { event: 'shout' }, ({ payload }) => heard.resolve(payload))
      .subscribe((status, cause) => {
        if (status === 'SUBSCRIBED') settle()
        else if (cause) refuse(cause)
      })
  })
  await supabase.rpc('shout')
  expect(await heard.promise).toMatchObject({ a: 1 })
  await supabase.removeAllChannels()

  expect((await supabase.rpc('call_me', { url: `${stack.urls.functions}/open` })).error).toBeNull()
  const sql = postgres(stack.postgres.server().adminUrl, { max: 1 })
  await expect
    .poll(async () => (await sql`select status_code from net._http_response`)[0]?.status_code, {
      timeout: 5000,
    })
    .toBe(200)
  await sql.end()
})

test('practice models answer', async () => {
  const response = await fetch(`${stack.urls.practice}/v1/models`, {
    headers: { 'x-api-key': 'k' },
  })
  expect(response.status).toBe(200)
})

test('a killed Postgres comes back, and everything finds it', async () => {
  const before = stack.postgres.server().pid
  const supabase = client()
  const busy = Array.from({ length: 8 }, async () => {
    for (let call = 0; call < 20; call += 1) {
      await supabase.from('visits').select().limit(1)
      await supabase.rpc('shout')
      await supabase.auth.signInWithPassword({ email: 'nobody@example.com', password: 'none' })
    }
  })
  await Promise.race(busy.map(() => supabase.rpc('shout')))
  process.kill(before, 'SIGKILL')
  await Promise.all(busy)
  await expect
    .poll(async () => (await client().from('visits').insert({ who: 'after' })).status, {
      timeout: 15_000,
    })
    .toBe(201)
  expect(stack.postgres.server().pid).not.toBe(before)
  const sql = postgres(stack.urls.db, { max: 1 })
  await sql`create function public.later() returns int language sql as 'select 7'`
  await sql.end()
  await expect.poll(async () => (await client().rpc('later')).data, { timeout: 5000 }).toBe(7)
})

test('stops cleanly and continues with the same data and keys', async () => {
  const { keys } = stack
  const user = await client().auth.signUp({ email: 'ann@example.com', password: 'secret-1' })
  expect(user.error).toBeNull()
  const listener = client()
  await new Promise<void>((settle) => {
    listener.channel('open').subscribe((status) => status === 'SUBSCRIBED' && settle())
  })
  await stack.stop()
  await listener.removeAllChannels()
  expect(() => statSync(join(home, 'stack.json'))).toThrow('ENOENT')
  stack = await startStack(options)
  expect(stack.keys).toEqual(keys)
  expect((await client().from('visits').select('who')).data).toEqual([
    { who: 'seed' },
    { who: 'after' },
  ])
  const again = await client().auth.signInWithPassword({
    email: 'ann@example.com',
    password: 'secret-1',
  })
  expect(again.data.user?.id).toBe(user.data.user?.id)
})
