import { randomInt } from 'node:crypto'
import { createServer } from 'node:net'

/** Ports of the block that begins at `NIGHTSHIFT_PORT_BASE`; the defaults are Supabase's own. */
export function portBlock(base: number): {
  api: number
  db: number
  console: number
  practice: number
} {
  return { api: base, db: base + 1, console: base + 59, practice: base + 69 }
}

/** A base whose whole block was free a moment ago, below the range of outgoing connections. */
export async function freePortBase(): Promise<number> {
  for (let attempt = 0; attempt < 100; attempt += 1) {
    const base = randomInt(12_000, 32_000)
    const free = await Promise.all(Object.values(portBlock(base)).map(isFree))
    if (free.every(Boolean)) return base
  }
  throw new Error('no free block of ports found between 12000 and 32000')
}

function isFree(port: number): Promise<boolean> {
  return new Promise((settle) => {
    const probe = createServer()
    probe.once('error', () => settle(false))
    probe.listen(port, '127.0.0.1', () => probe.close(() => settle(true)))
  })
}
