import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { freePortBase } from '../../apps/cli/src/ports.ts'

// The command line as a person meets it: in two terminals, with mistakes, and with Ctrl-C.

const main = join(import.meta.dirname, '../../apps/cli/src/main.ts')
const home = mkdtempSync(join(tmpdir(), 'nightshift-cli-'))
const running = new Set<ChildProcess>()
let portBase: number

/** For a machine that does other things too, ms. */
const patience = 60_000

beforeAll(async () => {
  portBase = await freePortBase()
})
afterAll(async () => {
  await Promise.all([...running].map((child) => ended(child, 'SIGTERM')))
  rmSync(home, { recursive: true, force: true })
})

interface Run {
  child: ChildProcess
  out: string
  talk: string
  exit: Promise<number | null>
}

function nightshift(...args: string[]): Run {
  const { NIGHTSHIFT_HOME: _, SUPABASE_URL: __, ...inherited } = process.env
  const child = spawn(process.execPath, [main, ...args], {
    // Colours are on where CI is set.
    env: {
      ...inherited,
      NO_COLOR: '1',
      NIGHTSHIFT_HOME: home,
      NIGHTSHIFT_PORT_BASE: String(portBase),
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  running.add(child)
  const run: Run = {
    child,
    out: '',
    talk: '',
    exit: new Promise((settle) => {
      child.once('close', (code) => {
        running.delete(child)
        settle(code)
      })
    }),
  }
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    run.out += text
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    run.talk += text
  })
  return run
}

async function ended(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  const closed = new Promise((settle) => child.once('close', settle))
  child.kill(signal)
  await closed
}

/** Runs a command to its end. */
async function finished(...args: string[]): Promise<{ code: number | null } & Run> {
  const run = nightshift(...args)
  return { code: await run.exit, ...run, out: run.out, talk: run.talk }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

test('mistakes have exact exit codes and name the mistake', { timeout: patience }, async () => {
  const mistakes: [args: string, code: number, talk: string | RegExp][] = [
    ['', 2, 'Usage: nightshift'],
    ['foo', 2, "unknown command 'foo'"],
    ['card aprove 1', 2, 'Did you mean approve?'],
    ['card approve one', 2, "'one' is invalid for argument 'id'"],
    ['card respond 1 --note', 2, "option '--note <text>' argument missing"],
    ['status --output xml', 2, 'Allowed choices are text, json'],
    ['--port-base abc status', 2, 'setting "NIGHTSHIFT_PORT_BASE" is invalid'],
    ['demo --inbox /no/such/folder', 3, 'Cannot read the inbox folder "/no/such/folder"'],
    ['card list', 8, /no running stack found\n {2}Run "npm start"/],
    ['status', 8, ''],
    ['--version', 0, ''],
    ['--help', 0, ''],
  ]
  await Promise.all(
    mistakes.map(async ([args, code, talk]) => {
      const run = await finished(...args.split(' ').filter(Boolean))
      expect([args, run.code]).toEqual([args, code])
      if (typeof talk === 'string') expect(run.talk).toContain(talk)
      else expect(run.talk).toMatch(talk)
    }),
  )
})

test('Ctrl-C ends a demo in order, and the same command goes on where it stopped', {
  timeout: 2 * patience,
}, async () => {
  const first = nightshift('demo')
  await expect.poll(() => first.talk, { timeout: patience }).toContain('waiting for you')
  const postmaster = Number(
    readFileSync(join(home, 'postgres/postmaster.pid'), 'utf8').split('\n')[0],
  )
  first.child.kill('SIGINT')
  expect(await first.exit).toBe(130)
  expect(first.talk).toContain('State is kept: the same command goes on where this run stopped.')
  expect([isAlive(postmaster), existsSync(join(home, 'stack.json'))]).toEqual([false, false])

  const second = await finished('demo', '--approve', '--json')
  expect(second.talk).toContain('going on where an earlier run stopped')
  expect(second.code).toBe(0)
  expect(JSON.parse(second.out)).toMatchObject({
    ok: true,
    mails: 12,
    tasks: { completed: 25 },
    steps: 53,
    model_calls: 36,
    audit: { ok: true, findings: [] },
  })
})

test('in a second terminal one sees the stack, decides the cards, and the demo ends', {
  timeout: 2 * patience,
}, async () => {
  const stack = nightshift('start')
  await expect.poll(() => stack.talk, { timeout: patience }).toContain('stop with Ctrl-C')
  const status = await finished('status', '--output', 'json')
  expect([status.code, JSON.parse(status.out)]).toEqual([
    0,
    {
      version: expect.stringMatching(/^\d+\.\d+\.\d+/),
      mode: 'local',
      api_url: `http://127.0.0.1:${portBase}`,
      db_url: expect.stringContaining(`127.0.0.1:${portBase + 1}/`),
      functions_url: `http://127.0.0.1:${portBase}/functions/v1`,
      console_url: `http://127.0.0.1:${portBase + 59}`,
      practice_url: `http://127.0.0.1:${portBase + 69}`,
      publishable_key: expect.stringMatching(/^sb_publishable_/),
      secret_key: expect.stringMatching(/^sb_secret_/),
      healthy: true,
    },
  ])
  const again = await finished('start')
  expect([again.code, again.talk]).toEqual([5, expect.stringContaining('[STACK_RUNNING]')])

  const demo = nightshift('demo')
  await expect
    .poll(() => demo.talk.match(/waiting for you/g) ?? [], { timeout: patience })
    .toHaveLength(3)
  const cards: { id: number; title: string }[] = JSON.parse(
    (await finished('card', 'list', '--output', 'json')).out,
  )
  expect(cards.map(({ title }) => title)).toEqual(
    expect.arrayContaining([expect.stringMatching(/^send refund: LB-20417 · 49.9 · /)]),
  )
  const [first, ...others] = cards.map(({ id }) => String(id))
  expect((await finished('card', 'approve', first ?? '')).code).toBe(0)
  const late = await finished('card', 'reject', first ?? '')
  expect([late.code, late.talk]).toEqual([5, expect.stringContaining('[NS041]')])
  expect((await finished('card', 'approve', '999999')).code).toBe(3)
  for (const id of others) {
    expect((await finished('card', 'reject', id, '--note', 'not today')).code).toBe(0)
  }
  expect(await demo.exit).toBe(0)
  expect(demo.out).toMatch(/✓ 12 mails in .*PRACTICE models/)
  expect((await finished('card', 'list')).talk).toContain('no open cards')
  const verified = await finished('audit', 'verify')
  expect([verified.code, verified.out]).toEqual([0, expect.stringMatching(/^ok {2}support-inbox/)])
  stack.child.kill('SIGTERM')
  expect(await stack.exit).toBe(0)
})
