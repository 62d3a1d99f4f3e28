import { request } from 'node:http'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Console, startConsole } from './console.ts'

let served: Console

beforeAll(async () => {
  served = await startConsole({
    port: 0,
    apiUrl: 'https://project.supabase.co',
    publishableKey: 'sb_publishable_x',
    projectDir: join(import.meta.dirname, '../../..'),
  })
})

afterAll(() => served.stop())

test('every address of a view is the app, under a policy that names one API', async () => {
  for (const path of ['/', '/inbox', '/cards/7?x=1']) {
    const response = await fetch(served.url + path)
    expect(response.status).toBe(200)
    expect(response.headers.get('content-type')).toBe('text/html; charset=utf-8')
    expect(response.headers.get('x-content-type-options')).toBe('nosniff')
    expect(response.headers.get('cache-control')).toBe('no-cache')
    expect(response.headers.get('content-security-policy')).toContain(
      "connect-src 'self' https://project.supabase.co wss://project.supabase.co;",
    )
    expect(await response.text()).toContain('<div id="root">')
  }
})

test('assets keep their type and may be kept', async () => {
  const page = await (await fetch(served.url)).text()
  const assets = [...page.matchAll(/(?:src|href)="(\/assets\/[^"]+)"/g)].map(([, path]) => path)
  const types = await Promise.all(
    assets.map(async (path) => {
      const { headers } = await fetch(`${served.url}${path}`)
      expect(headers.get('cache-control')).toContain('immutable')
      return headers.get('content-type')
    }),
  )
  expect(types.sort()).toEqual(['text/css; charset=utf-8', 'text/javascript; charset=utf-8'])
})

test('the app learns from config.json where the API is', async () => {
  expect(await (await fetch(`${served.url}/config.json`)).json()).toEqual({
    apiUrl: 'https://project.supabase.co',
    publishableKey: 'sb_publishable_x',
  })
})

test.each([
  ['GET', '/assets/gone.js', 404],
  ['GET', '/../package.json', 404],
  ['GET', '/%2e%2e/package.json', 404],
  ['POST', '/inbox', 405],
  ['HEAD', '/inbox', 200],
])('%s %s is answered %i', async (method, path, status) => {
  const { port } = new URL(served.url)
  const answered = await new Promise<number | undefined>((settle, refuse) => {
    // fetch would tidy the path before sending it.
    request({ host: '127.0.0.1', port, path, method }, (response) => {
      response.resume()
      settle(response.statusCode)
    })
      .once('error', refuse)
      .end()
  })
  expect(answered).toBe(status)
})
