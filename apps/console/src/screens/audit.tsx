import { useMutation, useQuery } from '@tanstack/react-query'
import { useConnection } from '../connection.ts'
import { auditEvents } from '../data/queries.ts'
import type { AuditEvent, Project } from '../data/rows.ts'
import { count, short, visible } from '../format.ts'
import { Button } from '../parts/button.tsx'
import { Icon, type IconName } from '../parts/icon.tsx'
import { Link } from '../parts/link.tsx'
import { PaneHead } from '../parts/panes.tsx'
import { Payload } from '../parts/payload.tsx'
import { PracticeOf } from '../parts/practice.tsx'
import { ProblemNote } from '../parts/problem-note.tsx'
import { RowsSkeleton } from '../parts/rows-skeleton.tsx'
import { Clock } from '../parts/when.tsx'
import { words } from '../words/words.ts'

/** Who did what, newest first, and the proof that nobody changed it since. */
export function AuditScreen({ projects }: { projects: Project[] }) {
  const found = useQuery(auditEvents(useConnection()))
  const readable = projects.filter(({ role }) => role !== 'viewer')
  return (
    <section
      tabIndex={-1}
      aria-label={words.audit}
      data-landing=""
      className="mx-auto max-w-4xl px-4 pb-8 outline-none lg:px-8"
    >
      <PaneHead title={words.audit}>
        <PracticeOf taskIds={practisedBy(found.data ?? [])} />
      </PaneHead>
      <div className="mb-6 grid gap-3">
        {readable.map((project) => (
          <Verification key={project.id} project={project} isOnly={projects.length === 1} />
        ))}
      </div>
      {readable.length === 0 && <p className="mb-6">{words.roleCannotAudit}</p>}
      <p className="mb-3 text-muted">{words.auditLead}</p>
      {found.isError && (
        <ProblemNote what={words.failed.load} cause={found.error} onRetry={found.refetch} />
      )}
      {found.isPending && <RowsSkeleton rows={8} height="h-12" />}
      {found.data?.length === 0 && <p>{words.noEvents}</p>}
      {found.data && found.data.length > 0 && (
        <ol className="divide-y divide-line rounded-xl border border-line bg-surface">
          {found.data.map((event) => (
            <EventItem key={event.id} event={event} />
          ))}
        </ol>
      )}
    </section>
  )
}

function Verification({ project, isOnly }: { project: Project; isOnly: boolean }) {
  const { nightshift } = useConnection()
  const verify = useMutation({ mutationFn: () => nightshift.verify(project.id) })
  const result = verify.data
  return (
    <div className="grid gap-3 rounded-xl border border-line bg-surface p-4">
      <div className="flex flex-wrap items-center justify-between gap-3">
        <p className="font-medium">{project.name}</p>
        <Button
          look="primary"
          aria-label={isOnly ? undefined : `${words.verify}: ${project.name}`}
          disabled={verify.isPending}
          onClick={() => verify.mutate()}
        >
          {verify.isPending ? words.verifying : words.verify}
        </Button>
      </div>
      {verify.isError && <ProblemNote what={words.failed.verify} cause={verify.error} />}
      <div role="status" className={result ? 'grid gap-1' : 'hidden'}>
        {result && (
          <>
            <p
              className={`flex items-center gap-2 font-semibold ${result.ok ? 'text-calm' : 'text-alarm'}`}
            >
              <Icon name={result.ok ? 'check' : 'alert'} />
              {result.ok ? words.verified : words.notVerified(result.findings.length)}
            </p>
            <p className="text-sm">
              {words.verifiedCounts(count(result.events), count(result.calls), count(result.seals))}
              {result.unsealed > 0 && `, ${words.unsealed(count(result.unsealed))}`}
            </p>
            {result.head && (
              <p className="font-mono text-xs text-muted">
                {words.head} {result.head}
              </p>
            )}
            {result.findings.map(({ check, object, detail }) => (
              <p key={`${check} ${object}`} className="text-sm">
                <code className="font-mono">{check}</code> {visible(object)}: {visible(detail)}
              </p>
            ))}
          </>
        )}
      </div>
    </div>
  )
}

const actorIcons: Record<AuditEvent['actor_kind'], IconName> = {
  person: 'person',
  worker: 'running',
  system: 'moon',
}

function EventItem({ event }: { event: AuditEvent }) {
  const { userId } = useConnection()
  return (
    <li className="grid grid-cols-[4.5rem_1fr] gap-x-4 px-4 py-2 text-sm leading-7 sm:grid-cols-[4.5rem_13rem_1fr] sm:items-center">
      <span className="text-muted">
        <Clock at={event.at} />
      </span>
      <span className="font-mono">{event.action}</span>
      <div className="col-span-2 flex min-w-0 flex-wrap items-center gap-x-4 sm:col-span-1">
        <span className="inline-flex items-center gap-1.5">
          <Icon name={actorIcons[event.actor_kind]} className="size-4 text-muted" />
          {actorOf(event, userId)}
        </span>
        {event.object_type !== 'task' && (
          <span className="text-muted">
            {visible(`${event.object_type} ${short(event.object_id)}`)}
          </span>
        )}
        {event.task_id && (
          <Link
            to={{ name: 'tasks', task: event.task_id, show: 'all' }}
            className="text-accent underline underline-offset-4"
          >
            {words.task(event.task_id)}
          </Link>
        )}
        <Payload label={words.eventDetails} value={event.meta} />
      </div>
    </li>
  )
}

function actorOf({ actor, actor_kind }: AuditEvent, userId: string): string {
  if (actor === null) return words.system
  if (actor_kind !== 'person') return visible(actor)
  return actor === userId ? words.you : words.member(short(actor))
}

/** Tasks whose model calls are among these events. */
function practisedBy(events: AuditEvent[]): number[] {
  return events.flatMap(({ action, task_id }) =>
    action === 'model.called' && task_id ? [task_id] : [],
  )
}
