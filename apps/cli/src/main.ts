import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander'
import colors from 'picocolors'
import { verifyAudit } from './commands/audit.ts'
import { decideCard, listCards } from './commands/card.ts'
import type { DemoOptions } from './commands/demo.ts'
import { status } from './commands/status.ts'
import { projectDir } from './connection.ts'
import { exitCode, exitCodeOf } from './exit.ts'
import { print } from './print.ts'

const { version } = JSON.parse(readFileSync(join(projectDir, 'package.json'), 'utf8'))

const program = new Command('nightshift')
  .description('AI agents around the clock inside a Supabase project')
  .version(version)
  .option('--port-base <port>', 'first port of the local stack (default 54321)')
  .showHelpAfterError()
  .exitOverride()
  .hook('preAction', (command) => {
    const { portBase } = command.opts()
    if (portBase) process.env.NIGHTSHIFT_PORT_BASE = portBase
  })

const output = (): Option =>
  new Option('--output <format>', 'text or json').choices(['text', 'json']).default('text')

// The stack behind these takes half a second to load, which the other commands need not wait for.
const start = async (options: { verbose: boolean }): Promise<number> =>
  (await import('./commands/start.ts')).start(options)
const demo = async (options: DemoOptions): Promise<number> =>
  (await import('./commands/demo.ts')).demo(options)

/** Every action returns its exit code. */
const run =
  <Args extends unknown[]>(action: (...args: Args) => Promise<number>) =>
  async (...args: Args): Promise<void> => {
    process.exitCode = await action(...args)
  }

program
  .command('start')
  .description('start the local stack and run until Ctrl-C')
  .option('--verbose', 'show the logs of functions and workers', false)
  .action(run(start))
program
  .command('status')
  .description('say where everything is and whether it answers')
  .addOption(output())
  .action(run(status))
program
  .command('demo')
  .description('let the support-inbox agent work through a folder of mails')
  .option('--inbox <folder>', 'folder of .eml, .txt, .md files')
  .option('--approve', 'approve the cards of this run', false)
  .option('--json', 'print the summary as one JSON object', false)
  .action(run(demo))

const card = program.command('card').description('decisions that wait for a person')
card
  .command('list')
  .description('open cards, the most urgent first')
  .addOption(output())
  .action(run(listCards))
const verbs = {
  approve: 'let the action happen',
  reject: 'refuse it; the agent is told why',
  respond: 'answer instead of deciding; needs --note',
} as const
for (const verb of ['approve', 'reject', 'respond'] as const) {
  card
    .command(verb)
    .description(verbs[verb])
    .argument('<id>', 'number of the card', cardId)
    .option('--note <text>', 'why')
    .action(run((id: number, options: { note?: string }) => decideCard(verb, id, options)))
}

function cardId(text: string): number {
  if (!/^[1-9][0-9]{0,14}$/.test(text)) throw new InvalidArgumentError('Wanted a number.')
  return Number(text)
}

program
  .command('audit')
  .description('the log of everything')
  .command('verify')
  .option('--project <id>', 'only this project')
  .addOption(output())
  .action(run(verifyAudit))

try {
  await program.parseAsync()
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : exitCode.usage
  else {
    const hint = error instanceof Error && 'hint' in error && error.hint ? `\n  ${error.hint}` : ''
    const code = error instanceof Error && 'code' in error && error.code ? ` [${error.code}]` : ''
    print.talk(`${colors.red('✗')} ${error instanceof Error ? error.message : error}${code}${hint}`)
    process.exitCode = exitCodeOf(error)
  }
}

// realtime-js keeps a timer of 10 s after the last channel is closed; nothing else is left to do.
process.stdout.write('', () => process.exit())
