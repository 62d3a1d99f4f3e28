import type { Card } from '../data/rows.ts'
import { clock, short } from '../format.ts'
import { words } from '../words/words.ts'

/** What became of a card that is no longer open: the verb, who and when. */
export function outcomeOf(card: Card, userId: string, { already = false } = {}): string {
  if (card.status !== 'decided' || !card.verb || !card.decided_at) {
    return words.cardStatus[card.status] ?? card.status
  }
  const verb = words.decided[card.verb] ?? card.verb
  const say = already ? words.alreadyDecided : words.decidedBy
  return say(verb, byWhom(card.decided_by, userId), clock(card.decided_at))
}

/** Others' e-mail addresses are not ours to show: a member is the shortened id. */
function byWhom(id: string | null, userId: string): string {
  if (id === null) return words.bySystem
  return id === userId ? words.byYou : words.byMember(short(id))
}
