import { createClient } from '@supabase/supabase-js'
import { startWorker, type Worker } from '../../packages/shared/src/engine/worker.ts'
import { providerAccess, readSettings, secretKey } from '../../packages/shared/src/env.ts'
import { complete } from '../../packages/shared/src/models/complete.ts'
import { openDatabase } from '../../packages/shared/src/rpc.ts'
import { listenForWork } from '../../packages/shared/src/wake.ts'
import { requireSecret, serve } from '../_kit/serve.ts'

const settings = readSettings(Deno.env.toObject())
let worker: Worker | null = null
const stopping = new AbortController()
addEventListener('beforeunload', () => stopping.abort())

/** One worker per isolate; it lingers on the wake topic until its time is used up. */
async function work(): Promise<void> {
  const client = createClient(settings.SUPABASE_URL, secretKey(settings), {
    auth: { persistSession: false, autoRefreshToken: false },
  })
  const mine = startWorker({
    name: `edge-${crypto.randomUUID().slice(0, 8)}`,
    database: openDatabase(client),
    complete,
    access: providerAccess(settings),
    queues: settings.NIGHTSHIFT_QUEUES,
    concurrency: settings.NIGHTSHIFT_CONCURRENCY,
    leaseSeconds: settings.NIGHTSHIFT_LEASE_SECONDS,
    firstByteMs: settings.NIGHTSHIFT_FIRST_BYTE_SECONDS * 1000,
    idleMs: settings.NIGHTSHIFT_IDLE_SECONDS * 1000,
    budgetMs: settings.NIGHTSHIFT_TICK_SECONDS * 1000,
    // A ring within a second of another is suppressed (…_wake.sql); whoever lingers must look that often.
    pollMs: 1000,
    sweeps: false,
    signal: stopping.signal,
    now: Date.now,
    log: (event) => console.log(JSON.stringify(event)),
  })
  worker = mine
  const stopListening = listenForWork(client, mine.wake)
  try {
    await mine.done
  } finally {
    if (worker === mine) worker = null
    await stopListening()
  }
}

/** The nudge: answers at once, works in the background. Carries nothing and means nothing but "look". */
export default {
  fetch: serve(
    {
      method: 'POST',
      authorize: requireSecret('x-nightshift-nudge', settings.NIGHTSHIFT_NUDGE_SECRET),
    },
    () => {
      if (!worker?.wake()) EdgeRuntime.waitUntil(work())
      return Response.json({ status: 'accepted' }, { status: 202 })
    },
  ),
}
