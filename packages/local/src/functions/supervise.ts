import { type Limits, retireShare, unloadShare } from './limits.ts'
import type { UnloadReason } from './protocol.ts'
import { cpuMs, residentMb } from './usage.ts'

/** What the supervisor may do to a worker. */
export interface Supervised {
  readonly pid: number
  /** Resident memory of the runtime before the function's module ran, in MB. */
  readonly bareMb: number
  /** No new requests. */
  retire(): void
  /** Let the function hear that its end is near. */
  unload(reason: UnloadReason): void
  /** End at once; open requests fail for want of resources. */
  exceed(limit: string): void
}

/** Holds a booted worker to its limits until the returned function is called. */
export function supervise(worker: Supervised, limits: Limits): () => void {
  const { wallClockMs } = limits
  const timers = [
    setTimeout(() => worker.retire(), wallClockMs * retireShare),
    setTimeout(() => worker.unload('wall_clock'), wallClockMs * unloadShare),
    setTimeout(() => worker.exceed(`${wallClockMs} ms of wall clock`), wallClockMs),
  ]
  const boot = cpuMs(worker.pid) ?? 0
  const sample = setInterval(() => {
    checkCpu(worker, limits, (cpuMs(worker.pid) ?? 0) - boot)
    checkMemory(worker, limits, (residentMb(worker.pid) ?? 0) - worker.bareMb)
  }, limits.sampleMs)
  return () => {
    for (const timer of timers) clearTimeout(timer)
    clearInterval(sample)
  }
}

function checkCpu(worker: Supervised, limits: Limits, used: number): void {
  if (used >= limits.cpuSoftMs) worker.retire()
  if (used >= limits.cpuMs) worker.exceed(`${limits.cpuMs} ms of CPU time`)
  else if (used >= limits.cpuMs * unloadShare) worker.unload('cpu')
}

function checkMemory(worker: Supervised, limits: Limits, used: number): void {
  if (used >= limits.memoryMb) worker.exceed(`${limits.memoryMb} MB of memory`)
  else if (used >= limits.memoryMb * unloadShare) worker.unload('memory')
}
