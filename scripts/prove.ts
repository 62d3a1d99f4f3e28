import { parseArgs } from 'node:util'
import type { Proof } from './prove/proof.ts'
import { restarts } from './prove/restarts.ts'

// Runs the longer proofs by name; exit 0 only if every invariant held.

const proofs: Record<string, Proof> = { restarts }

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: 'boolean', default: false },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    runs: { type: 'string' },
  },
})
const names = positionals.includes('all') ? Object.keys(proofs) : positionals
const unknown = names.filter((name) => !Object.hasOwn(proofs, name))
if (names.length === 0 || unknown.length > 0) {
  console.error(
    `Unknown proof "${unknown.join('", "')}", known: ${Object.keys(proofs).join(', ')}, all`,
  )
  process.exit(2)
}
let ok = true
for (const name of names) {
  const result = await proofs[name]?.({
    seed: Number(values.seed),
    runs: values.runs ? Number(values.runs) : null,
    log: (line) => console.error(line),
  })
  if (!result) continue
  ok &&= result.ok
  if (values.json) console.log(JSON.stringify(result))
  else
    console.log(
      `${result.ok ? '✓' : '✗'} ${name}: ${result.runs} runs, seed ${result.seed}, ${result.violations.length} violations`,
    )
  for (const violation of values.json ? [] : result.violations) console.log(`    ${violation}`)
}
process.exit(ok ? 0 : 1)
