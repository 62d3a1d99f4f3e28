import type { PostgresServer } from '../../../packages/local/src/postgres.ts'
import { loadPeer } from '../peers/load.ts'
import {
  batchSize,
  type Contender,
  connections,
  drainByClaims,
  payload,
  ways,
  workers,
} from './contender.ts'
import { connect, createDatabase } from './server.ts'

interface Job {
  id: string
}

/** What this benchmark uses of pg-boss 12. */
interface Boss {
  on(event: 'error', listener: (error: Error) => void): void
  start(): Promise<unknown>
  stop(options: { graceful: boolean }): Promise<void>
  createQueue(name: string, options?: { notify?: boolean }): Promise<void>
  send(name: string, data: object): Promise<unknown>
  insert(name: string, jobs: { data: object }[]): Promise<unknown>
  fetch(name: string, options: { batchSize: number }): Promise<Job[]>
  complete(name: string, ids: string[]): Promise<unknown>
  work(name: string, options: object, handler: (jobs: Job[]) => Promise<void>): Promise<string>
  offWork(name: string): Promise<void>
  deleteAllJobs(name: string): Promise<void>
}

const queue = 'bench'

/** pg-boss: `insert` of arrays, `fetch` and `complete` in batches, workers woken by LISTEN. */
export async function openPgBoss(server: PostgresServer): Promise<Contender> {
  const { PgBoss }: { PgBoss: new (options: object) => Boss } = await loadPeer('pg-boss')
  const connectionString = server.databaseUrl(await createDatabase(server, 'pg_boss'))
  const admin = connect(connectionString, 1)
  const boss = new PgBoss({ connectionString, useListenNotify: true, max: connections })
  boss.on('error', (error) => console.error(`pg-boss: ${error.message}`))
  await boss.start()
  await boss.createQueue(queue, { notify: true })

  const calls = {
    claim: (count: number): Promise<Job[]> => boss.fetch(queue, { batchSize: count }),
    complete: (taken: unknown[]): Promise<unknown> =>
      boss.complete(
        queue,
        taken.filter(isJob).map((job) => job.id),
      ),
  }
  return {
    name: 'pg_boss',
    enqueue: () => boss.send(queue, payload),
    enqueueBatch: async (count) => {
      for (let done = 0; done < count; done += 1000) {
        const jobs = Array.from({ length: Math.min(1000, count - done) }, () => ({ data: payload }))
        await boss.insert(queue, jobs)
      }
    },
    ...calls,
    drain: (count, way) => drainByClaims(calls, count, ways[way]),
    work: async (onStart) => {
      const options = {
        batchSize,
        localConcurrency: workers,
        pollingIntervalSeconds: 0.5,
        burstWhenBatchFull: true,
      }
      await boss.work(queue, options, async (jobs) => {
        for (const _job of jobs) onStart()
      })
      return { stop: () => boss.offWork(queue) }
    },
    analyze: () => admin`analyze`,
    clear: () => boss.deleteAllJobs(queue),
    close: async () => {
      await boss.stop({ graceful: false })
      await admin.end()
    },
  }
}

function isJob(taken: unknown): taken is Job {
  return typeof taken === 'object' && taken !== null && 'id' in taken
}
