import { type Broadcast, encodeBroadcast, type ProtocolVersion } from './protocol.ts'

/** A channel's name without prefix; a private and a public channel of one name never meet. */
export interface Address {
  topic: string
  private: boolean
}

/** A joined channel of one client. */
export interface Member {
  address: Address
  version: ProtocolVersion
  send(data: string | Buffer): void
}

/** Who has joined which channel. */
export class Hub {
  readonly #rooms = new Map<string, Set<Member>>()

  join(member: Member): void {
    const key = keyOf(member.address)
    const room = this.#rooms.get(key) ?? new Set()
    this.#rooms.set(key, room.add(member))
  }

  leave(member: Member): void {
    const key = keyOf(member.address)
    const room = this.#rooms.get(key)
    room?.delete(member)
    if (room?.size === 0) this.#rooms.delete(key)
  }

  /** Sends to all members but the sender, encoded once per protocol version. */
  publish(address: Address, broadcast: Broadcast, sender?: Member): void {
    const encoded = new Map<ProtocolVersion, string | Buffer | null>()
    for (const member of this.#rooms.get(keyOf(address)) ?? []) {
      if (member === sender) continue
      const { version } = member
      if (!encoded.has(version)) {
        encoded.set(version, encodeBroadcast(version, `realtime:${address.topic}`, broadcast))
      }
      const data = encoded.get(version)
      if (data) member.send(data)
    }
  }
}

function keyOf(address: Address): string {
  return `${address.private ? 'private' : 'public'}:${address.topic}`
}
