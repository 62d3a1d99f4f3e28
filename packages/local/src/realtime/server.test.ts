import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { collect, type Harness, join, publishableKey, startHarness, tokenFor } from './harness.ts'

let harness: Harness
beforeAll(async () => {
  harness = await startHarness()
})
afterAll(() => harness.stop())

/** A topic and a user that no other test knows. */
function fresh(): { topic: string; user: string } {
  return { topic: `room:${crypto.randomUUID()}`, user: crypto.randomUUID() }
}

const versions = ['1.0.0', '2.0.0'] as const

describe.each(versions)('a client of protocol %s', (version) => {
  test('joins a public channel without a token', async () => {
    const client = await harness.client({ version })
    const channel = client.channel(fresh().topic)
    expect(await join(channel)).toBe('SUBSCRIBED')
  })

  test('joins a private channel when the policy lets it read, and only then', async () => {
    const { topic, user } = fresh()
    await harness.allow(user, topic, { read: true })
    const config = { config: { private: true } }
    const member = await harness.client({ version, token: await tokenFor(user) })
    expect(await join(member.channel(topic, config))).toBe('SUBSCRIBED')
    const refused = `Unauthorized: You do not have permissions to read from this Channel topic: ${topic}`
    const stranger = await harness.client({ version, token: await tokenFor(crypto.randomUUID()) })
    expect(await join(stranger.channel(topic, config))).toBe(refused)
    const anonymous = await harness.client({ version })
    expect(await join(anonymous.channel(topic, config))).toBe(refused)
  })

  test('gets an acknowledgement and its own broadcasts only when it asks for them', async () => {
    const { topic } = fresh()
    const asking = (await harness.client({ version })).channel(topic, {
      config: { broadcast: { ack: true, self: true } },
    })
    const silent = (await harness.client({ version })).channel(topic, {
      config: { broadcast: { ack: true, self: false } },
    })
    const [echoed, heard] = [collect(asking), collect(silent)]
    expect([await join(asking), await join(silent)]).toEqual(['SUBSCRIBED', 'SUBSCRIBED'])
    const send = { type: 'broadcast', event: 'said', payload: { text: 'grüß dich' } } as const
    expect(await asking.send(send)).toBe('ok')
    expect(await silent.send(send)).toBe('ok')
    await expect.poll(() => echoed.length).toBe(2)
    expect(heard).toEqual([{ event: 'said', payload: { text: 'grüß dich' } }])
  })

  test('loses the channel when a new token gives no right to read', async () => {
    const { topic, user } = fresh()
    await harness.allow(user, topic, { read: true })
    const client = await harness.client({ version, token: await tokenFor(user) })
    const channel = client.channel(topic, { config: { private: true } })
    const system = vi.fn()
    const status = vi.fn()
    channel.on('system', {}, system).subscribe(status)
    await expect.poll(() => status.mock.calls.at(-1)?.[0]).toBe('SUBSCRIBED')
    await harness.allow(user, topic, { read: false })
    await client.realtime.setAuth(await tokenFor(user))
    await expect.poll(() => status.mock.calls.at(-1)?.[0]).toBe('CLOSED')
    expect(system.mock.calls[0]?.[0]).toEqual({
      extension: 'system',
      status: 'error',
      message: `You do not have permissions to read from this Channel topic: ${topic}`,
      channel: topic,
    })
  })

  test('keeps the channel when a new token still gives the right', async () => {
    const { topic, user } = fresh()
    await harness.allow(user, topic, { read: true, write: false })
    const client = await harness.client({ version, token: await tokenFor(user) })
    const channel = client.channel(topic, {
      config: { private: true, broadcast: { ack: true, self: true } },
    })
    const received = collect(channel)
    await join(channel)
    await harness.allow(user, topic, { read: true, write: true })
    await client.realtime.setAuth(await tokenFor(user))
    // Frames are handled in turn: the broadcast is judged under the new token.
    expect(await channel.send({ type: 'broadcast', event: 'said', payload: {} })).toBe('ok')
    await expect.poll(() => received.length).toBe(1)
  })
})

test('a client of each protocol hears the other', async () => {
  const { topic } = fresh()
  const one = (await harness.client({ version: '1.0.0' })).channel(topic)
  const two = (await harness.client({ version: '2.0.0' })).channel(topic)
  const [heardByOne, heardByTwo] = [collect(one), collect(two)]
  await Promise.all([join(one), join(two)])
  await one.send({ type: 'broadcast', event: 'from one', payload: { n: 1 } })
  await two.send({ type: 'broadcast', event: 'from two', payload: { n: 2 } })
  await expect.poll(() => heardByOne).toEqual([{ event: 'from two', payload: { n: 2 } }])
  await expect.poll(() => heardByTwo).toEqual([{ event: 'from one', payload: { n: 1 } }])
})

test('bytes pass between clients of protocol 2.0.0', async () => {
  const { topic } = fresh()
  const sender = (await harness.client()).channel(topic)
  const receiver = (await harness.client()).channel(topic)
  const received = collect(receiver)
  await Promise.all([join(sender), join(receiver)])
  await sender.send({
    type: 'broadcast',
    event: 'raw',
    payload: new Uint8Array([0, 255, 7]).buffer,
  })
  await expect.poll(() => received.length).toBe(1)
  expect(received[0]?.payload).toEqual(new Uint8Array([0, 255, 7]).buffer)
})

test('an expired token closes the channel', async () => {
  const { topic, user } = fresh()
  await harness.allow(user, topic, { read: true })
  const client = await harness.client({ token: await tokenFor(user, 2) })
  const status = vi.fn()
  client.channel(topic, { config: { private: true } }).subscribe(status)
  await expect
    .poll(() => status.mock.calls.map(([name]) => name), { timeout: 5000 })
    .toEqual(['SUBSCRIBED', 'CLOSED'])
})

test('a token that has expired or is not ours is refused in the words of the server', async () => {
  const joinWith = async (token: string) =>
    join((await harness.client({ token })).channel(fresh().topic, { config: { private: true } }))
  expect(await joinWith(await tokenFor(crypto.randomUUID(), -60))).toMatch(
    /^InvalidJWTToken: Token has expired 6\d seconds ago$/,
  )
  const [head, body] = (await tokenFor(crypto.randomUUID())).split('.')
  expect(await joinWith(`${head}.${body}.AAAA`)).toBe(
    'JwtSignatureError: Failed to validate JWT signature',
  )
  expect(await joinWith('nonsense')).toBe('MalformedJWT: The token provided is not a valid JWT')
})

test('postgres_changes and presence are refused with a reason', async () => {
  const changes = (await harness.client()).channel(fresh().topic)
  changes.on('postgres_changes', { event: '*', schema: 'public' }, () => {})
  expect(await join(changes)).toMatch(/^RealtimeDisabledForConfiguration: "postgres_changes"/)
  const presence = (await harness.client()).channel(fresh().topic)
  presence.on('presence', { event: 'sync' }, () => {})
  expect(await join(presence)).toMatch(/^RealtimeDisabledForConfiguration: "presence"/)
})

test('a bad key is refused with 401 at the upgrade', async () => {
  const upgrade = await rawUpgrade(`${harness.url}/realtime/v1/websocket?apikey=wrong&vsn=2.0.0`)
  expect(upgrade).toContain('HTTP/1.1 401')
  expect(upgrade).toContain('{"error":"The token provided is not a valid JWT"}')
  expect(await rawUpgrade(`${harness.url}/realtime/v1/websocket`)).toContain('API key is missing')
})

test('clients come back after a restart of the server', async () => {
  const { topic, user } = fresh()
  await harness.allow(user, topic, { read: true })
  const client = await harness.client({ token: await tokenFor(user) })
  const channel = client.channel(topic, { config: { private: true } })
  const received = collect(channel)
  const status = vi.fn()
  channel.subscribe(status)
  await expect.poll(() => status.mock.calls.length).toBe(1)
  await harness.restart()
  await expect
    .poll(() => status.mock.calls.filter(([name]) => name === 'SUBSCRIBED').length, {
      timeout: 5000,
    })
    .toBe(2)
  await harness.sql`select realtime.send('{"n": 1}', 'told', ${topic})`
  await expect.poll(() => received.map(({ event }) => event)).toEqual(['told'])
})

async function rawUpgrade(url: string): Promise<string> {
  const { connect } = await import('node:net')
  const { hostname, port, pathname, search } = new URL(url)
  const socket = connect(Number(port), hostname)
  socket.write(
    `GET ${pathname}${search} HTTP/1.1\r\nhost: ${hostname}\r\nconnection: upgrade\r\n` +
      'upgrade: websocket\r\nsec-websocket-version: 13\r\n' +
      `sec-websocket-key: ${Buffer.from(publishableKey.slice(0, 16)).toString('base64')}\r\n\r\n`,
  )
  const chunks: Buffer[] = []
  for await (const chunk of socket) chunks.push(chunk)
  return Buffer.concat(chunks).toString()
}
