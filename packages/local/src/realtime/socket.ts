import type { WebSocket } from 'ws'
import { Channel, type Services, type Transport } from './channel.ts'
import { RealtimeError } from './errors.ts'
import { parseJoin } from './join.ts'
import {
  type ClientFrame,
  decodeFrame,
  encodeFrame,
  type JsonObject,
  type ProtocolVersion,
} from './protocol.ts'

/** What the upgrade request told about a connection. */
export interface Connection {
  version: ProtocolVersion
  token: string
  headers: Record<string, string>
}

const abnormalClose = 1011

/**
 * Speaks the Phoenix channel protocol on one open socket until it closes. Frames are handled one
 * after the other, so that a broadcast sent right after a join finds the channel joined.
 */
export function serveSocket(
  webSocket: WebSocket,
  connection: Connection,
  services: Services,
): void {
  const session = new Session(webSocket, connection, services)
  let turn = Promise.resolve()
  webSocket.on('message', (data, isBinary) => {
    turn = turn
      .then(() => {
        const bytes = Buffer.isBuffer(data) ? data : Buffer.concat([data].flat().map(toBuffer))
        return session.handle(decodeFrame(connection.version, bytes, isBinary))
      })
      .catch((cause) => {
        services.log(`socket closed on a frame it cannot handle: ${String(cause)}`)
        webSocket.close(abnormalClose)
      })
  })
  webSocket.on('close', () => {
    turn = turn.then(() => session.end())
  })
  webSocket.on('error', (cause) => services.log(`socket failed: ${cause.message}`))
}

function toBuffer(part: Buffer | ArrayBuffer): Buffer {
  return Buffer.isBuffer(part) ? part : Buffer.from(part)
}

class Session implements Transport {
  readonly version: ProtocolVersion
  readonly token: string
  readonly headers: Record<string, string>
  readonly #webSocket: WebSocket
  readonly #services: Services
  readonly #channels = new Map<string, Channel>()

  constructor(webSocket: WebSocket, connection: Connection, services: Services) {
    this.version = connection.version
    this.token = connection.token
    this.headers = connection.headers
    this.#webSocket = webSocket
    this.#services = services
  }

  async handle(frame: ClientFrame): Promise<void> {
    if (frame.topic === 'phoenix' && frame.event === 'heartbeat') return this.#reply(frame, 'ok')
    if (frame.event === 'phx_join' && frame.topic.startsWith('realtime:')) return this.#join(frame)
    const channel = this.#channels.get(frame.topic)
    if (channel) return this.#handleIn(channel, frame)
    if (frame.event === 'phx_leave') return this.#reply(frame, 'ok')
    this.#reply(frame, 'error', { reason: 'unmatched topic' })
  }

  send(data: string | Buffer): void {
    this.#webSocket.send(data)
  }

  push(channel: Channel, event: string, payload: JsonObject): void {
    const topic = `realtime:${channel.address.topic}`
    const { joinRef } = channel
    this.send(encodeFrame(this.version, { joinRef, ref: null, topic, event, payload }))
  }

  close(channel: Channel): void {
    const topic = `realtime:${channel.address.topic}`
    const { joinRef } = channel
    channel.leave()
    if (this.#channels.get(topic) === channel) this.#channels.delete(topic)
    const closing = { joinRef, ref: joinRef, topic, event: 'phx_close', payload: {} }
    this.send(encodeFrame(this.version, closing))
  }

  end(): void {
    for (const channel of this.#channels.values()) channel.leave()
    this.#channels.clear()
  }

  async #join(frame: ClientFrame): Promise<void> {
    const former = this.#channels.get(frame.topic)
    if (former) this.close(former)
    try {
      const request = parseJoin(frame.topic, frame.payload)
      const surroundings = { services: this.#services, transport: this }
      const channel = await Channel.open(request, frame.ref, surroundings)
      this.#channels.set(frame.topic, channel)
      this.#reply(frame, 'ok', { postgres_changes: [] })
      if (request.replicationReady) this.#announceReplication(channel)
    } catch (cause) {
      if (!(cause instanceof RealtimeError)) throw cause
      this.#services.log(cause.reason)
      this.#reply(frame, 'error', { reason: cause.reason })
    }
  }

  async #handleIn(channel: Channel, frame: ClientFrame): Promise<void> {
    // A frame of an earlier join under the same name.
    if (frame.joinRef !== null && frame.joinRef !== channel.joinRef) return
    switch (frame.event) {
      case 'broadcast':
        if (await channel.broadcast(frame.broadcast)) this.#reply(frame, 'ok')
        return
      case 'access_token':
        return channel.refresh(frame.payload.access_token)
      case 'phx_leave':
        this.#reply(frame, 'ok')
        return this.close(channel)
      case 'presence':
        return this.#reply(frame, 'error', { reason: 'presence is not part of the local Realtime' })
      default:
        this.#services.log(`unexpected message of type "${frame.event}"`)
    }
  }

  /** The server listens before it takes sockets, so the message needs no wait. */
  #announceReplication(channel: Channel): void {
    this.push(channel, 'system', {
      extension: 'system',
      status: 'ok',
      message: 'Replication connection established',
      channel: channel.address.topic,
    })
  }

  #reply(frame: ClientFrame, status: 'ok' | 'error', response: JsonObject = {}): void {
    const { joinRef, ref, topic } = frame
    const payload = { status, response }
    this.send(encodeFrame(this.version, { joinRef, ref, topic, event: 'phx_reply', payload }))
  }
}
