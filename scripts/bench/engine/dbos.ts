import type { PostgresServer } from '../../../packages/local/src/postgres.ts'
import { loadPeer } from '../peers/load.ts'
import { type Contender, connections, timedEach } from './contender.ts'
import { connect, createDatabase } from './server.ts'

interface Handle {
  getResult(): Promise<unknown>
}

type Workflow = () => Promise<void>

interface StartOptions {
  queueName?: string
}

/** What this benchmark uses of DBOS 5. */
interface Dbos {
  setConfig(config: object): void
  launch(): Promise<void>
  shutdown(): Promise<void>
  registerWorkflow(workflow: Workflow, options: { name: string }): Workflow
  registerQueue(name: string, options: object): Promise<unknown>
  deleteQueue(name: string): Promise<void>
  startWorkflow(workflow: Workflow, options?: StartOptions): () => Promise<Handle>
  runStep(step: () => Promise<unknown>, options: { name: string }): Promise<unknown>
}

/** DBOS: durable workflows on a queue that is polled every 50 ms, started at once where that is enough. */
export async function openDbos(server: PostgresServer): Promise<Contender> {
  const { DBOS }: { DBOS: Dbos } = await loadPeer('@dbos-inc/dbos-sdk')
  const url = server.databaseUrl(await createDatabase(server, 'dbos'))
  const silent = (): void => {}
  DBOS.setConfig({
    name: 'bench',
    systemDatabaseUrl: url,
    systemDatabasePoolSize: connections,
    logger: { info: silent, debug: silent, warn: silent, error: console.error },
  })
  let onStart = (): void => {}
  const nothing = DBOS.registerWorkflow(async () => onStart(), { name: 'nothing' })
  const chain = DBOS.registerWorkflow(
    async () => {
      for (const name of ['first', 'second', 'third'])
        await DBOS.runStep(async () => name, { name })
    },
    { name: 'chain' },
  )
  let width = 0
  const map = DBOS.registerWorkflow(
    async () => {
      for (const _stage of ['first', 'second']) {
        const handles = []
        for (let child = 0; child < width; child += 1)
          handles.push(await DBOS.startWorkflow(nothing)())
        for (const handle of handles) await handle.getResult()
      }
    },
    { name: 'map' },
  )
  await DBOS.launch()
  // A queue that nobody has registered is not worked off.
  let backlog = 0
  const queueName = (): string => `backlog-${backlog}`
  const enqueue = (): Promise<Handle> => DBOS.startWorkflow(nothing, { queueName: queueName() })()
  const openQueue = async (started: () => void): Promise<{ close(): Promise<void> }> => {
    onStart = started
    const name = queueName()
    await DBOS.registerQueue(name, { minPollingIntervalMs: 50 })
    return {
      close: async () => {
        onStart = silent
        backlog += 1
        await DBOS.deleteQueue(name)
      },
    }
  }

  const admin = connect(url, 1)
  return {
    name: 'dbos',
    enqueue,
    enqueueBatch: (count) => timedEach(count, connections, enqueue),
    drain: async (count) => {
      let open = count
      let finish = (): void => {}
      const done = new Promise<void>((settle) => {
        finish = settle
      })
      const queue = await openQueue(() => {
        open -= 1
        if (open === 0) finish()
      })
      await done
      await queue.close()
    },
    work: async (started) => {
      const queue = await openQueue(started)
      return { stop: queue.close }
    },
    chains: (count) =>
      timedEach(count, connections, async () => {
        const handle = await DBOS.startWorkflow(chain)()
        await handle.getResult()
      }),
    map: async (wanted) => {
      width = wanted
      const handle = await DBOS.startWorkflow(map)()
      await handle.getResult()
    },
    analyze: () => admin`analyze`,
    clear: async () => {
      await admin`truncate dbos.workflow_status cascade`
    },
    close: async () => {
      await DBOS.shutdown()
      await admin.end()
    },
  }
}
