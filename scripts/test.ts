import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'

// Runs every check and ends with one line: `N passed, M failed`. A check counts as one test.

const root = resolve(import.meta.dirname, '..')
const checks = ['check:lock', 'check:lint', 'check:types', 'check:imports', 'check:functions']
const folder = mkdtempSync(join(tmpdir(), 'nightshift-test-'))
const report = join(folder, 'report.json')

let passed = 0
let failed = 0
for (const check of checks) {
  const { status } = run('turbo', [
    'run',
    check,
    '--output-logs=errors-only',
    '--log-prefix=none',
    '--no-update-notifier',
  ])
  if (status === 0) passed += 1
  else failed += 1
  console.log(`${status === 0 ? '✓' : '✗'} ${check}`)
}
const vitest = run('vitest', [
  'run',
  '--reporter=default',
  '--reporter=json',
  `--outputFile=${report}`,
  ...process.argv.slice(2),
])
const counted = readReport()
passed += counted.passed
failed += counted.failed
if (vitest.status !== 0 && counted.failed === 0) failed += 1
rmSync(folder, { recursive: true, force: true })
console.log(`\n${passed} passed, ${failed} failed`)
process.exitCode = failed === 0 ? 0 : 1

function run(command: string, args: string[]): { status: number | null } {
  return spawnSync(command, args, {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, TURBO_TELEMETRY_DISABLED: '1', DO_NOT_TRACK: '1' },
  })
}

function readReport(): { passed: number; failed: number } {
  try {
    const result: { numPassedTests: number; numFailedTests: number; numFailedTestSuites: number } =
      JSON.parse(readFileSync(report, 'utf8'))
    return { passed: result.numPassedTests, failed: result.numFailedTests }
  } catch {
    return { passed: 0, failed: 1 }
  }
}
