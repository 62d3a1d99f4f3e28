import postgres from 'postgres'

export interface Command {
  /** Connection string of the job's user to the job's database. */
  url: string
  text: string
  /** Told the backend's process id when the connection stands and the command goes out. */
  onStart(pid: number): void
  /** Cuts the connection; the backend notices when it next sends something, as with pg_cron. */
  signal: AbortSignal
}

export interface CommandResult {
  status: 'succeeded' | 'failed'
  /** As pg_cron words it over libpq: "2 rows", a command tag, or the error. */
  message: string
}

const startupSeconds = 10

/** Runs a command, which may be several statements in one implicit transaction. Never rejects. */
export async function runCommand(command: Command): Promise<CommandResult> {
  const sql = postgres(command.url, {
    max: 1,
    fetch_types: false,
    connect_timeout: startupSeconds,
    onnotice: () => {},
    connection: { application_name: 'pg_cron' },
  })
  const cut = (): void => void sql.end({ timeout: 0 })
  command.signal.addEventListener('abort', cut, { once: true })
  let isConnected = false
  try {
    const [backend] = await sql`select pg_backend_pid() as pid`
    isConnected = true
    command.onStart(backend?.pid)
    const result = await sql.unsafe(command.text).simple()
    return { status: 'succeeded', message: successText(result) }
  } catch (cause) {
    if (command.signal.aborted) return { status: 'failed', message: 'job canceled' }
    if (cause instanceof postgres.PostgresError && isConnected) {
      return { status: 'failed', message: errorText(cause) }
    }
    return { status: 'failed', message: isConnected ? 'connection lost' : 'connection failed' }
  } finally {
    command.signal.removeEventListener('abort', cut)
    await sql.end({ timeout: 0 })
  }
}

interface StatementResult {
  command: string | null
  count: number | null
  length: number
}

/** Several statements yield a list of results, of which the last one is shown. */
function successText(result: StatementResult | StatementResult[]): string {
  const last = 'command' in result ? result : result.at(-1)
  const tag = last?.command ?? ''
  if (tag === 'INSERT') return `INSERT 0 ${last?.count}`
  if (/^(UPDATE|DELETE|MERGE|COPY|MOVE)$/.test(tag)) return `${tag} ${last?.count}`
  if (tag && !/^(SELECT|SHOW|EXPLAIN|FETCH)$/.test(tag)) return tag
  return last?.length === 1 ? '1 row' : `${last?.length ?? 0} rows`
}

function errorText(error: postgres.PostgresError): string {
  const lines = [
    `${error.severity}:  ${error.message}`,
    error.detail && `DETAIL:  ${error.detail}`,
    error.hint && `HINT:  ${error.hint}`,
    error.where && `CONTEXT:  ${error.where}`,
  ]
  return `${lines.filter(Boolean).join('\n')}\n`
}
