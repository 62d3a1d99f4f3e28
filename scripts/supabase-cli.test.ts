import { execFile } from 'node:child_process'
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import postgres from 'postgres'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { freshDatabase, type TestDatabase } from '../packages/local/src/testing.ts'
import { readSnapshot, snapshotFile } from './snapshot.ts'

// The official CLI against the embedded database: what `supabase db push` makes of our migrations, and
// what its advisors say about the result.

/** Findings we live with, by the advisors' cache key, each with the reason. */
const accepted: Record<string, string> = {
  function_search_path_mutable_nightshift_private_leaf_of_d41d8cd98f00b204e9800998ecf8427e:
    'its body is in the form of the SQL standard, whose names are bound at creation; a setting would stop inlining',
  unindexed_foreign_keys_nightshift_projects_projects_created_by_fkey:
    'read only when a user is deleted, and projects are few',
  unindexed_foreign_keys_nightshift_task_dependencies_task_dependencies_project_id_depends_on_fkey:
    'the index by target starts with the task id, which is unique across projects',
  unindexed_foreign_keys_nightshift_task_dependencies_task_dependencies_project_id_task_id_fkey:
    'the primary key starts with the task id, which is unique across projects',
  unindexed_foreign_keys_nightshift_tasks_tasks_project_id_agent_agent_version_fkey:
    'read only when a version of an agent is deleted, which nothing does',
  unindexed_foreign_keys_nightshift_tasks_tasks_project_id_parent_id_fkey:
    'the index by parent starts with its id, which is unique across projects',
}

interface Finding {
  name: string
  level: string
  detail: string
  cacheKey: string
}

const root = join(import.meta.dirname, '..')
const folder = mkdtempSync(join(tmpdir(), 'nightshift-cli-'))
const strays: string[] = []
let database: TestDatabase
let proxy: Server

beforeAll(async () => {
  database = await freshDatabase({ template: 'supabase' })
  for (const name of ['migrations', 'config.toml']) {
    cpSync(join(root, 'supabase', name), join(folder, 'project/supabase', name), {
      recursive: true,
    })
  }
  proxy = createServer((request, response) => {
    strays.push(`${request.method} ${request.url}`)
    response.writeHead(502).end()
  })
  proxy.on('connect', (request, socket) => {
    strays.push(`CONNECT ${request.url}`)
    socket.end('HTTP/1.1 502 Bad Gateway\r\n\r\n')
  })
  await new Promise<void>((settle) => proxy.listen(0, '127.0.0.1', settle))
})

afterAll(async () => {
  proxy.close()
  await database.drop()
  rmSync(folder, { recursive: true, force: true })
})

/** Runs the CLI on a copy of the project with a home of its own and a proxy as the only way out. */
async function supabase(...args: string[]): Promise<string> {
  const address = proxy.address()
  const way = `http://127.0.0.1:${typeof address === 'object' ? address?.port : 0}`
  const { stdout, stderr } = await promisify(execFile)(
    process.execPath,
    [join(root, 'node_modules/supabase/dist/supabase.js'), ...args, `--remote=${database.url}`],
    {
      cwd: join(folder, 'project'),
      env: {
        HOME: folder,
        PATH: process.env.PATH,
        HTTP_PROXY: way,
        HTTPS_PROXY: way,
        NO_PROXY: '127.0.0.1',
        DO_NOT_TRACK: '1',
        SUPABASE_NO_UPDATE_NOTIFIER: '1',
        SUPABASE_TELEMETRY_DISABLED: '1',
      },
    },
  )
  return `${stdout}\n${stderr}`
}

async function advisors(): Promise<Finding[]> {
  const text = await supabase(
    'db',
    'advisors',
    '--type',
    'all',
    '--level',
    'info',
    '--output-format',
    'json',
  )
  const line = text.split('\n').find((candidate) => candidate.startsWith('{'))
  const answer: { results: Finding[] } = JSON.parse(line ?? '')
  // Every index is unused in a database that has done nothing yet.
  return answer.results.filter((finding) => finding.name !== 'unused_index')
}

test('db push brings a bare project to the schema of the snapshot, once', async () => {
  const files = readdirSync(join(root, 'supabase/migrations')).sort()
  const first = await supabase('db', 'push', '--yes')
  for (const file of files) expect(first).toContain(`Applying migration ${file}`)
  expect(await readSnapshot(database.url)).toBe(readFileSync(snapshotFile, 'utf8'))
  const second = await supabase('db', 'push', '--yes')
  expect(second).toContain('Remote database is up to date')
  expect(second).not.toContain('Applying migration')
})

test('the advisors find nothing in security or performance that is not accepted with a reason', async () => {
  const found = await advisors()
  const lines = found.map(({ level, cacheKey, detail }) => `${level} ${cacheKey}: ${detail}`)
  expect(
    lines.filter((line) => !Object.keys(accepted).some((key) => line.includes(` ${key}:`))),
  ).toEqual([])
  expect(
    Object.keys(accepted).filter((key) => !found.some((one) => one.cacheKey === key)),
    'no longer found',
  ).toEqual([])
})

test('the advisors would find a table without row security and a function without search_path', async () => {
  const sql = postgres(database.url, { max: 1 })
  await sql.unsafe(`
    create table nightshift.open (id int primary key); grant select on nightshift.open to anon;
    create function nightshift.loose() returns int language sql as 'select 1'`)
  await sql.end()
  const names = (await advisors()).map((finding) => `${finding.level} ${finding.name}`)
  expect(names).toContain('ERROR rls_disabled_in_public')
  expect(names).toContain('WARN function_search_path_mutable')
})

test('the CLI asked nobody else and left nothing in the project', () => {
  expect(strays).toEqual([])
  expect(readdirSync(join(folder, 'project'))).toEqual(['supabase'])
  expect(readdirSync(join(folder, 'project/supabase')).sort()).toEqual([
    'config.toml',
    'migrations',
  ])
})
