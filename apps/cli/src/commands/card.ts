import { nightshift } from '@nightshift/client'
import { readSettings } from '@nightshift/shared/env.ts'
import { homeDir, personClient, requireConnection } from '../connection.ts'
import { must } from '../demo/run.ts'
import { ExitError, exitCode } from '../exit.ts'
import { print, safe } from '../print.ts'

type Verb = 'approve' | 'reject' | 'respond'

/** Lists open cards. */
export async function listCards(options: { output: string }): Promise<number> {
  const supabase = await personClient(requireConnection(), homeDir(readSettings(process.env)))
  const cards = must(
    await supabase
      .schema('nightshift')
      .from('cards')
      .select('*')
      .eq('status', 'open')
      .order('deadline_at'),
  )
  if (options.output === 'json') print.json(cards)
  else if (cards.length === 0) print.talk('no open cards')
  else
    for (const card of cards)
      print.data(
        `${card.id}  ${card.risk.padEnd(8)} ${card.deadline_at}  ${safe(card.title).replaceAll('\n', ' ')}`,
      )
  return exitCode.ok
}

/** Decides the card as it stands now, as the person at this machine. */
export async function decideCard(
  verb: Verb,
  id: number,
  options: { note?: string },
): Promise<number> {
  const supabase = await personClient(requireConnection(), homeDir(readSettings(process.env)))
  const [card] = must(await supabase.schema('nightshift').from('cards').select('*').eq('id', id))
  if (!card)
    throw new ExitError(`cannot find card "${id}"`, {
      exitCode: exitCode.notFound,
      hint: 'See nightshift card list.',
    })
  await nightshift(supabase).decide({
    card: card.id,
    verb,
    digest: card.digest,
    ...(options.note ? { note: options.note } : {}),
  })
  print.talk(`card ${card.id}: ${verb}`)
  return exitCode.ok
}
