import { messageOf } from './problem.ts'

/** Where the API is; served beside the app as `/config.json`. */
export interface Config {
  apiUrl: string
  publishableKey: string
}

/** Reads `/config.json`; throws when it is missing or is not a config. */
export async function readConfig(): Promise<Config> {
  const response = await fetch('/config.json')
  if (!response.ok) throw new Error(`Cannot read "/config.json": ${response.status}`)
  const config: unknown = await response.json().catch((cause: unknown) => {
    throw new Error(`Cannot read "/config.json": ${messageOf(cause)}`)
  })
  if (isConfig(config)) return config
  throw new Error('Cannot read "/config.json": apiUrl and publishableKey are missing')
}

function isConfig(value: unknown): value is Config {
  return (
    typeof value === 'object' &&
    value !== null &&
    'apiUrl' in value &&
    typeof value.apiUrl === 'string' &&
    'publishableKey' in value &&
    typeof value.publishableKey === 'string'
  )
}
