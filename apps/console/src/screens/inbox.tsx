import { useQuery } from '@tanstack/react-query'
import { useEffect } from 'react'
import { useNow } from '../clock.ts'
import { useConnection } from '../connection.ts'
import { finishedToday, openCards } from '../data/queries.ts'
import type { Card, Project } from '../data/rows.ts'
import { moment, relative, visible } from '../format.ts'
import { Button, buttonShape } from '../parts/button.tsx'
import { Icon } from '../parts/icon.tsx'
import { Link } from '../parts/link.tsx'
import { PaneHead, Panes } from '../parts/panes.tsx'
import { PracticeOf } from '../parts/practice.tsx'
import { ProblemNote } from '../parts/problem-note.tsx'
import { RiskWord, riskEdge } from '../parts/risk.tsx'
import { RowsSkeleton } from '../parts/rows-skeleton.tsx'
import { go } from '../view.ts'
import { words } from '../words/words.ts'
import { Arguments } from './arguments.tsx'
import { CardDetail } from './card.tsx'
import { Decide } from './decide.tsx'

/** A card whose arguments are longer than this is decided on its own page, not in the list. */
const listedCharacters = 600

interface InboxProps {
  cardId: number | null
  projects: Project[]
}

/** What needs this person: open cards, and the one that is opened. */
export function InboxScreen({ cardId, projects }: InboxProps) {
  const open = useQuery(openCards(useConnection()))
  useOpenFirst(cardId, open.data)
  return (
    <Panes
      listLabel={words.inbox}
      list={
        <>
          <PaneHead title={words.inbox}>
            <PracticeOf taskIds={open.data?.map(({ task_id }) => task_id) ?? []} />
          </PaneHead>
          {open.isError && (
            <ProblemNote what={words.failed.load} cause={open.error} onRetry={open.refetch} />
          )}
          {open.isPending && <RowsSkeleton rows={3} height="h-40" />}
          {open.data?.length === 0 && <Quiet />}
          {open.data && open.data.length > 0 && (
            <>
              <p className="mb-3 text-muted">{words.openCards(open.data.length)}</p>
              <ul className="grid gap-4 lg:gap-2">
                {open.data.map((card) => (
                  <li key={card.id}>
                    <CardItem
                      card={card}
                      isOpen={card.id === cardId}
                      role={roleIn(projects, card)}
                    />
                  </li>
                ))}
              </ul>
            </>
          )}
        </>
      }
      detail={cardId && <CardDetail key={cardId} id={cardId} projects={projects} />}
      detailLabel={cardId ? words.card(cardId) : words.details}
      placeholder={open.data?.length ? words.chooseCard : ''}
    />
  )
}

/** On a desk the most urgent card stands open beside the list; the URL keeps it from then on. */
function useOpenFirst(cardId: number | null, cards: Card[] | undefined): void {
  const first = cards?.[0]?.id
  useEffect(() => {
    if (cardId !== null || !first || !matchMedia('(min-width: 64rem)').matches) return
    go({ name: 'inbox', card: first }, { replace: true })
  }, [cardId, first])
}

function Quiet() {
  const { data } = useQuery(finishedToday(useConnection()))
  return (
    <div className="night flex min-h-[55dvh] flex-col justify-end rounded-2xl p-6">
      <img src="/moon.svg" alt="" className="mb-4 size-14" />
      {data !== undefined && <p className="text-xl text-balance">{words.allQuiet(data)}</p>}
    </div>
  )
}

interface CardItemProps {
  card: Card
  isOpen: boolean
  role: string
}

function CardItem({ card, isOpen, role }: CardItemProps) {
  const mustOpen = card.risk === 'high' || card.risk === 'critical' || isLong(card)
  return (
    <article
      className={`rounded-xl border border-line bg-surface ${riskEdge(card.risk)} ${isOpen ? 'lg:outline-2 lg:outline-accent' : ''}`}
    >
      <div className="grid gap-3 p-4">
        <div className="flex flex-wrap items-center justify-between gap-x-4 gap-y-1 text-sm">
          <RiskWord risk={card.risk} />
          <DeadlineWord at={card.deadline_at} />
        </div>
        <div>
          <h3 className="line-clamp-2 text-lg leading-snug font-semibold" dir="auto">
            <Link
              to={{ name: 'inbox', card: card.id }}
              aria-current={isOpen ? 'true' : undefined}
              className="rounded hover:underline"
            >
              {visible(card.title)}
            </Link>
          </h3>
          <p className="mt-1 line-clamp-3 text-muted" dir="auto">
            {visible(card.consequence)}
          </p>
        </div>
        <div className="grid gap-3 lg:hidden">
          {!isLong(card) && <Arguments card={card} />}
          <Decide
            card={card}
            role={role}
            approval={({ act, disabled }) =>
              mustOpen ? (
                <Link
                  to={{ name: 'inbox', card: card.id }}
                  className={`${buttonShape} grow basis-32 bg-accent text-on-accent`}
                >
                  {words.openCard}
                </Link>
              ) : (
                <Button look="calm" className="grow basis-32" disabled={disabled} onClick={act}>
                  <Icon name="check" />
                  {words.approve}
                </Button>
              )
            }
          />
        </div>
      </div>
    </article>
  )
}

function DeadlineWord({ at }: { at: string | null }) {
  const now = useNow()
  if (!at) return <span className="text-muted">{words.noDeadline}</span>
  return (
    <span className="inline-flex items-center gap-1.5 text-muted">
      <Icon name="clock" className="size-4" />
      <span className="sr-only">{words.deadline}</span>
      <time dateTime={at} title={moment(at)}>
        {relative(at, now)}
      </time>
    </span>
  )
}

function isLong(card: Card): boolean {
  return (JSON.stringify(card.action.args) ?? '').length > listedCharacters
}

function roleIn(projects: Project[], card: Card): string {
  return projects.find(({ id }) => id === card.project_id)?.role ?? ''
}
