import { useQuery } from '@tanstack/react-query'
import { useEffect, useRef } from 'react'
import { useConnection } from './connection.ts'
import { useLive, useLiveness } from './data/live.ts'
import { openCards, projects } from './data/queries.ts'
import type { Project } from './data/rows.ts'
import { visible } from './format.ts'
import { Boundary } from './parts/boundary.tsx'
import { Icon, type IconName } from './parts/icon.tsx'
import { Link } from './parts/link.tsx'
import { useAnnounce } from './parts/notice.tsx'
import { ProblemNote } from './parts/problem-note.tsx'
import { RowsSkeleton } from './parts/rows-skeleton.tsx'
import { AuditScreen } from './screens/audit.tsx'
import { CreateProject } from './screens/create-project.tsx'
import { InboxScreen } from './screens/inbox.tsx'
import { NewTaskScreen } from './screens/new-task.tsx'
import { TasksScreen } from './screens/tasks.tsx'
import { hrefOf, useView, type View } from './view.ts'
import { words } from './words/words.ts'

/** Everything behind the sign-in: menu, what is live, and the screen of the URL. */
export function Shell() {
  const found = useQuery(projects(useConnection()))
  const view = useView()
  const liveness = useLiveness()
  useLive(found.data?.map(({ id }) => id) ?? [])
  useTitle(view)
  useLanding(hrefOf(view))
  return (
    <div className="lg:grid lg:h-dvh lg:grid-cols-[14rem_1fr]">
      <a
        href="#content"
        className="absolute -top-20 left-4 z-30 rounded-lg bg-ink px-4 py-2 text-canvas focus:top-2"
      >
        {words.skipToContent}
      </a>
      <Menu view={view} />
      <main
        id="content"
        tabIndex={-1}
        className="pb-20 outline-none lg:h-dvh lg:overflow-y-auto lg:pb-0"
      >
        <h1 className="sr-only">{titleOf(view)}</h1>
        {liveness === 'offline' && (
          <p role="status" className="bg-notice-soft px-4 py-2 text-notice">
            {words.offlineBanner}
          </p>
        )}
        {found.isError && (
          <div className="p-4">
            <ProblemNote what={words.failed.load} cause={found.error} onRetry={found.refetch} />
          </div>
        )}
        {found.isPending && (
          <div className="p-4">
            <RowsSkeleton rows={3} height="h-32" />
          </div>
        )}
        {found.data && (
          <Boundary key={view.name} what={words.failed.render}>
            <Screen view={view} projects={found.data} />
          </Boundary>
        )}
      </main>
    </div>
  )
}

function Screen({ view, projects }: { view: View; projects: Project[] }) {
  if (projects.length === 0) return <CreateProject />
  switch (view.name) {
    case 'inbox':
      return <InboxScreen cardId={view.card} projects={projects} />
    case 'tasks':
      return <TasksScreen taskId={view.task} show={view.show} />
    case 'new-task':
      return <NewTaskScreen projects={projects} />
    case 'audit':
      return <AuditScreen projects={projects} />
  }
}

const places: { view: View; icon: IconName; label: string }[] = [
  { view: { name: 'inbox', card: null }, icon: 'inbox', label: words.inbox },
  { view: { name: 'tasks', task: null, show: 'all' }, icon: 'list', label: words.tasks },
  { view: { name: 'audit' }, icon: 'shield', label: words.audit },
]

/** A bar above and one below on a phone, a rail on a desk. */
function Menu({ view }: { view: View }) {
  const { supabase, email } = useConnection()
  const { data: cards = [] } = useQuery(openCards(useConnection()))
  const here = view.name === 'new-task' ? 'tasks' : view.name
  return (
    <header className="sticky top-0 z-10 flex h-14 items-center gap-3 border-b border-line bg-canvas px-4 lg:static lg:h-dvh lg:flex-col lg:items-stretch lg:border-r lg:border-b-0 lg:p-4">
      <p className="flex items-center gap-2 font-semibold tracking-tight lg:mb-6 lg:px-2 lg:text-lg">
        <Icon name="moon" className="size-6 text-accent" />
        Nightshift
      </p>
      <nav
        aria-label={words.mainMenu}
        className="fixed inset-x-0 bottom-0 z-10 grid grid-cols-3 border-t border-line bg-canvas pb-[env(safe-area-inset-bottom)] lg:static lg:grid-cols-1 lg:gap-1 lg:border-0"
      >
        {places.map(({ view: place, icon, label }) => (
          <Link
            key={place.name}
            to={place}
            aria-current={here === place.name ? 'page' : undefined}
            className="flex min-h-14 flex-col items-center justify-center gap-0.5 text-sm text-muted aria-[current]:font-semibold aria-[current]:text-accent lg:min-h-11 lg:flex-row lg:justify-start lg:gap-3 lg:rounded-lg lg:px-3 lg:text-base lg:hover:bg-sunken lg:aria-[current]:bg-sunken"
          >
            <Icon name={icon} />
            <span>
              {label}
              {place.name === 'inbox' && cards.length > 0 && (
                <span className="ml-1.5 rounded-full bg-accent px-2 py-0.5 text-xs font-semibold text-on-accent">
                  {cards.length}
                </span>
              )}
            </span>
          </Link>
        ))}
      </nav>
      <div className="ml-auto flex items-center gap-3 lg:mt-auto lg:ml-0 lg:flex-col lg:items-start lg:gap-2 lg:px-2">
        <LivenessWord />
        <span className="hidden max-w-full truncate text-sm text-muted lg:block" title={email}>
          {email}
        </span>
        <button
          type="button"
          aria-label={words.signOut}
          title={words.signOut}
          className="flex size-11 items-center justify-center rounded-lg text-muted hover:bg-sunken lg:-ml-2 lg:w-auto lg:gap-2 lg:px-2"
          onClick={() => void supabase.auth.signOut({ scope: 'local' })}
        >
          <Icon name="signout" />
          <span className="hidden lg:inline">{words.signOut}</span>
        </button>
      </div>
    </header>
  )
}

const liveDots = { live: 'bg-calm', polling: 'bg-notice', offline: 'bg-alarm' }

function LivenessWord() {
  const liveness = useLiveness()
  return (
    <span className="inline-flex items-center gap-2 text-sm text-muted">
      <span aria-hidden="true" className={`size-2 rounded-full ${liveDots[liveness]}`} />
      {words[liveness]}
    </span>
  )
}

function titleOf(view: View): string {
  return { inbox: words.inbox, tasks: words.tasks, 'new-task': words.newTask, audit: words.audit }[
    view.name
  ]
}

/** The tab says where one is and how much waits; new cards are read aloud. */
function useTitle(view: View): void {
  const { data: cards } = useQuery(openCards(useConnection()))
  const announce = useAnnounce()
  const known = useRef<Set<number>>(null)
  const waiting = cards?.length ? `(${cards.length}) ` : ''
  useEffect(() => {
    document.title = `${waiting}${titleOf(view)} · Nightshift`
  })
  useEffect(() => {
    if (!cards) return
    const fresh = known.current ? cards.filter(({ id }) => !known.current?.has(id)) : []
    known.current = new Set(cards.map(({ id }) => id))
    if (fresh[0]) announce(words.newCard(visible(fresh[0].title)), { quietly: true })
  }, [cards, announce])
}

/** Moves the focus to what a new address shows, as a page load would. */
function useLanding(address: string): void {
  const last = useRef(address)
  useEffect(() => {
    if (last.current === address) return
    last.current = address
    document.querySelector<HTMLElement>('[data-landing]')?.focus()
  }, [address])
}
