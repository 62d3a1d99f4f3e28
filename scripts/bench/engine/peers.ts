import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

// The peers are a package of their own, not a workspace: nobody but this benchmark installs them.

const folder = join(import.meta.dirname, '../peers')

/** Installs what the lock file names, once. Returns why that failed, or null. */
export function installPeers(): string | null {
  const lock = join(folder, 'package-lock.json')
  const installed = join(folder, 'node_modules/.package-lock.json')
  if (existsSync(installed) && versions(installed) === versions(lock)) return null
  const { status, stderr } = spawnSync(
    'npm',
    ['ci', '--prefix', folder, '--ignore-scripts', '--no-audit', '--no-fund'],
    { encoding: 'utf8', cwd: folder, shell: process.platform === 'win32' },
  )
  return status === 0
    ? null
    : (stderr.split('\n').find((line) => /error/.test(line)) ?? 'npm ci failed')
}

/** The named packages with their versions, as text. */
function versions(lockFile: string): string {
  const { packages }: { packages: Record<string, { version?: string; optional?: boolean }> } =
    JSON.parse(readFileSync(lockFile, 'utf8'))
  return Object.entries(packages)
    .filter(([path, { optional }]) => path !== '' && !optional)
    .map(([path, { version }]) => `${path}@${version}`)
    .sort()
    .join()
}
