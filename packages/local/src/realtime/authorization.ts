import postgres from 'postgres'
import { RealtimeError } from './errors.ts'
import type { Claims } from './tokens.ts'

/** On whose behalf a channel is asked for. */
export interface Caller {
  claims: Claims
  headers: Record<string, string>
}

/** Asks the policies on realtime.messages about a private channel. */
export interface Authorizer {
  /** May the caller join and receive? Throws RealtimeError when the database cannot say. */
  mayRead(topic: string, caller: Caller): Promise<boolean>
  /** May the caller send? Throws RealtimeError when the database cannot say. */
  mayWrite(topic: string, caller: Caller): Promise<boolean>
}

const insufficientPrivilege = '42501'
const noPartition = '23514'
/** Connection lost, out of connections, shutting down or starting. */
const unavailable = /^(08|53|57P)/

/**
 * Probes as the hosted server does: a row is inserted, the caller's role and claims are put on, the
 * row is looked up (read) or another inserted (write), and all is rolled back. A policy that raises
 * counts as a refusal.
 */
export function createAuthorizer(sql: postgres.Sql, log: (line: string) => void): Authorizer {
  const decide = async (probe: () => Promise<boolean>): Promise<boolean> => {
    try {
      return await probe()
    } catch (cause) {
      return refusal(cause, log)
    }
  }
  return {
    mayRead: (topic, caller) =>
      decide(() =>
        rolledBack(sql, async (probe) => {
          const [row] = await probe`insert into realtime.messages (topic, extension)
            values (${topic}, 'broadcast') returning id`
          await become(probe, topic, caller)
          const seen = await probe`select from realtime.messages where id = ${row?.id}`
          return seen.length === 1
        }),
      ),
    mayWrite: (topic, caller) =>
      decide(() =>
        rolledBack(sql, async (probe) => {
          await become(probe, topic, caller)
          await probe`insert into realtime.messages (topic, extension)
            values (${topic}, 'broadcast')`
          return true
        }),
      ),
  }
}

async function become(sql: postgres.Sql, topic: string, caller: Caller): Promise<void> {
  const { claims, headers } = caller
  const role = String(claims.role)
  const subject = typeof claims.sub === 'string' ? claims.sub : ''
  await sql`select set_config('role', ${role}, true),
    set_config('realtime.topic', ${topic}, true),
    set_config('request.jwt.claims', ${JSON.stringify(claims)}, true),
    set_config('request.jwt.claim.sub', ${subject}, true),
    set_config('request.jwt.claim.role', ${role}, true),
    set_config('request.headers', ${JSON.stringify(headers)}, true)`
}

async function rolledBack<T>(
  sql: postgres.Sql,
  probe: (sql: postgres.Sql) => Promise<T>,
): Promise<T> {
  const connection = await sql.reserve()
  try {
    await connection`begin`
    return await probe(connection)
  } finally {
    await connection`rollback`.catch(() => {})
    connection.release()
  }
}

function refusal(cause: unknown, log: (line: string) => void): false {
  if (!(cause instanceof postgres.PostgresError) || unavailable.test(cause.code)) {
    const message = 'Realtime was unable to connect to the project database'
    throw new RealtimeError('UnableToConnectToProject', message, { cause })
  }
  if (cause.code === noPartition && cause.table_name === 'messages') {
    const message = 'Realtime was unable to find the expected messages partition'
    throw new RealtimeError('MissingPartition', message, { cause })
  }
  if (cause.code !== insufficientPrivilege) log(`RlsPolicyError: ${cause.message}`)
  return false
}
