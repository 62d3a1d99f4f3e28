import type { PostgresServer } from '../../../packages/local/src/postgres.ts'
import { loadPeer } from '../peers/load.ts'
import { batchSize, type Contender, connections, payload, type Way, workers } from './contender.ts'
import { connect, createDatabase } from './server.ts'

interface Runner {
  stop(): Promise<void>
}

/** What this benchmark uses of graphile-worker 0.18. */
interface Module {
  run(options: object): Promise<Runner>
  makeWorkerUtils(options: object): Promise<Tools>
  Logger: new (factory: () => () => void) => unknown
}

interface Tools {
  migrate(): Promise<void>
  addJob(name: string, payload: object): Promise<unknown>
  addJobs(jobs: { identifier: string; payload: object }[]): Promise<unknown>
  release(): Promise<void>
}

const task = 'bench'

/** graphile-worker: `addJobs`, a local queue and batched completion; one at a time with its defaults. */
export async function openGraphileWorker(server: PostgresServer): Promise<Contender> {
  const { run, makeWorkerUtils, Logger }: Module = await loadPeer('graphile-worker')
  const connectionString = server.databaseUrl(await createDatabase(server, 'graphile_worker'))
  const logger = new Logger(() => () => {})
  const tools = await makeWorkerUtils({ connectionString, logger, maxPoolSize: connections })
  await tools.migrate()
  const admin = connect(connectionString, 1)

  const start = (way: Way, onStart: () => void): Promise<Runner> => {
    const batching = {
      localQueue: { size: batchSize, refetchDelay: { durationMs: 10 } },
      completeJobBatchDelay: 0,
      failJobBatchDelay: 0,
      concurrentJobs: 24 * workers,
      maxPoolSize: 24 * workers + 2,
    }
    return run({
      logger,
      noHandleSignals: true,
      taskList: { [task]: async () => onStart() },
      preset: {
        worker: { connectionString, ...(way === 'batch' ? batching : { concurrentJobs: 1 }) },
      },
    })
  }
  return {
    name: 'graphile_worker',
    enqueue: () => tools.addJob(task, payload),
    enqueueBatch: async (count) => {
      for (let done = 0; done < count; done += 1000) {
        const length = Math.min(1000, count - done)
        await tools.addJobs(Array.from({ length }, () => ({ identifier: task, payload })))
      }
    },
    drain: async (count, way) => {
      let open = count
      let finish = (): void => {}
      const done = new Promise<void>((settle) => {
        finish = settle
      })
      const runner = await start(way, () => {
        open -= 1
        if (open === 0) finish()
      })
      await done
      // Completions may still be on their way: stopping waits for them.
      await runner.stop()
    },
    work: (onStart) => start('batch', onStart),
    analyze: () => admin`analyze`,
    clear: async () => {
      await admin`truncate graphile_worker._private_jobs cascade`
    },
    close: async () => {
      await tools.release()
      await admin.end()
    },
  }
}
