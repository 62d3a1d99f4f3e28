import { ClientError } from '@nightshift/client'
import { useMutation, useQueryClient } from '@tanstack/react-query'
import { type ReactNode, useState } from 'react'
import { useConnection } from '../connection.ts'
import { useLiveness } from '../data/live.ts'
import { card as cardQuery, live } from '../data/queries.ts'
import type { Card } from '../data/rows.ts'
import { Button } from '../parts/button.tsx'
import { Field, fieldLook } from '../parts/field.tsx'
import { Icon } from '../parts/icon.tsx'
import { useAnnounce } from '../parts/notice.tsx'
import { ProblemNote } from '../parts/problem-note.tsx'
import { useView } from '../view.ts'
import { words } from '../words/words.ts'
import { outcomeOf } from './outcome.ts'

type Verb = 'approve' | 'reject'

interface Approve {
  act: () => void
  disabled: boolean
}

interface DecideProps {
  card: Card
  /** The person's role in the card's project. */
  role: string
  /** The button that approves, or leads to where one can. */
  approval: (approve: Approve) => ReactNode
  /** What stands below the buttons. */
  below?: (approve: Approve) => ReactNode
}

/** Reject with an optional note on the left, the way to approve on the right. */
export function Decide({ card, role, approval, below }: DecideProps) {
  const [rejecting, setRejecting] = useState(false)
  const [note, setNote] = useState('')
  const decide = useDecide(card)
  const offline = useLiveness() === 'offline'
  if (!['owner', 'operator', 'reviewer'].includes(role)) {
    return <p className="text-sm text-muted">{words.roleCannotDecide(role)}</p>
  }
  const disabled = offline || decide.isPending
  const approve = { act: () => decide.mutate({ verb: 'approve', note: '' }), disabled }
  const mayApprove = card.allowed.includes('approve')
  return (
    <div className="grid gap-3">
      {rejecting ? (
        <form
          className="grid gap-3"
          onSubmit={(event) => {
            event.preventDefault()
            decide.mutate({ verb: 'reject', note: note.trim() })
          }}
        >
          <Field label={words.rejectNote}>
            {(ids) => (
              <textarea
                {...ids}
                rows={2}
                maxLength={2000}
                // The person has just pressed Reject: the next thing to do is here.
                ref={(field) => field?.focus()}
                value={note}
                onChange={(event) => setNote(event.target.value)}
                className={fieldLook}
              />
            )}
          </Field>
          <div className="grid grid-cols-2 gap-3">
            <Button onClick={() => setRejecting(false)}>{words.cancel}</Button>
            <Button type="submit" look="stern" disabled={disabled}>
              {words.rejectNow}
            </Button>
          </div>
        </form>
      ) : (
        <div className="flex flex-wrap items-start gap-3">
          {card.allowed.includes('reject') && (
            <Button
              look="stern"
              className="grow basis-28"
              disabled={disabled}
              onClick={() => setRejecting(true)}
            >
              <Icon name="cross" />
              {words.reject}
            </Button>
          )}
          {mayApprove && approval(approve)}
        </div>
      )}
      {mayApprove && !rejecting && below?.(approve)}
      {decide.isError && !isConflict(decide.error) && (
        <ProblemNote what={words.failed.decide} cause={decide.error} />
      )}
    </div>
  )
}

/**
 * Decides as the signed-in person on exactly the digest that is shown. One key per card on the page:
 * pressing again after a lost answer gets the same answer, never a second decision.
 */
function useDecide(card: Card) {
  const connection = useConnection()
  const queries = useQueryClient()
  const announce = useAnnounce()
  const view = useView()
  const [key] = useState(() => crypto.randomUUID())
  // Where the card stands open, it says itself what became of it.
  const quietly = view.name === 'inbox' && view.card === card.id
  return useMutation({
    mutationFn: ({ verb, note }: { verb: Verb; note: string }) =>
      connection.nightshift.decide({
        card: card.id,
        verb,
        digest: card.digest,
        idempotencyKey: `console:${verb}:${key}`,
        ...(note ? { note } : {}),
      }),
    onSuccess: ({ task }, { verb }) =>
      announce(`${words.decided[verb]}. ${words.taskGoesOn(task)}`, { quietly }),
    onError: async (cause) => {
      if (!isConflict(cause)) return
      const now = await queries.fetchQuery(cardQuery(connection, card.id))
      if (now) announce(outcomeOf(now, connection.userId, { already: true }))
    },
    onSettled: () => queries.invalidateQueries({ queryKey: [live] }),
  })
}

/** NS041: someone else was first. */
function isConflict(cause: unknown): boolean {
  return cause instanceof ClientError && cause.code === 'NS041'
}
