import { RealtimeError } from './errors.ts'
import { type JsonObject, objectOf } from './protocol.ts'

/** What a client asks for with `phx_join`. */
export interface JoinRequest {
  /** The channel's name, without `realtime:`. */
  topic: string
  private: boolean
  /** Reply to each broadcast the client sends. */
  ack: boolean
  /** Send the client its own broadcasts too. */
  self: boolean
  /** Tell the client when broadcasts from the database will arrive. */
  replicationReady: boolean
  /** The JWT of this channel; null means the connection's key. */
  token: string | null
}

/** Reads a join. Throws RealtimeError for what this server does not do. */
export function parseJoin(topic: string, payload: JsonObject): JoinRequest {
  const name = topic.slice('realtime:'.length)
  if (!name) throw new RealtimeError('TopicNameRequired', 'You must provide a topic name')
  const config = objectOf(payload.config)
  const broadcast = objectOf(config.broadcast)
  refuseUnsupported(config, broadcast)
  const token = payload.user_token ?? payload.access_token
  return {
    topic: name,
    private: flag(config.private),
    ack: flag(broadcast.ack),
    self: flag(broadcast.self),
    replicationReady: flag(broadcast.replication_ready),
    token: typeof token === 'string' && !token.startsWith('sb_') ? token : null,
  }
}

/** supabase-js always sends an empty list of changes and a switched-off presence: those are fine. */
function refuseUnsupported(config: JsonObject, broadcast: JsonObject): void {
  const asked = [
    Array.isArray(config.postgres_changes) && config.postgres_changes.length > 0
      ? 'postgres_changes'
      : '',
    flag(objectOf(config.presence).enabled) ? 'presence' : '',
    broadcast.replay ? 'broadcast.replay' : '',
  ].find((feature) => feature !== '')
  if (!asked) return
  throw new RealtimeError(
    'RealtimeDisabledForConfiguration',
    `"${asked}" is not part of the local Realtime, use broadcasts (realtime.send)`,
  )
}

/** The server takes the strings "true" and "false" in any case too. */
function flag(value: unknown): boolean {
  return value === true || (typeof value === 'string' && value.toLowerCase() === 'true')
}
