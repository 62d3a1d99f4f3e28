import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { installedDeno } from './deno.ts'
import type { Limits } from './limits.ts'
import { startProcess } from './process.ts'
import { alive, eventually, type TestProject, testProject } from './testing.ts'

let project: TestProject

function start(source: string, limits: Partial<Limits>): TestProject {
  project = testProject({ 'functions/job/index.ts': source }, { limits })
  return project
}

afterEach(() => project.stop())

async function expectLimit(response: Response): Promise<void> {
  expect(response.status).toBe(546)
  expect(response.headers.get('sb-error-code')).toBe('WORKER_LIMIT')
  expect(await response.json()).toEqual({
    code: 'WORKER_LIMIT',
    message: 'Function failed due to not having enough compute resources (please check logs)',
  })
}

const spin =
  'const spin = (ms: number) => { const end = performance.now() + ms; while (performance.now() < end); }'

test.runIf(process.platform === 'linux')('too much CPU time ends a worker with 546', async () => {
  start(
    `${spin}
    spin(200) // boot does not count
    Deno.serve((request) => {
      if (request.method === 'POST') for (;;);
      return new Response('ok')
    })`,
    { cpuSoftMs: 100, cpuMs: 150, sampleMs: 20 },
  )
  expect(await (await project.call('job')).text()).toBe('ok')
  await expectLimit(await project.call('job', { method: 'POST' }))
  expect(project.lines).toContain('[job] Worker killed: it has used its 150 ms of CPU time')
  expect(await (await project.call('job')).text()).toBe('ok')
})

test.runIf(process.platform === 'linux')('CPU time adds up and retires a worker', async () => {
  start(
    `${spin}
    addEventListener('beforeunload', ({ detail }) => console.log('unload', detail.reason))
    Deno.serve(() => { spin(60); return new Response(String(Deno.pid)) })`,
    { cpuSoftMs: 150, cpuMs: 10_000, graceMs: 100, sampleMs: 20 },
  )
  const first = await (await project.call('job')).text()
  await eventually(async () => (await (await project.call('job')).text()) !== first)
  await eventually(() => project.lines.includes('[job] unload early_drop'))
  await eventually(() => !alive(Number(first)))
})

test('too much heap ends a worker with 546', async () => {
  start(
    'Deno.serve(() => { const kept = []; for (;;) kept.push(new Array(1e5).fill(kept.length)) })',
    {
      memoryMb: 48,
      sampleMs: 10_000,
      cpuMs: 60_000,
    },
  )
  await expectLimit(await project.call('job'))
  expect(project.lines.join('\n')).toContain('Fatal JavaScript out of memory')
  expect(project.lines.length).toBeLessThan(30)
})

test.runIf(process.platform === 'linux')('memory outside the heap counts as well', async () => {
  start(
    `const kept: Uint8Array[] = []
    Deno.serve(async () => {
      for (;;) {
        kept.push(new Uint8Array(4e6).fill(1))
        await new Promise((resolve) => setTimeout(resolve, 5))
      }
    })`,
    { memoryMb: 100, sampleMs: 20, cpuMs: 60_000 },
  )
  await expectLimit(await project.call('job'))
  expect(project.lines).toContain('[job] Worker killed: it has used its 100 MB of memory')
})

test('the wall clock retires a worker at half time, warns it, and kills it', async () => {
  const heard: string[] = []
  const server = createServer((request, response) => {
    heard.push(request.url ?? '')
    response.end()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  start(
    `addEventListener('beforeunload', ({ detail }) => fetch('http://127.0.0.1:${port}/' + detail.reason))
    Deno.serve((request) => request.method === 'POST' ? new Promise(() => {}) : new Response(String(Deno.pid)))`,
    { wallClockMs: 1_500 },
  )
  // Taken before the worker is started by its first request, so that a slow boot cannot shorten it.
  const began = Date.now()
  const first = await (await project.call('job')).text()
  const hanging = project.call('job', { method: 'POST' })
  await eventually(() => project.workers()[0]?.retired)
  expect(Date.now() - began).toBeGreaterThanOrEqual(750)
  expect(await (await project.call('job')).text()).not.toBe(first)
  expect(alive(Number(first))).toBe(true)
  await expectLimit(await hanging)
  expect(heard).toEqual(['/wall_clock'])
  expect(project.lines).toContain('[job] Worker killed: it has used its 1500 ms of wall clock')
  server.close()
})

test('a response that does not begin in time is a 504 and the worker lives on', async () => {
  start(
    `Deno.serve((request) => request.method === 'POST' ? new Promise(() => {}) : new Response(String(Deno.pid)))`,
    { responseMs: 200 },
  )
  const pid = await (await project.call('job')).text()
  const response = await project.call('job', { method: 'POST' })
  expect(response.status).toBe(504)
  expect(await response.json()).toEqual({
    code: 'IDLE_TIMEOUT',
    message: 'Request idle timeout limit (0.2s) reached',
  })
  expect(await (await project.call('job')).text()).toBe(pid)
})

test('an idle worker is dropped, one with background work is not', async () => {
  const source = `Deno.serve((request) => {
    if (request.method === 'POST') EdgeRuntime.waitUntil(new Promise(() => {}))
    return new Response(String(Deno.pid))
  })`
  project = testProject(
    { 'functions/busy/index.ts': source, 'functions/idle/index.ts': source },
    { limits: { idleMs: 100 } },
  )
  const busy = Number(await (await project.call('busy', { method: 'POST' })).text())
  const idle = Number(await (await project.call('idle')).text())
  await eventually(() => !alive(idle))
  expect(alive(busy)).toBe(true)
})

test('with the policy "oneshot" each request has a worker of its own', async () => {
  project = testProject({
    'config.toml': '[edge_runtime]\npolicy = "oneshot"\n[functions.job]\nverify_jwt = false',
    'functions/job/index.ts': 'Deno.serve(() => new Response(String(Deno.pid)))',
  })
  const pids = await Promise.all(
    ['job', 'job'].map(async (path) => Number(await (await project.call(path)).text())),
  )
  expect(new Set(pids).size).toBe(2)
  await eventually(() => !pids.some(alive))
})

test('stop tells the functions and leaves no process', async () => {
  start(
    `addEventListener('beforeunload', ({ detail }) => console.log('unload', detail.reason))
    Deno.serve(() => new Response(String(Deno.pid)))`,
    { graceMs: 200 },
  )
  const pid = Number(await (await project.call('job')).text())
  await project.stop()
  expect(project.lines).toContain('[job] unload termination')
  expect(alive(pid)).toBe(false)
  expect((await project.call('job')).status).toBe(404)
})

const hostModule = new URL('testing.ts', import.meta.url).href

test('a worker ends when its host is killed', async () => {
  const script = `
    import { testProject } from ${JSON.stringify(hostModule)}
    const source = 'Deno.serve(() => new Response(String(Deno.pid)))'
    const project = testProject({ 'functions/job/index.ts': source })
    console.log(await (await project.call('job')).text())
    process.kill(process.pid, 'SIGKILL')`
  const temporary = mkdtempSync(join(tmpdir(), 'functions-test-'))
  const child = spawnSync(process.execPath, ['--input-type=module-typescript', '-e', script], {
    encoding: 'utf8',
    env: { ...process.env, TMPDIR: temporary },
  })
  const pid = Number(child.stdout)
  expect([child.signal, child.stderr]).toEqual(['SIGKILL', ''])
  expect(pid).toBeGreaterThan(0)
  await eventually(() => !alive(pid))
  expect(readdirSync(temporary).filter((name) => !name.startsWith('functions-test-'))).toEqual([])
  rmSync(temporary, { recursive: true })
})

test.skipIf(process.platform === 'win32')(
  'even an endless loop ends without its host',
  async () => {
    const child = startProcess({
      command: [installedDeno(), 'eval', 'for (;;);'],
      directory: '/',
      env: {},
      denoEnv: {},
      cpuSeconds: 1,
      onLine: () => undefined,
      onMessage: () => undefined,
    })
    await child.exited
    expect(alive(child.pid)).toBe(false)
  },
)
