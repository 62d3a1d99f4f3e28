import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { alive, eventually, type TestProject, testProject } from './testing.ts'

let project: TestProject

afterEach(() => project.stop())

test('a changed module is served within two seconds and open requests end on the old one', async () => {
  project = testProject({
    'functions/job/index.ts': `
      import { version } from '../../../shared/version.ts'
      Deno.serve(async (request) => {
        const { readable, writable } = new TransformStream()
        if (request.method === 'GET') return new Response(version)
        setTimeout(async () => { await new Response(version).body!.pipeTo(writable) }, 1_500)
        return new Response(readable)
      })`,
    '../shared/version.ts': `export const version = 'old'`,
  })
  const text = async () => (await project.call('job')).text()
  expect(await text()).toBe('old')
  const open = await project.call('job', { method: 'POST' })
  const [old] = project.workers()
  project.write('../shared/version.ts', `export const version = 'new'`)
  await eventually(async () => (await text()) === 'new', 2_000)
  expect(alive(old?.pid ?? 0)).toBe(true)
  expect(await open.text()).toBe('old')
  await eventually(() => !alive(old?.pid ?? 0))

  project.write('../shared/version.ts', 'export const version = ')
  await eventually(async () => (await project.call('job')).status === 503, 2_000)
  project.write('../shared/version.ts', `export const version = 'mended'`)
  await eventually(async () => (await text()) === 'mended', 2_000)
})

/** An npm registry with one package, `greeting` 1.0.0. */
async function registry(directory: string) {
  const source = join(directory, 'package')
  mkdirSync(source, { recursive: true })
  writeFileSync(
    join(source, 'package.json'),
    '{"name":"greeting","version":"1.0.0","main":"main.js"}',
  )
  writeFileSync(join(source, 'main.js'), `module.exports = 'hello from npm'`)
  execFileSync('tar', ['-czf', 'greeting.tgz', 'package'], { cwd: directory })
  const tarball = readFileSync(join(directory, 'greeting.tgz'))
  let requests = 0
  const server = createServer((request, response) => {
    requests++
    const { port } = server.address() as AddressInfo
    const dist = {
      tarball: `http://127.0.0.1:${port}/greeting.tgz`,
      integrity: `sha512-${createHash('sha512').update(tarball).digest('base64')}`,
      shasum: createHash('sha1').update(tarball).digest('hex'),
    }
    const version = { name: 'greeting', version: '1.0.0', dist }
    const about = {
      name: 'greeting',
      'dist-tags': { latest: '1.0.0' },
      versions: { '1.0.0': version },
    }
    response.end(request.url?.endsWith('.tgz') ? tarball : JSON.stringify(about))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return { url: `http://127.0.0.1:${port}/`, requests: () => requests, close: () => server.close() }
}

const usesPackage = {
  'functions/job/deno.json': '{ "imports": { "greeting": "npm:greeting@^1.0.0" } }',
  'functions/job/index.ts': `
    import greeting from 'greeting'
    Deno.serve(() => new Response(greeting))`,
}

test('after warm a function with npm packages works offline', async () => {
  project = testProject(usesPackage, { emptyCache: true })
  const npm = await registry(join(project.directory, 'registry'))
  project.write('functions/job/.npmrc', `registry=${npm.url}`)
  await project.warm()
  expect(npm.requests()).toBe(2)
  npm.close()
  expect(await (await project.call('job')).text()).toBe('hello from npm')
})

test('modules that warm has not seen are fetched at the first request', async () => {
  project = testProject(usesPackage, { emptyCache: true })
  const npm = await registry(join(project.directory, 'registry'))
  project.write('functions/job/.npmrc', `registry=${npm.url}`)
  expect(await (await project.call('job')).text()).toBe('hello from npm')
  npm.close()
  project.reload()
  expect(await (await project.call('job')).text()).toBe('hello from npm')
})

test('modules that cannot be had answer BOOT_ERROR', async () => {
  project = testProject(usesPackage, { emptyCache: true })
  project.write('functions/job/.npmrc', 'registry=http://127.0.0.1:1/')
  expect((await project.call('job')).status).toBe(503)
  expect(project.lines.join('\n')).toMatch(/\[job\] Cannot cache modules: error: .*greeting/)
})
