import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Harness, publishableKey, startHarness, tokenFor } from './harness.ts'

let harness: Harness
beforeAll(async () => {
  harness = await startHarness()
})
afterAll(() => harness.stop())

type Frame = [string | null, string | null, string, string, unknown]

/** A bare socket of protocol 2.0.0; `exchange` sends and returns what has come up to the reply to a heartbeat. */
async function openSocket(): Promise<{
  socket: WebSocket
  exchange(...frames: (Frame | Uint8Array<ArrayBuffer>)[]): Promise<unknown[]>
}> {
  const url = harness.url.replace('http', 'ws')
  const socket = new WebSocket(`${url}/realtime/v1/websocket?apikey=${publishableKey}&vsn=2.0.0`)
  socket.binaryType = 'arraybuffer'
  await new Promise((settle) => socket.addEventListener('open', settle, { once: true }))
  const received: unknown[] = []
  let beat = (): void => {}
  socket.onmessage = ({ data }) => {
    const frame: unknown = typeof data === 'string' ? JSON.parse(data) : new Uint8Array(data)
    if (Array.isArray(frame) && frame[1] === 'beat') beat()
    else received.push(frame)
  }
  const exchange = async (...frames: (Frame | Uint8Array<ArrayBuffer>)[]): Promise<unknown[]> => {
    const done = new Promise<void>((settle) => {
      beat = settle
    })
    for (const frame of [...frames, [null, 'beat', 'phoenix', 'heartbeat', {}]]) {
      socket.send(frame instanceof Uint8Array ? frame : JSON.stringify(frame))
    }
    await done
    return received.splice(0)
  }
  return { socket, exchange }
}

function joinFrame(topic: string, config: object, token?: string): Frame {
  return ['1', '1', `realtime:${topic}`, 'phx_join', { config, access_token: token }]
}

/** The header of a client's binary broadcast with one-character names, from the wire format. */
function binaryBroadcast(topic: string, body: string): Uint8Array<ArrayBuffer> {
  const strings = ['1', '2', `realtime:${topic}`, 'e', '']
  const text = strings.join('') + body
  return new Uint8Array([
    3,
    ...strings.map((part) => part.length),
    1,
    ...new TextEncoder().encode(text),
  ])
}

test('join, leave and strangers get the replies of the server', async () => {
  const { socket, exchange } = await openSocket()
  const topic = 'realtime:room'
  expect(
    await exchange(
      ['1', '1', topic, 'broadcast', {}],
      joinFrame('room', { broadcast: { replication_ready: true }, postgres_changes: [] }),
      ['1', '3', topic, 'phx_leave', {}],
      ['1', '4', topic, 'phx_leave', {}],
      ['5', '5', 'realtime:', 'phx_join', {}],
    ),
  ).toEqual([
    ['1', '1', topic, 'phx_reply', { status: 'error', response: { reason: 'unmatched topic' } }],
    ['1', '1', topic, 'phx_reply', { status: 'ok', response: { postgres_changes: [] } }],
    [
      '1',
      null,
      topic,
      'system',
      {
        extension: 'system',
        status: 'ok',
        message: 'Replication connection established',
        channel: 'room',
      },
    ],
    ['1', '3', topic, 'phx_reply', { status: 'ok', response: {} }],
    ['1', '1', topic, 'phx_close', {}],
    ['1', '4', topic, 'phx_reply', { status: 'ok', response: {} }],
    [
      '5',
      '5',
      'realtime:',
      'phx_reply',
      { status: 'error', response: { reason: 'TopicNameRequired: You must provide a topic name' } },
    ],
  ])
  socket.close()
})

test('a binary broadcast comes back as kind 4 with its body untouched', async () => {
  const { socket, exchange } = await openSocket()
  const body = '{"big": 12345678901234567890}'
  const frames = await exchange(
    joinFrame('raw', { broadcast: { self: true } }),
    binaryBroadcast('raw', body),
  )
  const text = new TextEncoder().encode(`realtime:rawe${body}`)
  expect(frames[1]).toEqual(new Uint8Array([4, 12, 1, 0, 1, ...text]))
  socket.close()
})

test('a private write without the right gets no reply and reaches nobody', async () => {
  const [topic, user] = [`room:${crypto.randomUUID()}`, crypto.randomUUID()]
  await harness.allow(user, topic, { read: true })
  const { socket, exchange } = await openSocket()
  const config = { private: true, broadcast: { ack: true, self: true } }
  const frames = await exchange(
    joinFrame(topic, config, await tokenFor(user)),
    binaryBroadcast(topic, '{}'),
    ['1', '3', `realtime:${topic}`, 'broadcast', { type: 'broadcast', event: 'e', payload: {} }],
  )
  expect(frames).toEqual([
    [
      '1',
      '1',
      `realtime:${topic}`,
      'phx_reply',
      { status: 'ok', response: { postgres_changes: [] } },
    ],
  ])
  socket.close()
})

test('a broadcast without ack gets no reply, and who has left hears no more', async () => {
  const [sender, receiver] = [await openSocket(), await openSocket()]
  const broadcast: Frame = ['1', '2', 'realtime:quiet', 'broadcast', { event: 'e' }]
  const leave: Frame = ['1', '3', 'realtime:quiet', 'phx_leave', {}]
  await receiver.exchange(joinFrame('quiet', {}))
  expect(await sender.exchange(joinFrame('quiet', {}), broadcast)).toHaveLength(1)
  expect(await receiver.exchange(leave)).toEqual([
    [null, null, 'realtime:quiet', 'broadcast', { event: 'e' }],
    ['1', '3', 'realtime:quiet', 'phx_reply', { status: 'ok', response: {} }],
    ['1', '1', 'realtime:quiet', 'phx_close', {}],
  ])
  await sender.exchange(broadcast)
  expect(await receiver.exchange()).toEqual([])
  sender.socket.close()
  receiver.socket.close()
})

test('the policies are asked once per channel until a new token comes', async () => {
  const [topic, user] = [`room:${crypto.randomUUID()}`, crypto.randomUUID()]
  const name = `realtime:${topic}`
  const broadcast = (ref: string): Frame => ['1', ref, name, 'broadcast', { event: 'e' }]
  await harness.allow(user, topic, { read: true, write: true })
  const { socket, exchange } = await openSocket()
  const config = { private: true, broadcast: { ack: true } }
  const joined = await exchange(joinFrame(topic, config, await tokenFor(user)), broadcast('2'))
  expect(joined).toHaveLength(2)
  await harness.allow(user, topic, { read: true, write: false })
  expect(await exchange(broadcast('3'))).toEqual([
    ['1', '3', name, 'phx_reply', { status: 'ok', response: {} }],
  ])
  const renewal: Frame = ['1', null, name, 'access_token', { access_token: await tokenFor(user) }]
  expect(await exchange(renewal, broadcast('4'))).toEqual([])
  socket.close()
})

test('joining again replaces the former membership, and a closed socket leaves everything', async () => {
  const { socket, exchange } = await openSocket()
  await exchange(joinFrame('twice', {}))
  const again: Frame = ['2', '2', 'realtime:twice', 'phx_join', {}]
  const stale: Frame = ['1', '3', 'realtime:twice', 'phx_leave', {}]
  expect(await exchange(again, stale)).toEqual([
    ['1', '1', 'realtime:twice', 'phx_close', {}],
    ['2', '2', 'realtime:twice', 'phx_reply', { status: 'ok', response: { postgres_changes: [] } }],
  ])
  const before = harness.connections()
  socket.close()
  await expect.poll(() => harness.connections()).toBe(before - 1)
})

test('a frame that is none closes the socket', async () => {
  const { socket } = await openSocket()
  const closed = new Promise<CloseEvent>((settle) => socket.addEventListener('close', settle))
  socket.send('not json')
  expect((await closed).code).toBe(1011)
})
