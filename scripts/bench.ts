import { parseArgs } from 'node:util'
import { engine } from './bench/engine.ts'
import { local } from './bench/local.ts'
import type { Bench, BenchRow } from './bench/row.ts'

// Runs benchmarks by group; each row stands beside a floor measured in the same run.

const groups: Record<string, Bench> = { local, engine }

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { json: { type: 'boolean', default: false }, scale: { type: 'string', default: '1' } },
})
const names =
  positionals.length === 0 || positionals.includes('all') ? Object.keys(groups) : positionals
const unknown = names.filter((name) => !Object.hasOwn(groups, name))
if (unknown.length > 0) {
  console.error(
    `Unknown benchmark "${unknown.join('", "')}", known: ${Object.keys(groups).join(', ')}, all`,
  )
  process.exit(2)
}
const scale = Number(values.scale)
if (!(scale > 0)) {
  console.error(`Cannot scale by "${values.scale}", wanted a number above 0`)
  process.exit(2)
}
const rows: BenchRow[] = []
for (const name of names) {
  for await (const row of groups[name]?.({ scale }) ?? []) {
    rows.push(row)
    console.log(values.json ? JSON.stringify(row) : inWords(row))
  }
}
if (!values.json && rows.length > 1) printTable(rows)
process.exit(0)

function inWords({ name, median, unit, p50, p99, ratio_to_floor }: BenchRow): string {
  return `${name.padEnd(26)} ${figure(median).padStart(8)} ${unit.padEnd(4)} p50 ${figure(p50)} ms  p99 ${figure(p99)} ms  ${ratio_to_floor.toFixed(2)} of the floor`
}

/** One line per row; ratios above 1 mean that ours is better. */
function printTable(all: BenchRow[]): void {
  const peers = [...new Set(all.flatMap((row) => Object.keys(row.ratio_to)))]
  const header = ['row', 'median', 'unit', 'p50 ms', 'p99 ms', 'n', 'floor', ...peers, 'also']
  const lines = all.map((row) => [
    row.name,
    figure(row.median),
    row.unit,
    figure(row.p50),
    figure(row.p99),
    String(row.n),
    ratio(row.ratio_to_floor),
    ...peers.map((peer) => ratio(row.ratio_to[peer])),
    Object.entries(row.extra ?? {})
      .map(([name, value]) => `${name} ${figure(value)}`)
      .join(', '),
  ])
  const widths = header.map((title, column) =>
    Math.max(title.length, ...lines.map((line) => line[column]?.length ?? 0)),
  )
  console.log('\nRatios above 1 mean that ours is better.')
  for (const line of [header, ...lines]) {
    const cells = line.map((cell, column) =>
      column === 0 || column === header.length - 1
        ? cell.padEnd(widths[column] ?? 0)
        : cell.padStart(widths[column] ?? 0),
    )
    console.log(cells.join('  ').trimEnd())
  }
  const missing = Object.entries(Object.assign({}, ...all.map((row) => row.missing ?? {})))
  for (const [peer, reason] of missing) console.log(`Without ${peer}: ${reason}`)
}

function ratio(value: number | undefined): string {
  return value === undefined || Number.isNaN(value) ? '-' : `${value.toFixed(2)}x`
}

function figure(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toFixed(2)
}
