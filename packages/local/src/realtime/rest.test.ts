import { afterAll, beforeAll, expect, test } from 'vitest'
import {
  collect,
  type Harness,
  join,
  publishableKey,
  secretKey,
  startHarness,
  tokenFor,
} from './harness.ts'

let harness: Harness
beforeAll(async () => {
  harness = await startHarness()
})
afterAll(() => harness.stop())

type Received = { event: string; payload: unknown }[]

async function listener(rights: { write: boolean }): Promise<{
  topic: string
  token: string
  received: Received
}> {
  const [topic, user] = [`task:${crypto.randomUUID()}/é`, crypto.randomUUID()]
  await harness.allow(user, topic, { read: true, ...rights })
  const token = await tokenFor(user)
  const channel = (await harness.client({ token })).channel(topic, { config: { private: true } })
  const received = collect(channel)
  expect(await join(channel)).toBe('SUBSCRIBED')
  return { topic, token, received }
}

function post(path: string, body: unknown, token: string = publishableKey): Promise<Response> {
  return fetch(`${harness.url}/realtime/v1/api/broadcast${path}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  })
}

test('httpSend reaches a private channel as JSON and as bytes', async () => {
  const { topic, token, received } = await listener({ write: true })
  const sender = (await harness.client({ token })).channel(topic, { config: { private: true } })
  expect(await sender.httpSend('said', { n: 1 })).toEqual({ success: true })
  expect(await sender.httpSend('raw', new Uint8Array([0, 255]))).toEqual({ success: true })
  await expect
    .poll(() => received)
    .toEqual([
      { event: 'said', payload: { n: 1 } },
      { event: 'raw', payload: new Uint8Array([0, 255]).buffer },
    ])
})

test('httpSend without the right to insert is refused with 403', async () => {
  const { topic, token } = await listener({ write: false })
  const sender = (await harness.client({ token })).channel(topic, { config: { private: true } })
  await expect(sender.httpSend('said', {})).rejects.toThrow('Unauthorized')
  const path = `/${encodeURIComponent(topic)}/events/said?private=true`
  expect((await post(path, {}, token)).status).toBe(403)
})

test('a batch answers 202 and drops the private messages its sender may not write', async () => {
  const { topic, received } = await listener({ write: false })
  const messages = [
    { topic, event: 'refused', payload: {}, private: true },
    { topic, event: 'to the public room of this name', payload: {} },
  ]
  const refused = await post('', { messages })
  expect([refused.status, await refused.text()]).toEqual([202, ''])
  const byService = [{ topic, event: 'allowed', payload: { n: 1 }, private: true }]
  expect((await post('', { messages: byService }, secretKey)).status).toBe(202)
  await expect.poll(() => received).toEqual([{ event: 'allowed', payload: { n: 1 } }])
})

test('a send on a channel that has not joined goes over the batch endpoint', async () => {
  const { topic, token, received } = await listener({ write: true })
  const sender = (await harness.client({ token })).channel(topic, { config: { private: true } })
  expect(await sender.send({ type: 'broadcast', event: 'said', payload: { n: 1 } })).toBe('ok')
  await expect.poll(() => received).toEqual([{ event: 'said', payload: { n: 1 } }])
})

test.each([
  [{}, { messages: ["can't be blank"] }],
  [{ messages: [] }, { messages: ["can't be blank"] }],
  [{ messages: 'x' }, { messages: ['is invalid'] }],
  [
    {
      messages: [
        { topic: 't', event: 'e', payload: {} },
        { event: 1, payload: 'text' },
      ],
    },
    {
      messages: [{}, { topic: ["can't be blank"], event: ['is invalid'], payload: ['is invalid'] }],
    },
  ],
])('the batch %j is refused with 422', async (body, errors) => {
  const answer = await post('', body)
  expect([answer.status, await answer.json()]).toEqual([422, { errors }])
})

test('a body that is no JSON, another type and a bad token are refused', async () => {
  expect((await post('', '{')).status).toBe(400)
  const form = await fetch(`${harness.url}/realtime/v1/api/broadcast/t/events/e`, {
    method: 'POST',
    headers: { apikey: publishableKey },
    body: new URLSearchParams({ a: 'b' }),
  })
  expect(form.status).toBe(415)
  const stranger = await post('', { messages: [] }, 'sb_secret_wrong')
  expect([stranger.status, await stranger.json()]).toEqual([401, { message: 'Unauthorized' }])
})
