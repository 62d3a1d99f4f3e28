import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createClient, type SupabaseClient } from '@supabase/supabase-js'
import postgres from 'postgres'
import { freePortBase } from '../../apps/cli/src/ports.ts'
import { type LocalStack, startLocalStack } from '../../apps/cli/src/stack.ts'
import { benchRpc, type RpcThroughput } from '../../packages/local/src/rest/rpc.bench.ts'
import { readSettings } from '../../packages/shared/src/env.ts'
import { type Bench, type BenchRow, hammer, quantile } from './row.ts'

/**
 * The embedded Supabase: calls of a trivial function per second through the gateway, and the time from
 * a user's insert over REST to the start of the handler in the Edge Function.
 */
export const local: Bench = async function* () {
  const home = mkdtempSync(join(tmpdir(), 'nightshift-bench-'))
  const settings = readSettings({
    NIGHTSHIFT_HOME: home,
    NIGHTSHIFT_PORT_BASE: String(await freePortBase()),
  })
  const stack = await startLocalStack(settings, () => {})
  try {
    for (const measured of await benchRpc()) yield await rpcRow(stack, measured)
    yield await startRow(stack)
  } finally {
    await stack.stop()
    rmSync(home, { recursive: true, force: true })
  }
}

/** `local.rpc_N`: N keep-alive clients in a process of their own; the floor makes a like call, roles and all, without HTTP. */
async function rpcRow(stack: LocalStack, measured: RpcThroughput): Promise<BenchRow> {
  const { clients, calls, callsPerSecond, median, p99 } = measured
  const sessions = Array.from({ length: clients }, () => postgres(stack.urls.db, { max: 1 }))
  const floor = await hammer(clients, 3, (client) =>
    sessions[client]
      ?.unsafe(
        `begin; select set_config('request.jwt.claims', '{"role":"anon"}', true); set local role anon; select 1 + 2; commit`,
      )
      .simple(),
  )
  await Promise.all(sessions.map((session) => session.end()))
  return {
    name: `local.rpc_${clients}`,
    unit: '/s',
    n: calls,
    median: callsPerSecond,
    p50: median,
    p99,
    ratio_to_floor: callsPerSecond / floor.perSecond,
    ratio_to: {},
  }
}

/**
 * `local.insert_to_start`: a signed-in person inserts a task over REST; measured from just before the
 * request to the claim. The floor is the same insert alone, acknowledged.
 */
async function startRow(stack: LocalStack): Promise<BenchRow> {
  const client = createClient(stack.urls.api, stack.keys.publishableKey, {
    auth: { persistSession: false },
  })
  await client.auth.signUp({
    email: 'bench@nightshift.example',
    password: 'a-long-enough-password',
  })
  const db = client.schema('nightshift')
  const { data: project } = await db.rpc('create_project', { name: 'bench' })
  await db.rpc('set_agent', { project, name: 'bench', definition: { instructions: 'Answer.' } })
  const waits: number[] = []
  const inserts: number[] = []
  for (let round = 0; round < 60; round += 1) {
    const before = Date.now()
    const id = await insert(client, String(project))
    inserts.push(Date.now() - before)
    const started = await startOf(client, id)
    // The first ten warm up the function.
    if (round >= 10) waits.push(started - before)
    // Not in step with the doorbell's rhythm of one second.
    await new Promise((settle) => setTimeout(settle, Math.random() * 400))
  }
  const p50 = quantile(waits, 0.5)
  return {
    name: 'local.insert_to_start',
    unit: 'ms',
    n: waits.length,
    median: p50,
    p50,
    p99: quantile(waits, 0.99),
    ratio_to_floor: quantile(inserts, 0.5) / p50,
    ratio_to: {},
  }
}

async function insert(client: SupabaseClient, project: string): Promise<number> {
  const { data, error } = await client
    .schema('nightshift')
    .from('tasks')
    .insert({ project_id: project, agent: 'bench', input: { question: 'Now?' } })
    .select('id')
    .single()
  if (error) throw new Error(error.message)
  return Number(data.id)
}

async function startOf(client: SupabaseClient, id: number): Promise<number> {
  for (;;) {
    const { data } = await client
      .schema('nightshift')
      .from('tasks')
      .select('started_at')
      .eq('id', id)
      .single()
    if (data?.started_at) return Date.parse(data.started_at)
    await new Promise((settle) => setTimeout(settle, 10))
  }
}
