import postgres from 'postgres'

/** A pool of connections, each with one user at a time. */
export interface Lender {
  /** Lends a connection until `release`. */
  lend(): Promise<Loan>
  /** Lends a connection for the time of `work`; rejects with ConnectionLostError when it breaks. */
  use<T>(work: (sql: postgres.Sql) => Promise<T>): Promise<T>
  /** From now on only new connections are lent. */
  renew(): void
  end(): Promise<void>
}

export interface Loan {
  /** Rejects with ConnectionLostError when the connection has broken or breaks. */
  query(text: string, parameters: Parameter[]): Promise<postgres.RowList<postgres.Row[]>>
  release(): void
}

/** What the driver takes as a parameter; it writes anything by the type Postgres tells. */
export type Parameter = postgres.ParameterOrJSON<never>

export interface LenderOptions {
  url: string
  /** Most connections at once; further callers wait. */
  max: number
  /** What pg_stat_activity shows. */
  name: string
  /** How values are read and written by connections that are opened from now on. */
  types?: () => Record<string, postgres.PostgresType>
}

/** The server went away while something waited for it. */
export class ConnectionLostError extends Error {
  override name = 'ConnectionLostError'
  readonly code = 'CONNECTION_LOST'

  constructor() {
    super('The connection to the database was lost')
  }
}

interface Client {
  sql: postgres.Sql
  /** Not to be lent again. */
  isSpent: boolean
  isLost: boolean
  /** Ends the waiting of whoever uses it. */
  refuse: (cause: Error) => void
}

const connectSeconds = 5

/**
 * Lends connections that are clients of their own, and throws away those that break. What the pool
 * of postgres 3.4.9 does when the server goes away (seen under load with SIGKILL): a query may never
 * settle; a reserved connection is later handed out closed and written to outside of any promise;
 * the driver's own `fetch_types` fails outside of any promise; and without that, `reserve` waits for
 * ever on a new connection.
 */
export function lendConnections(options: LenderOptions): Lender {
  const idle: Client[] = []
  const clients = new Set<Client>()
  const waiting: ((client: Client) => void)[] = []

  function open(): Client {
    const sql = postgres(options.url, {
      max: 1,
      max_lifetime: null,
      connect_timeout: connectSeconds,
      fetch_types: false,
      onnotice: () => {},
      onclose: () => {
        client.isSpent = true
        client.isLost = true
        // The driver's own error, where there is one, says more.
        setImmediate(() => client.refuse(new ConnectionLostError()))
      },
      connection: { application_name: options.name },
      types: options.types?.() ?? {},
    })
    const client: Client = { sql, isSpent: false, isLost: false, refuse: () => {} }
    clients.add(client)
    return client
  }

  function close(client: Client): Promise<void> {
    clients.delete(client)
    return client.sql.end({ timeout: 1 }).catch(() => {})
  }

  async function take(): Promise<Client> {
    for (let client = idle.pop(); client; client = idle.pop()) {
      if (!client.isSpent) return client
      void close(client)
    }
    if (clients.size < options.max) return open()
    return new Promise((settle) => waiting.push(settle))
  }

  function giveBack(client: Client): void {
    if (!clients.has(client)) return
    const next = waiting.shift()
    if (client.isSpent) {
      void close(client)
      next?.(open())
    } else if (next) next(client)
    else idle.push(client)
  }

  return {
    async lend() {
      const client = await take()
      return {
        release: () => giveBack(client),
        query: (text, parameters) => {
          if (client.isLost) return Promise.reject(new ConnectionLostError())
          return unlessLost(client, client.sql.unsafe(text, parameters))
        },
      }
    },
    async use(work) {
      const client = await take()
      try {
        return await unlessLost(client, work(client.sql))
      } finally {
        giveBack(client)
      }
    },
    renew() {
      for (const client of clients) client.isSpent = true
    },
    async end() {
      await Promise.all([...clients].map(close))
    },
  }
}

/** `Promise.race` would pile up on a promise that lives as long as the connection. */
function unlessLost<T>(client: Client, work: PromiseLike<T>): Promise<T> {
  return new Promise((settle, refuse) => {
    client.refuse = refuse
    work.then(settle, refuse)
  })
}
