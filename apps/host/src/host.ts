import { hostname } from 'node:os'
import { startWorker, type WorkerEvent } from '@nightshift/shared/engine/worker.ts'
import { providerAccess, type Settings, secretKey } from '@nightshift/shared/env.ts'
import { complete } from '@nightshift/shared/models/complete.ts'
import { openDatabase } from '@nightshift/shared/rpc.ts'
import { listenForWork } from '@nightshift/shared/wake.ts'
import { createClient } from '@supabase/supabase-js'

export interface HostOptions {
  settings: Settings
  signal: AbortSignal
  /** False polls only: the fallback that needs no doorbell at all. */
  listen: boolean
  log: (event: WorkerEvent) => void
}

/**
 * A worker on a machine of one's own: the same claim and tick code as the Edge Function, woken by
 * Realtime and, should that fail, by looking every `NIGHTSHIFT_POLL_SECONDS`. Runs until the signal.
 */
export async function runHost({ settings, signal, listen, log }: HostOptions): Promise<void> {
  const client = createClient(settings.SUPABASE_URL, secretKey(settings), {
    auth: { persistSession: false, autoRefreshToken: false },
  })
  const worker = startWorker({
    name: `host-${hostname()}-${process.pid}`,
    database: openDatabase(client),
    complete,
    access: providerAccess(settings),
    queues: settings.NIGHTSHIFT_QUEUES,
    concurrency: settings.NIGHTSHIFT_CONCURRENCY,
    leaseSeconds: settings.NIGHTSHIFT_LEASE_SECONDS,
    firstByteMs: settings.NIGHTSHIFT_FIRST_BYTE_SECONDS * 1000,
    idleMs: settings.NIGHTSHIFT_IDLE_SECONDS * 1000,
    pollMs: settings.NIGHTSHIFT_POLL_SECONDS * 1000,
    budgetMs: null,
    sweeps: true,
    signal,
    now: Date.now,
    log,
  })
  const stopListening = listen ? listenForWork(client, worker.wake) : async () => {}
  await worker.done
  await stopListening()
}
