import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { WebSocketServer } from 'ws'
import { alive, eventually, type TestProject, testProject } from './testing.ts'
import { unauthorized } from './unauthorized.ts'

const files = {
  'config.toml': `
    [edge_runtime.secrets]
    SECRET = "of the project"
    SUPABASE_URL = "reserved"
    [functions.locked]
    [functions.off]
    enabled = false
    ${['background', 'boot', 'echo', 'fault', 'listen', 'sandbox', 'socket', 'stream']
      .map((slug) => `[functions.${slug}]\nverify_jwt = false`)
      .join('\n')}
    [functions.echo.env]
    MODE = "night"`,
  'functions/background/index.ts': `
    export default {
      fetch(request: Request) {
        const url = new URL(request.url).searchParams.get('url')!
        EdgeRuntime.waitUntil(fetch(url).then((response) => response.text()))
        return new Response('accepted', { status: 202 })
      },
    }`,
  'functions/boot/index.ts': `throw new Error('cannot begin')`,
  'functions/echo/deno.json': '{ "imports": { "answer": "./answer.ts" } }',
  'functions/echo/answer.ts': 'export const greeting: string = "hello"',
  'functions/echo/index.ts': `
    import { greeting } from 'answer'
    console.log('booted')
    export default {
      async fetch(request: Request) {
        console.error('line one\\nline two')
        const headers = new Headers([['set-cookie', 'a=1'], ['set-cookie', 'b=2'], ['x-own', 'yes']])
        const { method, url } = request
        const agent = request.headers.get('x-agent')
        return Response.json(
          { greeting, method, url, agent, body: await request.text(), env: Deno.env.toObject() },
          { status: 201, headers },
        )
      },
    }`,
  'functions/fault/index.ts': `
    Deno.serve(async (request) => {
      const how = new URL(request.url).pathname.split('/')[2]
      if (how === 'throw') throw new Error('uncaught')
      if (how === 'nothing') return undefined as unknown as Response
      if (how === 'own') return new Response('mine', { status: 500 })
      if (how === 'reject') Promise.reject(new Error('unhandled'))
      await new Promise(() => {})
      return new Response()
    })`,
  'functions/listen/index.ts': `
    const server = Deno.serve({ port: 8000, onListen: ({ port }) => console.log('port', port) }, (request) => {
      if (request.method === 'DELETE') throw new Error('refused')
      return new Response('served')
    })
    console.log(typeof server.finished.then, typeof server.shutdown)`,
  'functions/locked/index.ts': `Deno.serve(() => new Response('open'))`,
  'functions/sandbox/index.ts': `
    const attempt = async (name: string, act: () => unknown) => {
      try { await act(); return [name, 'allowed'] } catch (error) { return [name, (error as Error).name] }
    }
    const outside = new URL('../echo/index.ts', import.meta.url)
    export default {
      fetch: async () => {
        Deno.exit(3)
        Deno.kill(Deno.pid)
        const made = await Deno.makeTempFile()
        await Deno.writeTextFile(made, 'kept')
        return Response.json(Object.fromEntries([
          await attempt('read', () => Deno.readTextFile(outside)),
          await attempt('read system', () => Deno.readTextFile('/etc/passwd')),
          await attempt('write', () => Deno.writeTextFile('/tmp/outside.txt', 'x')),
          await attempt('run', () => new Deno.Command('/bin/ls').output()),
          await attempt('ffi', () => Deno.dlopen('/lib/none.so', {})),
          await attempt('import', () => import('/etc/' + 'hosts.json')),
          await attempt('worker', () => new Worker('data:,')),
          await attempt('temporary file', async () => { if (await Deno.readTextFile(made) !== 'kept') throw Error() }),
        ]))
      },
    }`,
  'functions/socket/index.ts': `
    export default {
      fetch(request: Request) {
        const socket = new WebSocket(new URL(request.url).searchParams.get('url')!)
        socket.onopen = () => socket.send('ping')
        return new Promise((resolve) => {
          socket.onmessage = ({ data }) => { socket.close(); resolve(new Response(data)) }
        })
      },
    }`,
  'functions/stream/index.ts': `export default { fetch: (request: Request) => new Response(request.body) }`,
}

let project: TestProject

beforeAll(() => {
  process.env.HOST_ONLY = 'must not leak'
  project = testProject(files, {
    env: { GIVEN: 'to all', SUPABASE_URL: 'http://stack.test:54321' },
    authorize: async (request) =>
      request.headers.get('authorization') === 'Bearer good'
        ? null
        : unauthorized('UNAUTHORIZED_NO_AUTH_HEADER'),
  })
})

afterAll(() => project.stop())

/** A server that answers each request when the test lets it. */
async function gate() {
  const open: (() => void)[] = []
  const server = createServer((_request, response) => open.push(() => response.end('let in')))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return { open, url: `http://127.0.0.1:${port}/`, close: () => server.close() }
}

test('a default export gets the request and answers as it is', async () => {
  const response = await project.call('echo/deep/path?q=1', {
    method: 'PUT',
    headers: { 'x-agent': 'test' },
    body: 'ä body',
  })
  expect(response.status).toBe(201)
  expect(response.headers.get('x-own')).toBe('yes')
  expect(response.headers.getSetCookie()).toEqual(['a=1', 'b=2'])
  expect(await response.json()).toMatchObject({
    greeting: 'hello',
    method: 'PUT',
    url: 'http://stack.test:54321/echo/deep/path?q=1',
    agent: 'test',
    body: 'ä body',
  })
  const written = ['[echo] booted', '[echo] line one', '[echo] line two']
  await eventually(() => written.every((line) => project.lines.includes(line)))
})

test('a function sees the given environment and nothing of the host', async () => {
  const { env } = await (await project.call('echo')).json()
  expect(env).toEqual({
    GIVEN: 'to all',
    MODE: 'night',
    SB_EXECUTION_ID: expect.any(String),
    SECRET: 'of the project',
    SUPABASE_FUNCTION_SLUG: 'echo',
    SUPABASE_URL: 'http://stack.test:54321',
    TMPDIR: expect.any(String),
  })
})

test('requests share a worker', async () => {
  const before = await (await project.call('echo')).json()
  const all = await Promise.all(Array.from({ length: 8 }, () => project.call('echo')))
  for (const response of all) {
    const { env } = await response.json()
    expect(env.SB_EXECUTION_ID).toBe(before.env.SB_EXECUTION_ID)
  }
  expect(project.workers().filter(({ slug }) => slug === 'echo')).toHaveLength(1)
})

test('Deno.serve is served, wherever it says it listens', async () => {
  expect(await (await project.call('listen')).text()).toBe('served')
  expect(project.lines).toContain('[listen] port 9999')
  expect(project.lines).toContain('[listen] function function')
  expect((await project.call('listen', { method: 'DELETE' })).status).toBe(500)
})

test('what the hosted runtime forbids is forbidden', async () => {
  expect(await (await project.call('sandbox')).json()).toEqual({
    read: 'NotCapable',
    'read system': 'NotCapable',
    write: 'NotCapable',
    run: 'NotCapable',
    ffi: 'NotCapable',
    import: 'TypeError',
    worker: 'ReferenceError',
    'temporary file': 'allowed',
  })
})

test('a background promise outlives the response', async () => {
  const server = await gate()
  const response = await project.call(`background?url=${server.url}`)
  expect([response.status, await response.text()]).toEqual([202, 'accepted'])
  await eventually(() => server.open.length === 1)
  project.reload('background')
  const [worker] = project.workers().filter(({ slug }) => slug === 'background')
  expect(worker?.retired).toBe(true)
  expect(alive(worker?.pid ?? 0)).toBe(true)
  server.open[0]?.()
  await eventually(() => !alive(worker?.pid ?? 0))
  server.close()
})

test('verify_jwt asks authorize, except for OPTIONS', async () => {
  const refused = await project.call('locked')
  expect(refused.status).toBe(401)
  expect(refused.headers.get('sb-error-code')).toBe('UNAUTHORIZED_NO_AUTH_HEADER')
  expect(await refused.json()).toEqual({
    code: 'UNAUTHORIZED_NO_AUTH_HEADER',
    message: 'Missing authorization header',
    msg: 'Missing authorization header',
  })
  const headers = { authorization: 'Bearer good' }
  expect(await (await project.call('locked', { headers })).text()).toBe('open')
  expect((await project.call('locked', { method: 'OPTIONS' })).status).toBe(200)
})

test('an unknown or disabled function is not found', async () => {
  for (const slug of ['unknown', 'off', 'constructor']) {
    const response = await project.call(slug)
    expect([response.status, await response.text()]).toEqual([404, 'Function not found'])
  }
})

async function expectBootError(response: Response): Promise<void> {
  expect(response.status).toBe(503)
  expect(response.headers.get('sb-error-code')).toBe('BOOT_ERROR')
  expect(await response.json()).toEqual({
    code: 'BOOT_ERROR',
    message: 'Function failed to start (please check logs)',
  })
}

test('a function that fails to start answers BOOT_ERROR', async () => {
  await expectBootError(await project.call('boot'))
  expect(project.lines.join('\n')).toContain(
    '[boot] error: Uncaught (in promise) Error: cannot begin',
  )
})

test('a module without a handler answers BOOT_ERROR', async () => {
  const silent = testProject(
    { 'functions/silent/index.ts': 'export const handler = 1' },
    { limits: { bootMs: 400 } },
  )
  await expectBootError(await silent.call('silent'))
  expect(silent.lines.join('\n')).toContain('[silent] No handler within 400 ms')
  await silent.stop()
})

test('an uncaught error answers WORKER_ERROR and the worker goes on', async () => {
  for (const path of ['fault/throw', 'fault/nothing']) {
    const response = await project.call(path)
    expect(response.status).toBe(500)
    expect(response.headers.get('sb-error-code')).toBe('WORKER_ERROR')
    expect(await response.json()).toMatchObject({ code: 'WORKER_ERROR' })
  }
  const own = await project.call('fault/own')
  expect(await own.text()).toBe('mine')
  expect(own.headers.get('sb-error-code')).toBe('EDGE_FUNCTION_ERROR')
  expect(project.workers().filter(({ slug }) => slug === 'fault')).toHaveLength(1)
})

test('an unhandled rejection ends the worker and what shares it, and the next request is served', async () => {
  const hanging = project.call('fault/hang')
  await eventually(() => project.workers().some(({ slug }) => slug === 'fault'))
  const responses = await Promise.all([hanging, project.call('fault/reject')])
  expect(responses.map(({ status }) => status)).toEqual([500, 500])
  expect((await project.call('fault/own')).status).toBe(500)
  expect(project.lines.join('\n')).toContain('Error: unhandled')
})

test('a killed worker fails its open requests and is replaced at the next one', async () => {
  const hanging = project.call('fault/hang')
  const worker = await eventually(() =>
    project.workers().find(({ slug, requests }) => slug === 'fault' && requests > 0),
  )
  await project.call('fault/own')
  process.kill(worker.pid, 'SIGKILL')
  const response = await hanging
  expect(response.status).toBe(500)
  expect(await response.json()).toMatchObject({ code: 'WORKER_ERROR' })
  expect(await (await project.call('fault/own')).text()).toBe('mine')
  expect(project.workers().filter(({ pid }) => pid === worker.pid)).toEqual([])
})

test('a request to a worker whose death is not known yet is served by a new one', async () => {
  await (await project.call('listen')).text()
  const [worker] = project.workers().filter(({ slug }) => slug === 'listen')
  process.kill(worker?.pid ?? 0, 'SIGKILL')
  // Blocks this thread, so that the process is gone before the host can hear of it.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100)
  const response = await project.call('listen', { method: 'POST', body: 'once' })
  expect(await response.text()).toBe('served')
})

test('bodies stream both ways', async () => {
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>()
  const writer = writable.getWriter()
  const response = await Promise.all([
    project.call('stream', { method: 'POST', body: readable, duplex: 'half' } as RequestInit),
    writer.write(new TextEncoder().encode('one')),
  ]).then(([first]) => first)
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader()
  expect(await reader?.read()).toEqual({ done: false, value: 'one' })
  await writer.write(new TextEncoder().encode('two'))
  expect(await reader?.read()).toEqual({ done: false, value: 'two' })
  await writer.close()
  expect(await reader?.read()).toEqual({ done: true, value: undefined })
})

test('a function can hold a WebSocket as a client', async () => {
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0 })
  server.on('connection', (socket) => {
    socket.on('message', (text) => socket.send(`pong to ${text}`))
  })
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = server.address() as AddressInfo
  const response = await project.call(`socket?url=ws://127.0.0.1:${port}`)
  expect(await response.text()).toBe('pong to ping')
  server.close()
})
