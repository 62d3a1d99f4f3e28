import { afterAll, beforeAll, expect, test } from 'vitest'
import { startTestApi, type TestApi } from './rest/harness.ts'

let api: TestApi

beforeAll(async () => {
  api = await startTestApi()
  await api.sql.unsafe(`create function public.hi() returns text language sql as $$ select 'hi' $$`)
})

afterAll(() => api.stop())

test.each([
  '/rest/v1/rpc/hi',
  '/rest/v1/things',
  '/auth/v1/settings',
  '/realtime/v1/api/broadcast',
])('%s needs a key', async (path) => {
  const none = await fetch(api.url + path)
  expect([none.status, none.headers.get('sb-error-code'), await none.json()]).toEqual([
    401,
    'UNAUTHORIZED_MISSING_API_KEY',
    {
      message: 'No API key found in request',
      hint: 'No `apikey` request header or url param was found.',
    },
  ])
  const wrong = await fetch(api.url + path, { headers: { apikey: 'sb_publishable_wrong' } })
  expect([wrong.status, await wrong.json()]).toMatchObject([401, { message: 'Invalid API key' }])
  expect(wrong.headers.get('access-control-allow-origin')).toBe('*')
})

test('the key may come in the query', async () => {
  const response = await fetch(`${api.url}/rest/v1/rpc/hi?apikey=${api.keys.publishableKey}`)
  expect(await response.json()).toBe('hi')
})

test('a browser may not use the secret key', async () => {
  const headers = { apikey: api.keys.secretKey, 'user-agent': 'Mozilla/5.0 (X11)' }
  expect((await fetch(`${api.url}/rest/v1/rpc/hi`, { headers })).status).toBe(401)
})

test('browsers on other origins may ask and read', async () => {
  const preflight = await fetch(`${api.url}/rest/v1/rpc/hi`, {
    method: 'OPTIONS',
    headers: {
      origin: 'http://app.example',
      'access-control-request-method': 'POST',
      'access-control-request-headers': 'apikey, x-client-info',
    },
  })
  expect(preflight.status).toBe(200)
  expect(preflight.headers.get('access-control-allow-headers')).toBe('apikey, x-client-info')
  expect(preflight.headers.get('access-control-allow-methods')).toContain('PATCH')
  const response = await api.send('/rest/v1/rpc/hi', { headers: { origin: 'http://app.example' } })
  expect(response.headers.get('access-control-allow-origin')).toBe('*')
  expect(response.headers.get('access-control-expose-headers')).toContain('Content-Range')
})

test('health, unknown routes and functions that are not there', async () => {
  expect(await (await fetch(`${api.url}/health`)).json()).toEqual({ healthy: true })
  expect((await fetch(`${api.url}/nowhere`)).status).toBe(404)
  const missing = await fetch(`${api.url}/functions/v1/nothing`, { method: 'POST', body: '{}' })
  expect([missing.status, await missing.text()]).toEqual([404, 'Function not found'])
})
