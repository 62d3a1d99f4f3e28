import { setMaxListeners } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import type postgres from 'postgres'
import type { Faults } from './faults.ts'
import { createLatch, type Latch } from './latch.ts'
import { type Outcome, perform, type Transfer } from './net/transfer.ts'
import { openSession } from './session.ts'

export interface NetOptions {
  /** The database whose queue is served, as superuser. */
  adminUrl: string
  /** `faults.net` is read at each use. */
  faults: Pick<Faults, 'net'>
  /** Requests per transaction; pg_net.batch_size. Default 200. */
  batchSize?: number
  /** Age in hours at which answers go; pg_net.ttl. Default 6. */
  ttlHours?: number
  /** Draws what `loss` drops, 0 to 1; a test may hand in its own. */
  random?: () => number
  log?: (line: string) => void
}

export interface NetWorker {
  /** Lets the batch finish for two seconds; then its connections are cut and its requests stay queued. */
  stop(): Promise<void>
  /** What net.worker_restart() does: finish the batch, end, and be back a second later. */
  restart(): Promise<void>
  /** Ends when the worker has nothing to do and waits for a wake; wakes that are under way do not count. */
  idle(): Promise<void>
}

interface QueuedRequest extends Transfer {
  id: string
}

type Answer = Outcome & { id: string }

const version = '0.20.4'
const pauseMilliseconds = 1000
const stopGraceMilliseconds = 2000

/**
 * Serves `net.http_request_queue` as the worker of pg_net 0.20 does: one transaction per batch that
 * deletes the requests, sends them all, waits for the slowest (so that it delays everything behind
 * it), stores the answers and commits; then a pause of a second.
 *
 * The pause ends early once: a wake sets the latch only while none is pending, and a busy worker
 * leaves it pending. Measured with the extension: of five requests 100 to 500 ms apart the first two
 * arrived after 2 ms, the others when their second was over.
 */
export async function startNet(options: NetOptions): Promise<NetWorker> {
  const worker = new Worker(options)
  await worker.connect()
  const ended = worker.run()
  return {
    restart: () => worker.restart(),
    idle: () => worker.idle(),
    async stop() {
      worker.end()
      const grace = new AbortController()
      const cut = sleep(stopGraceMilliseconds, undefined, { signal: grace.signal }).then(
        () => worker.abort(),
        () => {},
      )
      await ended
      grace.abort()
      await cut
    },
  }
}

class Worker {
  readonly #options: NetOptions
  readonly #latch: Latch = createLatch()
  readonly #stopping = new AbortController()
  readonly #cut = new AbortController()
  #sql: postgres.Sql | undefined
  #isWoken = false
  #isBroken = false
  #isIdle = false
  #restarted: (() => void)[] = []
  #awaitingIdle: (() => void)[] = []

  constructor(options: NetOptions) {
    this.#options = options
    // One listener per request that is being held back.
    setMaxListeners(0, this.#cut.signal)
  }

  async connect(): Promise<void> {
    let isOpen = true
    this.#sql = await openSession({
      url: this.#options.adminUrl,
      name: `pg_net ${version}`,
      listen: { pg_net_wake: () => this.#wake(), pg_net_restart: () => void this.restart() },
      onClose: () => {
        isOpen = false
        this.#isBroken = true
        this.#latch.set()
      },
    })
    this.#isBroken = !isOpen
    // A new worker looks at once: the queue may hold what came while there was none.
    this.#wake()
  }

  restart(): Promise<void> {
    return new Promise((settle) => {
      this.#restarted.push(settle)
      this.#latch.set()
    })
  }

  idle(): Promise<void> {
    return new Promise((settle) => {
      if (this.#isIdle) settle()
      else this.#awaitingIdle.push(settle)
    })
  }

  end(): void {
    this.#stopping.abort()
    this.#latch.set()
  }

  abort(): void {
    this.#cut.abort(new Error('the worker was stopped'))
  }

  async run(): Promise<void> {
    while (!this.#isStopping) {
      if (this.#mustStartAgain) await this.#startAgain()
      else if (this.#isWoken) await this.#work()
      else await this.#rest()
    }
    await this.#disconnect()
    for (const settle of [...this.#restarted, ...this.#awaitingIdle]) settle()
  }

  get #isStopping(): boolean {
    return this.#stopping.signal.aborted
  }

  get #mustStartAgain(): boolean {
    return this.#isBroken || this.#restarted.length > 0
  }

  async #rest(): Promise<void> {
    this.#isIdle = true
    for (const settle of this.#awaitingIdle.splice(0)) settle()
    await this.#latch.wait()
    this.#isIdle = false
  }

  /** Batch after batch until there was nothing to do. */
  async #work(): Promise<void> {
    this.#isWoken = false
    for (let isBusy = true; isBusy && !this.#isStopping && !this.#mustStartAgain; ) {
      try {
        isBusy = await this.#batch()
      } catch (cause) {
        // Rolled back: what was sent stays queued and is sent again each second until a batch commits.
        if (!this.#isStopping) this.#options.log?.(`pg_net: the batch failed: ${cause}`)
        this.#isBroken = true
        return
      }
      await this.#latch.wait(pauseMilliseconds)
    }
  }

  async #batch(): Promise<boolean> {
    while (this.#options.faults.net.paused && !this.#isStopping) await sleep(20)
    if (this.#isStopping || !this.#sql) return false
    const sql = this.#sql
    // No sql.begin: when the server ends the session inside it, postgres 3.4.9 writes its rollback to
    // the closed socket, outside any promise. After an error here the session is dropped anyway.
    await sql`begin`
    const expired = await deleteExpired(sql, this.#options)
    const requests = await takeRequests(sql, this.#options.batchSize ?? 200)
    const answers = await Promise.all(requests.map((request) => this.#deliver(request)))
    await storeAnswers(
      sql,
      answers.filter((answer) => answer !== null),
    )
    await sql`commit`
    return expired > 0 || requests.length > 0
  }

  async #deliver(request: QueuedRequest): Promise<Answer | null> {
    const { loss, duplicate, delayMs } = this.#options.faults.net
    if ((this.#options.random ?? Math.random)() < loss) return null
    if (delayMs > 0) await sleep(delayMs, undefined, { signal: this.#cut.signal })
    const copies = Array.from({ length: 1 + duplicate }, () => perform(request, this.#cut.signal))
    const [outcome] = await Promise.all(copies)
    return outcome ? { ...outcome, id: request.id } : null
  }

  /** As a background worker that ended: the server starts it again after a second, and so on. */
  async #startAgain(): Promise<void> {
    const waiting = this.#restarted
    this.#restarted = []
    await this.#disconnect()
    for (let isConnected = false; !isConnected && !this.#isStopping; ) {
      await sleep(pauseMilliseconds, undefined, { signal: this.#stopping.signal }).catch(() => {})
      isConnected = await this.#tryConnect()
    }
    for (const settle of waiting) settle()
  }

  async #tryConnect(): Promise<boolean> {
    if (this.#isStopping) return false
    try {
      await this.connect()
      return !this.#isBroken
    } catch (cause) {
      this.#options.log?.(`pg_net: no connection: ${cause}`)
      await this.#disconnect()
      return false
    }
  }

  async #disconnect(): Promise<void> {
    const sql = this.#sql
    this.#sql = undefined
    await sql?.end({ timeout: 1 })
  }

  #wake(): void {
    if (this.#isWoken) return
    this.#isWoken = true
    this.#latch.set()
  }
}

async function deleteExpired(sql: postgres.Sql, options: NetOptions): Promise<number> {
  const { ttlHours = 6, batchSize = 200 } = options
  const deleted = await sql`
    delete from net._http_response where ctid in (
      select ctid from net._http_response
      where created < now() - make_interval(secs => ${ttlHours * 3600})
      order by created limit ${batchSize}
    )`
  return deleted.count
}

/** Deletes and returns the next requests. An empty header is none: so libcurl reads "Name: ". */
async function takeRequests(sql: postgres.Sql, limit: number): Promise<QueuedRequest[]> {
  const rows = await sql<QueuedRequest[]>`
    with batch as (
      delete from net.http_request_queue
      where id in (select id from net.http_request_queue order by id limit ${limit})
      returning *
    )
    select
      id::text, upper(method) as method, url, body, timeout_milliseconds as "timeoutMilliseconds",
      (
        select coalesce(json_agg(array[key, value]), '[]')
        from jsonb_each_text(headers) where value <> ''
      ) as headers
    from batch order by batch.id`
  return rows.map((row) => ({
    ...row,
    headers: [...row.headers, ['User-Agent', `pg_net/${version}`]],
  }))
}

async function storeAnswers(sql: postgres.Sql, answers: Answer[]): Promise<void> {
  if (answers.length === 0) return
  await sql`
    insert into net._http_response
      (id, status_code, content_type, headers, content, timed_out, error_msg)
    select id, "statusCode", "contentType", headers, content, "timedOut", error
    from jsonb_to_recordset(${sql.json(answers.map((answer) => ({ ...answer })))}) as answer (
      id bigint, "statusCode" integer, "contentType" text, headers jsonb, content text,
      "timedOut" boolean, error text
    )`
}
