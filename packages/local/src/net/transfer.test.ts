import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { type AddressInfo, createServer as createTcpServer, type Socket } from 'node:net'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { perform, type Transfer } from './transfer.ts'

const seen: {
  method: string
  path: string
  headers: NodeJS.Dict<string | string[]>
  body: string
}[] = []
let server: Server
let base: string

beforeAll(async () => {
  server = createServer((request, response) => void answer(request, response))
  await new Promise<void>((settle) => server.listen(0, '127.0.0.1', settle))
  base = `http://127.0.0.1:${portOf(server)}`
})

afterAll(() => {
  server.closeAllConnections()
  server.close()
})

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  let body = ''
  for await (const part of request) body += part
  const url = new URL(request.url ?? '/', base)
  seen.push({ method: request.method ?? '', path: url.pathname, headers: request.headers, body })
  const to = url.searchParams.get('to')
  if (to) {
    response
      .writeHead(Number(url.searchParams.get('status')), { Location: to, 'X-First': '1' })
      .end()
  } else if (url.pathname === '/circle') {
    response.writeHead(302, { Location: '/circle' }).end()
  } else if (url.pathname === '/nul') {
    response.end('ab\0cd')
  } else if (url.pathname === '/cut') {
    request.socket.destroy()
  } else if (url.pathname === '/partial') {
    response.writeHead(200, { 'Content-Length': 100 }).write('some')
    setImmediate(() => request.socket.destroy())
  } else if (url.pathname !== '/hang') {
    response.writeHead(201, { 'Content-Type': 'text/plain', 'X-Last': '1' }).end('hello')
  }
}

function portOf(listener: { address(): AddressInfo | string | null }): number {
  const address = listener.address()
  return typeof address === 'object' && address ? address.port : 0
}

function send(change: Partial<Transfer>): ReturnType<typeof perform> {
  const transfer = { method: 'GET', url: base, headers: [], body: null, timeoutMilliseconds: 2000 }
  return perform({ ...transfer, ...change }, new AbortController().signal)
}

test('an answer carries status, headers in the spelling of the server, and text', async () => {
  const outcome = await send({ url: `${base}/plain` })
  expect(outcome).toMatchObject({
    statusCode: 201,
    contentType: 'text/plain',
    content: 'hello',
    timedOut: false,
    error: null,
  })
  expect(outcome.headers).toMatchObject({ 'X-Last': '1', 'Content-Type': 'text/plain' })
})

test('text ends at the first NUL', async () => {
  expect(await send({ url: `${base}/nul` })).toMatchObject({ content: 'ab' })
})

test.each([
  { status: 302, method: 'POST', ends: 'GET', body: '' },
  { status: 303, method: 'POST', ends: 'GET', body: '' },
  { status: 307, method: 'POST', ends: 'POST', body: '{"a":1}' },
  { status: 302, method: 'DELETE', ends: 'DELETE', body: '' },
  { status: 308, method: 'DELETE', ends: 'DELETE', body: '{"a":1}' },
])(
  'a $status turns $method into $ends with body "$body"',
  async ({ status, method, ends, body }) => {
    const path = `/after-${status}-${method}`
    const url = `${base}/?status=${status}&to=${path}`
    const outcome = await send({ url, method, body: new TextEncoder().encode('{"a":1}') })
    expect(outcome).toMatchObject({ statusCode: 201, content: 'hello' })
    // pg_net shows the headers of the first reply and the rest of the last.
    expect(outcome.headers).toMatchObject({ 'X-First': '1' })
    expect(seen.find((request) => request.path === path)).toMatchObject({ method: ends, body })
  },
)

test('authorization and cookies stay behind when a redirect leaves the host', async () => {
  const elsewhere = `http://localhost:${portOf(server)}/elsewhere`
  await send({
    url: `${base}/?status=302&to=${encodeURIComponent(elsewhere)}`,
    headers: [
      ['Authorization', 'Bearer secret'],
      ['Cookie', 'a=1'],
      ['X-Own', 'kept'],
    ],
  })
  const arrived = seen.find((request) => request.path === '/elsewhere')
  expect(arrived?.headers).toMatchObject({ 'x-own': 'kept' })
  expect(arrived?.headers).not.toHaveProperty('authorization')
  expect(arrived?.headers).not.toHaveProperty('cookie')
})

test('a circle of redirects ends', async () => {
  const outcome = await send({ url: `${base}/circle` })
  expect(outcome.error).toBe('Number of redirects hit maximum amount')
})

test.each([
  ['http://127.0.0.1:1/', "Couldn't connect to server"],
  ['http://nowhere.invalid/', "Couldn't resolve host name"],
  ['ftp://127.0.0.1/', 'Unsupported protocol'],
  ['/relative', 'URL using bad/illegal format or missing URL'],
])('%s fails with "%s"', async (url, error) => {
  expect(await send({ url })).toMatchObject({ statusCode: null, timedOut: false, error })
})

test.each([
  ['/cut', 'Server returned nothing (no headers, no data)'],
  ['/partial', 'Transferred a partial file'],
  ['/?status=302&to=ftp://127.0.0.1/', 'Unsupported protocol'],
])('%s of the receiver fails with "%s"', async (path, error) => {
  expect(await send({ url: `${base}${path}` })).toMatchObject({ statusCode: null, error })
})

test.each<[string, (socket: Socket) => void, string]>([
  ['a reset', (socket) => socket.resetAndDestroy(), 'Failure when receiving data from the peer'],
  ['no HTTP', (socket) => socket.end('hello\r\n\r\n'), 'Unsupported protocol'],
  [
    'a broken header',
    (socket) => socket.end('HTTP/1.1 200 OK\r\nno colon\r\n\r\n'),
    'Weird server reply',
  ],
])("%s fails with libcurl's sentence", async (_name, reply, error) => {
  const listener = createTcpServer((socket) => socket.once('data', () => reply(socket)))
  await new Promise<void>((settle) => listener.listen(0, '127.0.0.1', settle))
  expect(await send({ url: `http://127.0.0.1:${portOf(listener)}/` })).toMatchObject({ error })
  listener.close()
})

test('a timeout names its parts', async () => {
  const outcome = await send({ url: `${base}/hang`, timeoutMilliseconds: 50 })
  expect(outcome).toMatchObject({ statusCode: null, timedOut: true })
  expect(outcome.error).toMatch(
    /^Timeout of 50 ms reached\. Total time: \d+\.\d{6} ms \(DNS time: .* ms, TCP\/SSL handshake time: .* ms, HTTP Request\/Response time: .* ms\)$/,
  )
})

test('a stop ends a transfer that would never end', async () => {
  const stop = new AbortController()
  const transfer = { method: 'GET', headers: [], body: null, timeoutMilliseconds: 0 }
  const pending = perform({ ...transfer, url: `${base}/hang` }, stop.signal)
  stop.abort(new Error('stopped'))
  await expect(pending).rejects.toThrow('stopped')
})
