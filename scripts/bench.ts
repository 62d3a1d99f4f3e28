import { parseArgs } from 'node:util'
import { local } from './bench/local.ts'
import type { Bench, BenchRow } from './bench/row.ts'

// Runs benchmarks by group; each row stands beside a floor measured in the same run.

const groups: Record<string, Bench> = { local }

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { json: { type: 'boolean', default: false } },
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
for (const name of names) {
  for await (const row of groups[name]?.() ?? [])
    console.log(values.json ? JSON.stringify(row) : inWords(row))
}
process.exit(0)

function inWords({ name, median, unit, p50, p99, ratio_to_floor }: BenchRow): string {
  const figure = (value: number): string => (value >= 100 ? value.toFixed(0) : value.toFixed(2))
  return `${name.padEnd(26)} ${figure(median).padStart(8)} ${unit.padEnd(4)} p50 ${figure(p50)} ms  p99 ${figure(p99)} ms  ${ratio_to_floor.toFixed(2)} of the floor`
}
