import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

// Checks what only Deno and the bundler of Supabase see: each function type-checks on the Deno of the
// hosted runtime with nothing but its own deno.json, and its versions equal those of npm.

const root = resolve(import.meta.dirname, '..')
const locked: Record<string, { version?: string }> = JSON.parse(
  readFileSync(join(root, 'package-lock.json'), 'utf8'),
).packages
let problems = 0

for (const name of readdirSync(join(root, 'functions'))) {
  const folder = join(root, 'functions', name)
  if (!existsSync(join(folder, 'index.ts'))) continue
  for (const problem of [...versionProblems(folder), ...typeProblems(folder)]) {
    problems += 1
    console.error(`functions/${name}: ${problem}`)
  }
}
process.exitCode = problems === 0 ? 0 : 1

function versionProblems(folder: string): string[] {
  const { imports }: { imports: Record<string, string> } = JSON.parse(
    readFileSync(join(folder, 'deno.json'), 'utf8'),
  )
  return Object.entries(imports).flatMap(([name, target]) => {
    const version = locked[`node_modules/${name}`]?.version
    return target === `npm:${name}@${version}`
      ? []
      : [`"${name}" is "${target}" in deno.json, but ${version} in package-lock.json`]
  })
}

function typeProblems(folder: string): string[] {
  const result = spawnSync(
    'deno',
    ['check', '--quiet', '--config', 'deno.json', 'index.ts', '../_kit/edge.d.ts'],
    {
      cwd: folder,
      encoding: 'utf8',
      env: {
        ...process.env,
        DENO_DIR: process.env.DENO_DIR ?? join(root, 'node_modules/.cache/deno'),
        DENO_NO_PACKAGE_JSON: '1',
        DENO_TLS_CA_STORE: 'system,mozilla',
        NO_COLOR: '1',
      },
    },
  )
  if (result.error) return [`cannot run "deno": ${result.error.message}`]
  // Deno's own backtrace follows its reasons.
  return result.status === 0 ? [] : [result.stderr.split('\n\nStack backtrace', 1)[0] ?? '']
}
