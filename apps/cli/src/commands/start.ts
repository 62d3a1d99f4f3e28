import { readSettings } from '@nightshift/shared/env.ts'
import colors from 'picocolors'
import {
  type Connection,
  homeDir,
  personClient,
  personEmail,
  projectDir,
  serviceClient,
} from '../connection.ts'
import { startConsole } from '../console.ts'
import { exitCode } from '../exit.ts'
import { aborted, interruption } from '../interrupt.ts'
import { print } from '../print.ts'
import { startLocalStack } from '../stack.ts'

/** Starts the stack, says where everything is, runs until Ctrl-C. */
export async function start(options: { verbose: boolean }): Promise<number> {
  const settings = readSettings(process.env)
  const interrupted = interruption()
  print.talk('Nightshift · local, no Docker, no account')
  const stack = await startLocalStack(
    settings,
    (line) => options.verbose && print.talk(colors.dim(line)),
  )
  const console = await startConsole({
    port: Number(new URL(stack.urls.console).port),
    apiUrl: stack.urls.api,
    publishableKey: stack.keys.publishableKey,
    projectDir,
  })
  const ok = colors.green('✓')
  print.talk(`${ok} Postgres    ${stack.urls.db}`)
  print.talk(`${ok} API, Auth   ${stack.urls.api}`)
  print.talk(`${ok} functions   ${stack.urls.functions}`)
  const connection: Connection = {
    mode: 'local',
    apiUrl: stack.urls.api,
    functionsUrl: stack.urls.functions,
    dbUrl: stack.urls.db,
    practiceUrl: stack.urls.practice,
    ...stack.keys,
  }
  await personClient(connection, homeDir(settings))
  print.talk(`${ok} console     ${await signInLink(connection, console.url)}`)
  print.talk('              (signs you in once; later open it without the part after #)')
  if (stack.practice) {
    print.talk(
      `${colors.yellow('!')} no model key found: PRACTICE models answer (${stack.urls.practice})`,
    )
    print.talk(
      '              set ANTHROPIC_API_KEY, OPENAI_API_KEY or OPENROUTER_API_KEY for real ones',
    )
  }
  print.talk(`\nNext          npm run demo      (stop with Ctrl-C; state is kept)`)
  await aborted(interrupted)
  print.talk('\nStopping')
  await console.stop()
  await stack.stop()
  return exitCode.ok
}

/** A link that signs the person at this machine in, once. */
async function signInLink(connection: Connection, consoleUrl: string): Promise<string> {
  const { data, error } = await serviceClient(connection).auth.admin.generateLink({
    type: 'magiclink',
    email: personEmail,
  })
  if (error) return consoleUrl
  return `${consoleUrl}/inbox#token_hash=${data.properties.hashed_token}&type=magiclink`
}
