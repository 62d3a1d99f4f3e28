import { useQuery } from '@tanstack/react-query'
import { useId, useState } from 'react'
import { useConnection } from '../connection.ts'
import { card as cardQuery, task as taskQuery } from '../data/queries.ts'
import type { Card, Project } from '../data/rows.ts'
import { usd, visible } from '../format.ts'
import { BackLink } from '../parts/back-link.tsx'
import { Button } from '../parts/button.tsx'
import { Facts } from '../parts/facts.tsx'
import { Field, fieldLook } from '../parts/field.tsx'
import { HoldButton } from '../parts/hold-button.tsx'
import { Icon } from '../parts/icon.tsx'
import { Link } from '../parts/link.tsx'
import { PaneHead } from '../parts/panes.tsx'
import { Payload } from '../parts/payload.tsx'
import { PracticeOf } from '../parts/practice.tsx'
import { ProblemNote } from '../parts/problem-note.tsx'
import { RiskWord, riskEdge } from '../parts/risk.tsx'
import { RowsSkeleton } from '../parts/rows-skeleton.tsx'
import { When } from '../parts/when.tsx'
import { words } from '../words/words.ts'
import { Arguments } from './arguments.tsx'
import { Decide } from './decide.tsx'
import { outcomeOf } from './outcome.ts'

/** One card in full, with the way to decide it or what was decided. */
export function CardDetail({ id, projects }: { id: number; projects: Project[] }) {
  const found = useQuery(cardQuery(useConnection(), id))
  return (
    <div className="mx-auto grid max-w-2xl gap-4">
      <BackLink to={{ name: 'inbox', card: null }} label={words.inbox} />
      {found.isError && (
        <ProblemNote what={words.failed.load} cause={found.error} onRetry={found.refetch} />
      )}
      {found.isPending && <RowsSkeleton rows={2} height="h-48" />}
      {found.data === null && <p className="py-6">{words.notFound(words.card(id))}</p>}
      {found.data && (
        <Opened
          key={found.data.digest}
          card={found.data}
          project={projects.find((project) => project.id === found.data?.project_id)}
        />
      )}
    </div>
  )
}

function Opened({ card, project }: { card: Card; project: Project | undefined }) {
  return (
    <article className={`grid gap-5 rounded-r-xl pl-4 ${riskEdge(card.risk)}`}>
      <div>
        <PaneHead title={<span dir="auto">{visible(card.title)}</span>} />
        <div className="flex flex-wrap items-center gap-x-4 gap-y-2">
          <RiskWord risk={card.risk} />
          <span className="text-muted">{words.reversible[card.reversible]}</span>
          <PracticeOf taskIds={[card.task_id]} />
        </div>
        <p className="mt-3" dir="auto">
          {visible(card.consequence)}
        </p>
      </div>
      <Arguments card={card} />
      <CardFacts card={card} project={project} />
      {card.status === 'open' ? (
        // Within reach of the thumb, whatever the length of the card.
        <div className="sticky bottom-14 z-5 -mr-4 -ml-8 border-t border-line bg-canvas px-4 py-3 lg:-bottom-8 lg:mr-0">
          <Deciding card={card} role={project?.role ?? ''} />
        </div>
      ) : (
        <Outcome card={card} />
      )}
      <div>
        <Payload label={words.evidence} value={card.evidence.length > 0 ? card.evidence : null} />
        <Payload label={words.rawAction} value={card.action} />
        <p className="mt-1 font-mono text-xs text-muted">
          {words.digest} {card.digest}
        </p>
      </div>
    </article>
  )
}

function Deciding({ card, role }: { card: Card; role: string }) {
  const hintId = useId()
  if (card.risk === 'high' || card.risk === 'critical') {
    return (
      <Decide
        card={card}
        role={role}
        approval={({ act, disabled }) => (
          <HoldButton
            label={words.holdToApprove}
            describedBy={hintId}
            disabled={disabled}
            onHeld={act}
          />
        )}
        below={({ act, disabled }) => (
          <div className="grid justify-items-center text-sm text-muted">
            <p id={hintId} className="text-center">
              {words.holdHint}
            </p>
            <TypeInstead card={card} disabled={disabled} onTyped={act} />
          </div>
        )}
      />
    )
  }
  return (
    <Decide
      card={card}
      role={role}
      approval={({ act, disabled }) => (
        <Button look="calm" className="grow basis-40" disabled={disabled} onClick={act}>
          <Icon name="check" />
          {words.approve}
        </Button>
      )}
    />
  )
}

function CardFacts({ card, project }: { card: Card; project: Project | undefined }) {
  const { data: task } = useQuery(taskQuery(useConnection(), card.task_id))
  const expiry = words.onExpiry[card.on_expiry]
  return (
    <Facts
      facts={[
        [
          words.deadline,
          card.deadline_at ? (
            <>
              <When at={card.deadline_at} />
              {card.status === 'open' && expiry && (
                <span className="block text-sm text-muted">{expiry}</span>
              )}
            </>
          ) : (
            words.noDeadline
          ),
        ],
        [
          task?.agent ?? words.agent,
          <Link
            key="task"
            to={{ name: 'tasks', task: card.task_id, show: 'all' }}
            className="text-accent underline underline-offset-4"
          >
            {words.task(card.task_id)}
          </Link>,
        ],
        [words.spentSoFar, task ? usd(task.spent_usd) : '…'],
        [words.project, project?.name ?? '…'],
      ]}
    />
  )
}

/** For everyone who cannot hold a button: the number of the card is a deliberate act as well. */
function TypeInstead({
  card,
  disabled,
  onTyped,
}: {
  card: Card
  disabled: boolean
  onTyped: () => void
}) {
  const [typed, setTyped] = useState('')
  const matches = typed.trim() === String(card.id)
  return (
    <details>
      <summary className="min-h-8 list-none text-center leading-8 underline underline-offset-4">
        {words.cannotHold}
      </summary>
      <form
        className="grid grid-cols-[1fr_auto] items-end gap-3 text-ink"
        onSubmit={(event) => {
          event.preventDefault()
          if (matches) onTyped()
        }}
      >
        <Field label={words.typeNumber(card.id)}>
          {(ids) => (
            <input
              {...ids}
              inputMode="numeric"
              autoComplete="off"
              value={typed}
              onChange={(event) => setTyped(event.target.value)}
              className={fieldLook}
            />
          )}
        </Field>
        <Button type="submit" look="calm" disabled={disabled || !matches}>
          {words.approve}
        </Button>
      </form>
    </details>
  )
}

function Outcome({ card }: { card: Card }) {
  const { userId } = useConnection()
  const good = card.verb === 'approve' || card.verb === 'edit'
  return (
    <div role="status" className="flex items-start gap-3 rounded-xl bg-sunken p-4">
      <Icon
        name={good ? 'check' : 'cross'}
        className={`size-6 ${good ? 'text-calm' : 'text-alarm'}`}
      />
      <div>
        <p className="font-semibold">{outcomeOf(card, userId)}</p>
        {card.note && (
          <p dir="auto" className="mt-1 whitespace-pre-wrap">
            {visible(card.note)}
          </p>
        )}
      </div>
    </div>
  )
}
