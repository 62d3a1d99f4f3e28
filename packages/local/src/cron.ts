import { setTimeout as sleep } from 'node:timers/promises'
import type postgres from 'postgres'
import { type Clock, systemClock } from './clock.ts'
import { runCommand } from './cron/command.ts'
import { dueRuns, minuteMilliseconds, minuteOf, type Schedule } from './cron/schedule.ts'
import { createLatch, type Latch } from './latch.ts'
import { openSession } from './session.ts'

export interface CronOptions {
  /** The database with schema cron, as superuser. */
  adminUrl: string
  /** How a job's user reaches a job's database. */
  databaseUrl: (username: string, database: string) => string
  /** What decides when jobs are due and what job_run_details says. */
  clock?: Clock
  /** cron.max_running_jobs. Default 5. */
  maxRunning?: number
  log?: (line: string) => void
}

export interface CronScheduler {
  /** Ends at once; running commands are cut and count as failed ("server restarted") at the next start. */
  stop(): Promise<void>
  /** Queues one run of a job as if it were due; ends when that run has ended. Rejects for an unknown id. */
  runNow(jobid: number | string): Promise<void>
}

interface Job {
  id: string
  command: string
  database: string
  username: string
  active: boolean
  /** Null when the row holds something that is no schedule: such a job never runs. */
  schedule: Schedule | null
}

interface Task {
  job: Job
  /** Runs that are due and have not begun. */
  pending: number
  lastStart: number
  running: AbortController | null
  /** Callers of runNow, one for each run that they asked for. */
  waiting: (() => void)[]
}

const longestWait = 1000
const restartMilliseconds = 1000

/**
 * Runs the jobs of `cron.job` as pg_cron 1.6 does over libpq: GMT, one instance per job, a job in
 * seconds queues at most one more run and is measured from its last start, no catching up after a
 * restart, a limited number at once, each command as the job's user on a connection of its own.
 */
export async function startCron(options: CronOptions): Promise<CronScheduler> {
  const scheduler = new Scheduler(options)
  await scheduler.connect()
  const ended = scheduler.run()
  return {
    runNow: (jobid) => scheduler.runNow(String(jobid)),
    async stop() {
      scheduler.end()
      await ended
    },
  }
}

class Scheduler {
  readonly #options: CronOptions
  readonly #clock: Clock
  readonly #latch: Latch
  readonly #stopping = new AbortController()
  readonly #tasks = new Map<string, Task>()
  readonly #runs = new Set<Promise<void>>()
  #sql: postgres.Sql | undefined
  #isLost = false
  #lastMinute = 0

  constructor(options: CronOptions) {
    this.#options = options
    this.#clock = options.clock ?? systemClock
    this.#latch = createLatch(this.#clock)
  }

  /** A new launcher: whatever ran before is over, and only what becomes due from now on counts. */
  async connect(): Promise<void> {
    let isOpen = true
    const sql = await openSession({
      url: this.#options.adminUrl,
      name: 'pg_cron scheduler',
      onClose: () => {
        isOpen = false
        this.#isLost = true
        this.#latch.set()
      },
    })
    this.#sql = sql
    await sql`update cron.job_run_details set status = 'failed', return_message = 'server restarted'
      where status in ('starting', 'running')`
    this.#isLost = !isOpen
    this.#tasks.clear()
    this.#lastMinute = minuteOf(this.#clock.now())
    await this.#loadJobs()
    for (const task of this.#tasks.values()) {
      if (task.job.active && task.job.schedule && 'reboot' in task.job.schedule) task.pending = 1
    }
  }

  async run(): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      try {
        if (this.#isLost) await this.#connectAgain()
        else await this.#turn()
      } catch (cause) {
        this.#options.log?.(`pg_cron: ${cause}`)
        this.#isLost = true
      }
    }
    await this.#cutRuns()
    await this.#disconnect()
    for (const task of this.#tasks.values()) this.#forget(task)
  }

  end(): void {
    this.#stopping.abort()
    this.#latch.set()
  }

  async runNow(jobid: string): Promise<void> {
    if (!this.#tasks.has(jobid)) await this.#loadJobs()
    const task = this.#tasks.get(jobid)
    if (!task) throw new Error(`cannot run job "${jobid}": cron.job has none of that id`)
    await new Promise<void>((settle) => {
      task.waiting.push(settle)
      task.pending += 1
      this.#latch.set()
    })
  }

  async #turn(): Promise<void> {
    await this.#loadJobs()
    const now = this.#clock.now()
    this.#plan(now)
    for (const task of this.#tasks.values()) this.#startWhenDue(task)
    await this.#latch.wait(this.#untilNextEvent(this.#clock.now()))
  }

  async #connectAgain(): Promise<void> {
    await this.#cutRuns()
    await this.#disconnect()
    await sleep(restartMilliseconds, undefined, { signal: this.#stopping.signal }).catch(() => {})
    if (!this.#stopping.signal.aborted) await this.connect()
  }

  async #cutRuns(): Promise<void> {
    for (const task of this.#tasks.values()) task.running?.abort()
    await Promise.all(this.#runs)
  }

  async #disconnect(): Promise<void> {
    const sql = this.#sql
    this.#sql = undefined
    await sql?.end({ timeout: 1 })
  }

  /**
   * Takes over cron.job, at each turn: pg_cron sees a change as soon as it is committed, a notification
   * would come a moment later. A job that is gone or inactive loses its run in progress.
   */
  async #loadJobs(): Promise<void> {
    const jobs = await this.#database()<Job[]>`
      select jobid::text as id, command, database, username, active,
        cron._parse_schedule(schedule) as schedule
      from cron.job order by jobid`
    const rows = new Map(jobs.map((job) => [job.id, job]))
    for (const [id, task] of this.#tasks) {
      if (rows.get(id)?.active) continue
      task.pending = 0
      task.running?.abort()
      if (!rows.has(id)) this.#forget(task)
    }
    for (const job of jobs) {
      const task = this.#tasks.get(job.id)
      if (task) task.job = job
      else this.#tasks.set(job.id, newTask(job, this.#clock.now()))
    }
  }

  #plan(now: number): void {
    for (const task of this.#tasks.values()) {
      const { schedule, active } = task.job
      if (!schedule || !active || 'reboot' in schedule) continue
      if (!('seconds' in schedule)) task.pending += dueRuns(schedule, this.#lastMinute, now)
      else if (task.pending === 0 && now - task.lastStart >= schedule.seconds * 1000)
        task.pending = 1
    }
    this.#lastMinute = Math.max(this.#lastMinute, minuteOf(now))
  }

  #startWhenDue(task: Task): void {
    const isFull = this.#runs.size >= (this.#options.maxRunning ?? 5)
    if (task.pending === 0 || task.running || isFull) return
    task.pending -= 1
    task.running = new AbortController()
    task.lastStart = this.#clock.now()
    const run = this.#run(task, task.running.signal)
      .catch((cause) => this.#options.log?.(`pg_cron: job ${task.job.id}: ${cause}`))
      .finally(() => {
        this.#runs.delete(run)
        task.running = null
        task.waiting.shift()?.()
        this.#latch.set()
      })
    this.#runs.add(run)
  }

  async #run(task: Task, signal: AbortSignal): Promise<void> {
    const { id, command, database, username } = task.job
    const [row] = await this.#database()`
      insert into cron.job_run_details (jobid, database, username, command, status)
      values (${id}, ${database}, ${username}, ${command}, 'starting')
      returning runid::text as id`
    const details = this.#detailsOf(row?.id)
    let running: Promise<unknown> = Promise.resolve()
    const result = await runCommand({
      url: this.#options.databaseUrl(username, database),
      text: command,
      onStart: (pid) => {
        task.lastStart = this.#clock.now()
        running = details({ job_pid: pid, status: 'running', start_time: new Date(task.lastStart) })
      },
      signal,
    })
    await running
    // A stop leaves the row as a shutdown of the server does.
    if (this.#stopping.signal.aborted) return
    await details({
      status: result.status,
      return_message: result.message,
      end_time: new Date(this.#clock.now()),
    })
  }

  #detailsOf(runid: string): (change: Record<string, string | number | Date>) => Promise<unknown> {
    return async (change) => {
      const sql = this.#database()
      await sql`update cron.job_run_details set ${sql(change)} where runid = ${runid}`
    }
  }

  #database(): postgres.Sql {
    if (!this.#sql) throw new Error('the scheduler has no connection')
    return this.#sql
  }

  #forget(task: Task): void {
    this.#tasks.delete(task.job.id)
    for (const settle of task.waiting) settle()
  }

  /** Until a minute begins or a job in seconds is due, and at most a second, as the extension polls. */
  #untilNextEvent(now: number): number {
    let next = minuteOf(now) + minuteMilliseconds
    for (const { job, pending, running, lastStart } of this.#tasks.values()) {
      if (pending > 0 || running || !job.active || !job.schedule) continue
      if ('seconds' in job.schedule) next = Math.min(next, lastStart + job.schedule.seconds * 1000)
    }
    return Math.min(Math.max(next - now, 1), longestWait)
  }
}

function newTask(job: Job, now: number): Task {
  return { job, pending: 0, lastStart: now, running: null, waiting: [] }
}
