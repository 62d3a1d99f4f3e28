import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { readSettings } from '@nightshift/shared/env.ts'
import { findConnection, projectDir, serviceClient } from '../connection.ts'
import { exitCode } from '../exit.ts'
import { portBlock } from '../ports.ts'
import { print } from '../print.ts'

export interface Status {
  version: string
  mode: 'local' | 'remote' | 'down'
  api_url: string | null
  db_url: string | null
  functions_url: string | null
  console_url: string | null
  practice_url: string | null
  publishable_key: string | null
  secret_key: string | null
  healthy: boolean
}

/** Where everything is and whether it answers. */
export async function readStatus(): Promise<Status> {
  const connection = findConnection()
  const { version } = JSON.parse(readFileSync(join(projectDir, 'package.json'), 'utf8'))
  const consolePort = portBlock(readSettings(process.env).NIGHTSHIFT_PORT_BASE).console
  return {
    version,
    mode: connection?.mode ?? 'down',
    api_url: connection?.apiUrl ?? null,
    db_url: connection?.dbUrl ?? null,
    functions_url: connection?.functionsUrl ?? null,
    console_url: connection?.mode === 'local' ? `http://127.0.0.1:${consolePort}` : null,
    practice_url: connection?.practiceUrl ?? null,
    publishable_key: connection?.publishableKey ?? null,
    secret_key: connection?.secretKey ?? null,
    healthy: connection ? await answers(connection) : false,
  }
}

async function answers(connection: Parameters<typeof serviceClient>[0]): Promise<boolean> {
  const { error } = await serviceClient(connection)
    .schema('nightshift')
    .from('models')
    .select('name')
    .limit(1)
  return !error
}

/** Prints the status; exits 8 when nothing answers. */
export async function status(options: { output: string }): Promise<number> {
  const found = await readStatus()
  if (options.output === 'json') print.json(found)
  else
    for (const [name, value] of Object.entries(found))
      print.data(`${name.padEnd(16)} ${value ?? '–'}`)
  return found.healthy ? exitCode.ok : exitCode.unhealthy
}
