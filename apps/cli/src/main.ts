import { Command, CommanderError } from 'commander'
import colors from 'picocolors'
import { verifyAudit } from './commands/audit.ts'
import { decideCard, listCards } from './commands/card.ts'
import { demo } from './commands/demo.ts'
import { start } from './commands/start.ts'
import { status } from './commands/status.ts'
import { exitCode, exitCodeOf } from './exit.ts'
import { print } from './print.ts'

const program = new Command('nightshift')
  .description('AI agents around the clock inside a Supabase project')
  .option('--port-base <port>', 'first port of the local stack (default 54321)')
  .showHelpAfterError()
  .exitOverride()
  .hook('preAction', (command) => {
    const { portBase } = command.opts()
    if (portBase) process.env.NIGHTSHIFT_PORT_BASE = portBase
  })

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
  .option('--output <format>', 'text or json', 'text')
  .action(run(status))
program
  .command('demo')
  .description('let the support-inbox agent work through a folder of mails')
  .option('--inbox <folder>', 'folder of .eml, .txt, .md files')
  .option('--approve', 'approve the cards of this run', false)
  .option('--json', 'print the summary as one JSON object', false)
  .action(run(demo))

const card = program.command('card').description('decisions that wait for a person')
card.command('list').option('--output <format>', 'text or json', 'text').action(run(listCards))
for (const verb of ['approve', 'reject', 'respond'] as const) {
  card
    .command(`${verb} <id>`)
    .option('--note <text>', 'why')
    .action(run((id: string, options: { note?: string }) => decideCard(verb, id, options)))
}

program
  .command('audit')
  .description('the log of everything')
  .command('verify')
  .option('--project <id>', 'only this project')
  .option('--output <format>', 'text or json', 'text')
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
