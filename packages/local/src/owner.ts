import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** The state folder is in use by a living process. */
export class HomeInUseError extends Error {
  override name = 'HomeInUseError'
  readonly code = 'STACK_RUNNING'
  readonly pid: number

  constructor(home: string, pid: number) {
    super(`Cannot start in "${home}": process ${pid} runs a stack there -> stop it first`)
    this.pid = pid
  }
}

/**
 * Makes this process the only one that runs a stack in `home`, and returns what gives it up. A claim
 * outlives a hard kill; it counts only while its process lives. Throws HomeInUseError.
 */
export function claimHome(home: string): () => void {
  mkdirSync(home, { recursive: true })
  const path = join(home, 'stack.lock')
  const holder = readHolder(path)
  if (holder && startOf(holder.pid) === holder.started) throw new HomeInUseError(home, holder.pid)
  rmSync(path, { force: true })
  const claim: Holder = { pid: process.pid, started: startOf(process.pid) ?? '' }
  // `wx`: of two that start at the same moment one fails here.
  writeFileSync(path, JSON.stringify(claim), { flag: 'wx', mode: 0o600 })
  return () => rmSync(path, { force: true })
}

interface Holder {
  pid: number
  started: string
}

function readHolder(path: string): Holder | null {
  if (!existsSync(path)) return null
  try {
    const { pid, started }: Partial<Holder> = JSON.parse(readFileSync(path, 'utf8'))
    return typeof pid === 'number' && typeof started === 'string' ? { pid, started } : null
  } catch {
    return null
  }
}

/** When a living process began, in some unit that only compares: pids are reused. Null when there is none. */
function startOf(pid: number): string | null {
  try {
    if (!existsSync('/proc/self/stat')) {
      return execFileSync('ps', ['-o', 'lstart=', '-p', String(pid)], { encoding: 'utf8' }).trim()
    }
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    // Field 22; the name of the process, field 2 in parentheses, may hold spaces.
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? null
  } catch {
    return null
  }
}
