import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import postgres from 'postgres'
import { freePortBase } from '../../apps/cli/src/ports.ts'
import type { Proof, ProofOptions } from './proof.ts'
import { seededRandom } from './random.ts'

const root = resolve(import.meta.dirname, '../..')
const cli = join(root, 'apps/cli/src/main.ts')
const victims = ['functions', 'stack', 'postgres'] as const
type Victim = (typeof victims)[number]

/**
 * SIGKILL of the functions host, of the whole stack, of Postgres, at a random moment of the demo, then
 * `nightshift start` again: the demo goes on from the last committed step, ends well, and no step,
 * call or card is there twice.
 */
export const restarts: Proof = async (options) => {
  const random = seededRandom(options.seed)
  const runs = options.runs ?? 9
  const violations: string[] = []
  const resumedWith: number[] = []
  for (let run = 0; run < runs; run += 1) {
    const victim = victims[run % victims.length] ?? 'stack'
    const killAfterSteps = Math.floor(random() * 45)
    const home = mkdtempSync(join(tmpdir(), 'nightshift-prove-'))
    const scene = { home, portBase: await freePortBase(), options }
    try {
      const found = await oneRun(scene, { victim, killAfterSteps })
      resumedWith.push(found.stepsAtKill)
      violations.push(
        ...found.violations.map(
          (text) => `run ${run} (${victim} after ${found.stepsAtKill} steps): ${text}`,
        ),
      )
    } finally {
      rmSync(home, { recursive: true, force: true })
    }
  }
  return {
    name: 'restarts',
    seed: options.seed,
    runs,
    violations,
    ok: violations.length === 0,
    steps_at_kill: resumedWith,
  }
}

interface Scene {
  home: string
  portBase: number
  options: ProofOptions
}

async function oneRun(
  scene: Scene,
  { victim, killAfterSteps }: { victim: Victim; killAfterSteps: number },
): Promise<{ stepsAtKill: number; violations: string[] }> {
  let stack = await startStack(scene)
  const first = runDemo(scene)
  const stepsAtKill = await waitForSteps(scene, killAfterSteps, first)
  scene.options.log(`SIGKILL ${victim} after ${stepsAtKill} steps`)
  const stackDied = kill(victim, scene, stack)
  if (stackDied) {
    first.child.kill('SIGKILL')
    await exited(stack)
    stack = await startStack(scene)
  }
  const summary = stackDied
    ? await runDemo(scene).result
    : await first.result.catch(() => runDemo(scene).result)
  const violations = await inspect(scene, summary)
  stack.kill('SIGINT')
  await exited(stack)
  return { stepsAtKill, violations }
}

function environment({ home, portBase }: Scene): NodeJS.ProcessEnv {
  // A short lease keeps the wait for the rescue short; what is proved does not depend on its length.
  return {
    ...process.env,
    NIGHTSHIFT_HOME: home,
    NIGHTSHIFT_PORT_BASE: String(portBase),
    NIGHTSHIFT_LEASE_SECONDS: '10',
  }
}

async function startStack(scene: Scene): Promise<ChildProcess> {
  const child = spawn(process.execPath, [cli, 'start'], {
    env: environment(scene),
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  await new Promise<void>((settle, refuse) => {
    let text = ''
    child.stderr?.setEncoding('utf8').on('data', (part: string) => {
      text += part
      if (text.includes('npm run demo')) settle()
    })
    child.once('exit', (code) => refuse(new Error(`start ended with ${code}: ${text}`)))
  })
  return child
}

interface Demo {
  child: ChildProcess
  result: Promise<Summary>
}

interface Summary {
  ok: boolean
  mails: number
  audit: { ok: boolean }
  project: string
}

function runDemo(scene: Scene): Demo {
  const child = spawn(process.execPath, [cli, 'demo', '--approve', '--json'], {
    env: environment(scene),
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const result = new Promise<Summary>((settle, refuse) => {
    let out = ''
    let err = ''
    child.stdout?.setEncoding('utf8').on('data', (part: string) => {
      out += part
    })
    child.stderr?.setEncoding('utf8').on('data', (part: string) => {
      err += part
    })
    child.once('exit', () => {
      try {
        settle(JSON.parse(out))
      } catch {
        refuse(new Error(`demo gave no summary: ${err.slice(-500)}`))
      }
    })
  })
  result.catch(() => {})
  return { child, result }
}

/** Waits until that many steps are committed, or the demo is over; returns how many there are. */
async function waitForSteps(scene: Scene, wanted: number, demo: Demo): Promise<number> {
  let over = false
  void demo.result
    .finally(() => {
      over = true
    })
    .catch(() => {})
  const sql = connect(scene)
  try {
    for (;;) {
      const [row] = await sql`select count(*)::int as steps from nightshift.steps`
      if (over || (row?.steps ?? 0) >= wanted) return row?.steps ?? 0
      await new Promise((settle) => setTimeout(settle, 5))
    }
  } finally {
    await sql.end({ timeout: 1 })
  }
}

function connect({ portBase }: Scene): postgres.Sql {
  return postgres(`postgresql://postgres:postgres@127.0.0.1:${portBase + 1}/postgres`, {
    max: 1,
    onnotice: () => {},
  })
}

/** Kills by pid only; returns whether the stack process itself is gone. */
function kill(victim: Victim, scene: Scene, stack: ChildProcess): boolean {
  if (victim === 'stack') stack.kill('SIGKILL')
  for (const pid of victim === 'functions' ? functionPids(stack) : []) signal(pid)
  if (victim === 'postgres') signal(postmasterPid(scene.home))
  return victim === 'stack'
}

function signal(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It ended by itself a moment ago.
  }
}

/** Children of the stack process whose program is Deno. */
function functionPids(stack: ChildProcess): number[] {
  const path = `/proc/${stack.pid}/task/${stack.pid}/children`
  if (!existsSync(path)) return []
  const children = readFileSync(path, 'utf8').trim().split(/\s+/).filter(Boolean).map(Number)
  return children.filter((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('deno')
    } catch {
      return false
    }
  })
}

function postmasterPid(home: string): number {
  return Number(readFileSync(join(home, 'postgres/postmaster.pid'), 'utf8').split('\n')[0])
}

function exited(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve()
  return new Promise((settle) => child.once('exit', () => settle()))
}

/** What must hold at the end, read as the superuser who sees everything. */
async function inspect(scene: Scene, summary: Summary): Promise<string[]> {
  const sql = connect(scene)
  const checks: Record<string, postgres.PendingQuery<postgres.Row[]>> = {
    'task not completed': sql`select id from nightshift.tasks where status <> 'completed'`,
    'task stranded': sql`select id from nightshift.v_stranded`,
    'more tasks than one run has': sql`select 1 from nightshift.tasks having count(*) <> ${2 * summary.mails + 1}`,
    'gap in the steps': sql`select task_id from nightshift.steps group by task_id having max(seq) <> count(*)`,
    'tool call settled twice': sql`
      select task_id from nightshift.steps where kind = 'tool_call' group by task_id, input ->> 'call_id' having count(*) > 1`,
    'two cards for one action': sql`select task_id from nightshift.cards group by task_id, digest having count(*) > 1`,
    'two calls for one step': sql`select task_id from nightshift.llm_calls group by task_id, step_seq having count(*) > 1`,
  }
  try {
    const violations: string[] = []
    for (const [name, query] of Object.entries(checks)) {
      const rows = await query
      if (rows.length > 0) violations.push(`${name}: ${JSON.stringify(rows.slice(0, 3))}`)
    }
    if (!summary.ok) violations.push('the demo did not end well')
    if (!summary.audit.ok) violations.push('the audit log does not verify')
    return violations
  } finally {
    await sql.end({ timeout: 1 })
  }
}
