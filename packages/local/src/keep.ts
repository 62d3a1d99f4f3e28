import { type PostgresOptions, type PostgresServer, startPostgres } from './postgres.ts'

/** A Postgres that is started again whenever it dies. */
export interface KeptPostgres {
  /** The living server; another object after each restart, with the same port. */
  server(): PostgresServer
  /** Stops and starts it; `immediate` is a crash. */
  restart(mode?: 'fast' | 'immediate'): Promise<void>
  stop(): Promise<void>
}

const watchMilliseconds = 100
const attempts = 50

/** Starts Postgres and keeps it running on the same port until `stop`. */
export async function keepPostgres(options: PostgresOptions): Promise<KeptPostgres> {
  const { log = () => {} } = options
  let server = await startPostgres(options)
  let isStopped = false
  let restarting: Promise<void> | undefined

  async function startAgain(): Promise<void> {
    for (let attempt = 1; !isStopped; attempt += 1) {
      try {
        server = await startPostgres({ ...options, port: server.port })
        return
      } catch (cause) {
        // The backends of a killed server hold its memory for a moment.
        if (attempt === attempts) throw cause
        await new Promise((settle) => setTimeout(settle, watchMilliseconds))
      }
    }
  }

  function revive(): Promise<void> {
    restarting ??= startAgain().finally(() => {
      restarting = undefined
    })
    return restarting
  }

  const watch = setInterval(() => {
    if (isStopped || restarting || isAlive(server.pid)) return
    log('Postgres has died and is started again')
    revive().catch((cause) => log(`Postgres cannot be started again: ${cause}`))
  }, watchMilliseconds)
  watch.unref()

  return {
    server: () => server,
    async restart(mode) {
      await server.stop(mode)
      await revive()
    },
    async stop() {
      isStopped = true
      clearInterval(watch)
      await restarting?.catch(() => {})
      await server.stop()
    },
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
