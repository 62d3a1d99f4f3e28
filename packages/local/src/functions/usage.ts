import { readFileSync } from 'node:fs'

/** Length of a tick in /proc: USER_HZ is 100 on every Linux that Deno is built for. */
const tickMs = 10
const pageBytes = 4096

/**
 * CPU time of a process's main thread in milliseconds; null where /proc does not tell (elsewhere
 * than on Linux, or when the process is gone). The main thread runs the function's JavaScript;
 * the hosted runtime meters the isolate's thread too, not the garbage collector's helpers.
 */
export function cpuMs(pid: number): number | null {
  const stat = read(`/proc/${pid}/task/${pid}/stat`)
  if (!stat) return null
  // The name in parentheses may hold spaces; user and system time are fields 14 and 15.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) * tickMs
}

/** Resident memory of a process in MB; null where /proc does not tell. */
export function residentMb(pid: number): number | null {
  const statm = read(`/proc/${pid}/statm`)
  if (!statm) return null
  return (Number(statm.split(' ')[1]) * pageBytes) / 2 ** 20
}

function read(path: string): string | null {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return null
  }
}
