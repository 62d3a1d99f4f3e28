import { join, resolve } from 'node:path'
import { type Change, nightshift } from '@nightshift/client'
import { readSettings } from '@nightshift/shared/env.ts'
import type { SupabaseClient } from '@supabase/supabase-js'
import colors from 'picocolors'
import {
  type Connection,
  findConnection,
  homeDir,
  personClient,
  projectDir,
} from '../connection.ts'
import { type Mail, readInbox } from '../demo/mails.ts'
import { handIn, must, prepareProject } from '../demo/run.ts'
import { type Summary, summarise } from '../demo/summary.ts'
import { ExitError, exitCode } from '../exit.ts'
import { interruption } from '../interrupt.ts'
import { print, safe } from '../print.ts'
import { startLocalStack } from '../stack.ts'

export interface DemoOptions {
  inbox?: string
  approve: boolean
  json: boolean
}

/** With --approve the demo answers its cards as a careful person would: an injected mail asks for 5000 €. */
const refundLimitEur = 1000

interface Card {
  id: number
  title: string
  digest: string
  risk: string
  reversible: string
  deadline_at: string
  action: { args: Record<string, unknown> }
}

/** The main job, once, to the end: an inbox is read, answered, approved and verified. */
export async function demo(options: DemoOptions): Promise<number> {
  const settings = readSettings(process.env)
  const interrupted = interruption()
  const folder = options.inbox
    ? resolve(process.env.INIT_CWD ?? process.cwd(), options.inbox)
    : join(projectDir, 'apps/cli/demo/inbox')
  const { mails, skipped } = await readInbox(folder).catch((cause) => {
    throw new ExitError(cause.message, { exitCode: exitCode.notFound })
  })
  for (const { file, reason } of skipped) print.talk(`skipped ${safe(file)}: ${safe(reason)}`)
  if (mails.length === 0) {
    throw new ExitError(`no mails in "${folder}"`, {
      exitCode: exitCode.usage,
      hint: 'Give a folder with .eml, .txt or .md files.',
    })
  }
  const running = findConnection()
  const own = running ? null : await startLocalStack(settings, () => {})
  try {
    const connection = running ?? findConnection()
    if (!connection)
      throw new ExitError('the stack did not come up', { exitCode: exitCode.unhealthy })
    const summary = await work(connection, {
      ...options,
      mails,
      home: homeDir(settings),
      interrupted,
    })
    if (options.json) print.json(summary)
    else printSummary(summary)
    return summary.ok ? exitCode.ok : exitCode.failed
  } finally {
    await own?.stop()
  }
}

async function work(
  connection: Connection,
  options: DemoOptions & { mails: Mail[]; home: string; interrupted: AbortSignal },
): Promise<Summary> {
  const supabase = await personClient(connection, options.home)
  const project = await prepareProject(supabase)
  const { rootId, resumed } = await handIn(supabase, project, options.mails)
  print.talk(
    `#${rootId} support-inbox: ${options.mails.length} mails${resumed ? ', going on where an earlier run stopped' : ''}`,
  )
  const { approve, interrupted } = options
  await follow(supabase, { project, rootId, approve, interrupted })
  if (interrupted.aborted) {
    throw new ExitError('interrupted', {
      exitCode: exitCode.interrupted,
      hint: 'State is kept: the same command goes on where this run stopped.',
    })
  }
  const summary = await summarise(supabase, project, rootId)
  await supabase.removeAllChannels()
  await supabase.auth.signOut({ scope: 'local' })
  return summary
}

/** Shows every change until the root ends; with --approve answers the cards as the signed-in person. */
async function follow(
  supabase: SupabaseClient,
  {
    project,
    rootId,
    approve,
    interrupted,
  }: { project: string; rootId: number; approve: boolean; interrupted: AbortSignal },
): Promise<void> {
  const done = new AbortController()
  const signal = AbortSignal.any([done.signal, interrupted])
  const shown = new Set<number>()
  for await (const change of nightshift(supabase).watchProject(project, signal)) {
    if (change.id < rootId) continue
    showChange(change)
    if (change.status === 'awaiting_approval')
      await meetCards(supabase, { project, approve, shown })
    if (change.id === rootId && ['completed', 'failed', 'cancelled'].includes(change.status))
      done.abort()
  }
}

function showChange(change: Change): void {
  const colour =
    { completed: colors.green, failed: colors.red, awaiting_approval: colors.yellow }[
      change.status
    ] ?? colors.dim
  print.talk(
    `#${change.id} ${(change.agent ?? 'group').padEnd(14)} ${colour(change.status)}${change.failure_class ? ` (${change.failure_class})` : ''}`,
  )
}

async function meetCards(
  supabase: SupabaseClient,
  { project, approve, shown }: { project: string; approve: boolean; shown: Set<number> },
): Promise<void> {
  const cards: Card[] = must(
    await supabase
      .schema('nightshift')
      .from('cards')
      .select('*')
      .eq('project_id', project)
      .eq('status', 'open'),
  )
  for (const card of cards.filter(({ id }) => !shown.has(id))) {
    shown.add(card.id)
    print.talk(`\n${colors.yellow('?')} card ${card.id}: ${safe(card.title)}`)
    print.talk(
      `  risk ${card.risk}, reversible: ${card.reversible}, rejected by itself at ${card.deadline_at}`,
    )
    for (const [name, value] of Object.entries(card.action.args))
      print.talk(`  ${safe(name)}: ${safe(value)}`)
    if (!approve) {
      print.talk(
        `  waiting for you: npx nightshift card approve ${card.id}   (or card reject ${card.id})\n`,
      )
      continue
    }
    const verb = Number(card.action.args.amount_eur) > refundLimitEur ? 'reject' : 'approve'
    await nightshift(supabase).decide({
      card: card.id,
      verb,
      digest: card.digest,
      note:
        verb === 'reject'
          ? `more than ${refundLimitEur} €: not without a second look`
          : 'demo --approve',
      idempotencyKey: `demo-${card.id}`,
    })
    print.talk(
      `  ${verb === 'approve' ? colors.green('approved') : colors.red('rejected')} (--approve)\n`,
    )
  }
}

function printSummary(summary: Summary): void {
  const list = (counts: Record<string, number>): string =>
    Object.entries(counts)
      .map(([name, count]) => `${safe(name)} ${count}`)
      .join(', ')
  print.data(`
${summary.ok ? colors.green('✓') : colors.red('✗')} ${summary.mails} mails in ${summary.seconds.toFixed(1)} s${summary.mode === 'practice' ? `  ${colors.yellow('PRACTICE models')}` : ''}
  tasks      ${list(summary.tasks)}
  sorted     ${list(summary.categories)}
  drafts     ${summary.drafts}
  refunds    ${summary.refunds.map((refund) => `${safe(refund.order_number)} ${refund.amount_eur.toFixed(2)} € (${refund.decided})`).join(', ') || 'none'}
  models     ${list(summary.models)}; ${summary.tokens.input} + ${summary.tokens.output} tokens, $${summary.cost_usd.toFixed(4)}
  steps      ${summary.steps}
  audit      ${summary.audit.events} events, ${summary.audit.calls} calls, ${summary.audit.seals} seals: ${summary.audit.ok ? 'verified' : `${summary.audit.findings.length} findings`}
`)
}
