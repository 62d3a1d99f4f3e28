import type postgres from 'postgres'
import type { Address } from './hub.ts'
import type { Broadcast } from './protocol.ts'

/** The running connection to realtime.messages. */
export interface MessageFeed {
  stop(): Promise<void>
}

export interface FeedOptions {
  sql: postgres.Sql
  deliver(address: Address, broadcast: Broadcast): void
  log(line: string): void
}

interface MessageRow {
  id: string
  topic: string
  event: string
  private: boolean
  payload: string | null
  binary_payload: Buffer | null
}

const partitionCheckMs = 60 * 60 * 1000
const largestRead = 500

/**
 * Follows realtime.messages: each committed row is delivered once, in commit order. Rows written
 * while the connection is away are never delivered, as with the hosted server's temporary slot.
 * Also keeps the day partitions. Fails when the database cannot be reached at the start.
 */
export async function followMessages(options: FeedOptions): Promise<MessageFeed> {
  const { sql, log } = options
  const keepPartitions = async (): Promise<void> => {
    await sql`select realtime.keep_partitions()`
  }
  await keepPartitions()
  const timer = setInterval(() => {
    keepPartitions().catch((cause) => log(`PartitionCreationFailed: ${String(cause)}`))
  }, partitionCheckMs)
  timer.unref()
  // The driver listens again by itself after a lost connection.
  const subscription = await sql.listen('realtime_messages', createReader(options))
  return {
    stop: async () => {
      clearInterval(timer)
      await subscription.unlisten()
    },
  }
}

/** Takes ids one by one and reads what has gathered in one query, so a burst costs few of them. */
function createReader({ sql, deliver, log }: FeedOptions): (id: string) => void {
  const waiting: string[] = []
  let reading = false
  const readAll = async (): Promise<void> => {
    while (waiting.length > 0) {
      const ids = waiting.splice(0, largestRead)
      for (const row of await readRows(sql, ids)) deliver(row, broadcastOf(row))
    }
  }
  return (id) => {
    waiting.push(id)
    if (reading) return
    reading = true
    readAll()
      .catch((cause) => log(`UnableToBroadcastChanges: ${String(cause)}`))
      .finally(() => {
        reading = false
      })
  }
}

/** The deliverable rows in the order of their ids; one without event or payload is passed over. */
function readRows(sql: postgres.Sql, ids: string[]): Promise<MessageRow[]> {
  return sql<MessageRow[]>`
    select m.id, m.topic, m.event, m.private, m.payload::text as payload, m.binary_payload
    from unnest(${ids}::uuid[]) with ordinality as told (id, place)
    join realtime.messages m using (id)
    where m.event is not null and m.private is not null
      and (m.payload is not null or m.binary_payload is not null)
    order by told.place`
}

function broadcastOf(row: MessageRow): Broadcast {
  return {
    kind: 'event',
    event: row.event,
    encoding: row.binary_payload ? 'binary' : 'json',
    body: row.binary_payload ?? Buffer.from(row.payload ?? ''),
    meta: { id: row.id },
  }
}
