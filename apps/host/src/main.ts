import { readSettings } from '@nightshift/shared/env.ts'
import { runHost } from './host.ts'

const stopping = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stopping.abort())

await runHost({
  settings: readSettings(process.env),
  signal: stopping.signal,
  listen: true,
  log: (event) => console.log(JSON.stringify(event)),
})
