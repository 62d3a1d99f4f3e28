import postgres from 'postgres'

export interface SessionOptions {
  /** The database, as superuser. */
  url: string
  /** What pg_stat_activity shows. */
  name: string
  /** What to do per channel; notifications arrive between transactions. */
  listen?: Record<string, () => void>
  /** The session is gone, by itself or through `end`. */
  onClose(): void
}

/**
 * One database session that works and listens, as a background worker inside Postgres does.
 * Rejects when the database does not answer.
 *
 * `sql.listen` would open a second connection, and ending it while it reconnects throws outside any
 * promise (postgres 3.4.9). `onnotify` is the option it uses underneath; the types do not name it.
 */
export async function openSession(options: SessionOptions): Promise<postgres.Sql> {
  const { listen = {} } = options
  const settings = {
    max: 1,
    max_lifetime: null,
    connect_timeout: 5,
    onnotice: () => {},
    onnotify: (channel: string) => listen[channel]?.(),
    onclose: () => options.onClose(),
    connection: {
      application_name: options.name,
      idle_in_transaction_session_timeout: 0,
      statement_timeout: 0,
    },
  }
  const sql = postgres(options.url, settings)
  try {
    // Also without channels: a session is open when it has answered.
    await sql`select 1`
    for (const channel of Object.keys(listen)) await sql`listen ${sql(channel)}`
    return sql
  } catch (cause) {
    await sql.end({ timeout: 0 })
    throw cause
  }
}
