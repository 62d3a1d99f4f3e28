import type { Authorizer, Caller } from './authorization.ts'
import { RealtimeError } from './errors.ts'
import type { Address, Hub, Member } from './hub.ts'
import type { JoinRequest } from './join.ts'
import type { Broadcast, JsonObject, ProtocolVersion } from './protocol.ts'
import { type Claims, claimsOf, secondsLeft, type TokenChecks } from './tokens.ts'

/** The parts of the server that channels work with. */
export interface Services {
  hub: Hub
  authorizer: Authorizer
  tokens: TokenChecks
  log(line: string): void
}

/** What a channel needs of the socket it lives on. */
export interface Transport {
  version: ProtocolVersion
  /** The key or JWT of the connection, used by channels that bring no token. */
  token: string
  /** Request headers of the upgrade that policies may see. */
  headers: Record<string, string>
  send(data: string | Buffer): void
  /** Sends an event of this channel to the client. */
  push(channel: Channel, event: string, payload: JsonObject): void
  /** Forgets the channel and tells the client that it is closed. */
  close(channel: Channel): void
}

const longestTrustMs = 5 * 60 * 1000

/** One client's membership of one channel: who it is for, and what the policies said. */
export class Channel implements Member {
  readonly address: Address
  readonly joinRef: string | null
  readonly version: ProtocolVersion
  readonly #request: JoinRequest
  readonly #services: Services
  readonly #transport: Transport
  #token: string
  #claims: Claims = {}
  #mayWrite: boolean | null = null
  #expiry: NodeJS.Timeout | undefined
  #left = false

  private constructor(
    request: JoinRequest,
    joinRef: string | null,
    surroundings: { services: Services; transport: Transport },
  ) {
    this.address = { topic: request.topic, private: request.private }
    this.joinRef = joinRef
    this.version = surroundings.transport.version
    this.#request = request
    this.#services = surroundings.services
    this.#transport = surroundings.transport
    this.#token = request.token ?? surroundings.transport.token
  }

  /** Checks token and policies and joins. Throws RealtimeError when the join is refused. */
  static async open(
    request: JoinRequest,
    joinRef: string | null,
    surroundings: { services: Services; transport: Transport },
  ): Promise<Channel> {
    const channel = new Channel(request, joinRef, surroundings)
    try {
      await channel.#authorize()
    } catch (cause) {
      channel.leave()
      throw cause
    }
    channel.#services.hub.join(channel)
    return channel
  }

  send(data: string | Buffer): void {
    this.#transport.send(data)
  }

  /**
   * Passes a client's broadcast on. The answer is whether to reply ok: never without `ack`, and
   * never to a private write that the policies refuse, which the server drops in silence.
   */
  async broadcast(broadcast: Broadcast): Promise<boolean> {
    if (!(await this.#writes())) return false
    this.#services.hub.publish(this.address, broadcast, this.#request.self ? undefined : this)
    return this.#request.ack
  }

  /** Takes a new token; when it gives no right to read any more, says so and closes. */
  async refresh(token: unknown): Promise<void> {
    if (typeof token !== 'string' || token.startsWith('sb_') || token === this.#token) return
    this.#token = token
    this.#mayWrite = null
    await this.#authorize().catch((cause) => this.#shutDown(cause))
  }

  /** Leaves without a word to the client. */
  leave(): void {
    this.#left = true
    clearTimeout(this.#expiry)
    this.#services.hub.leave(this)
  }

  async #authorize(): Promise<void> {
    await this.#confirmToken()
    if (!this.address.private) return
    const { topic } = this.address
    if (await this.#services.authorizer.mayRead(topic, this.#caller())) return
    throw new RealtimeError(
      'Unauthorized',
      `You do not have permissions to read from this Channel topic: ${topic}`,
    )
  }

  /** Policies are asked once per token; the token itself again when it ends, at least every 5 min. */
  async #confirmToken(): Promise<void> {
    this.#claims = await claimsOf(this.#token, this.#services.tokens)
    clearTimeout(this.#expiry)
    if (this.#left) return
    const wait = Math.min(longestTrustMs, secondsLeft(this.#claims) * 1000)
    this.#expiry = setTimeout(() => {
      this.#confirmToken().catch((cause) => this.#shutDown(cause))
    }, wait)
    this.#expiry.unref()
  }

  async #writes(): Promise<boolean> {
    if (!this.address.private) return true
    const { authorizer, log } = this.#services
    try {
      this.#mayWrite ??= await authorizer.mayWrite(this.address.topic, this.#caller())
      return this.#mayWrite
    } catch (cause) {
      if (!(cause instanceof RealtimeError)) throw cause
      log(cause.reason)
      return false
    }
  }

  #caller(): Caller {
    return { claims: this.#claims, headers: this.#transport.headers }
  }

  #shutDown(cause: unknown): void {
    if (this.#left) return
    const message = cause instanceof Error ? cause.message : String(cause)
    this.#services.log(`ChannelShutdown: ${message}`)
    this.#transport.push(this, 'system', {
      extension: 'system',
      status: 'error',
      message,
      channel: this.address.topic,
    })
    this.#transport.close(this)
  }
}
