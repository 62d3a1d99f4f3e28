import { useQuery } from '@tanstack/react-query'
import { useNow } from '../clock.ts'
import { useConnection } from '../connection.ts'
import { modelCalls, steps, task as taskQuery, taskTree } from '../data/queries.ts'
import type { Step, Task } from '../data/rows.ts'
import { span, usd } from '../format.ts'
import { BackLink } from '../parts/back-link.tsx'
import { buttonShape } from '../parts/button.tsx'
import { Facts } from '../parts/facts.tsx'
import { Icon, type IconName } from '../parts/icon.tsx'
import { Link } from '../parts/link.tsx'
import { PaneHead } from '../parts/panes.tsx'
import { Payload } from '../parts/payload.tsx'
import { PracticeBadge } from '../parts/practice.tsx'
import { ProblemNote } from '../parts/problem-note.tsx'
import { RowsSkeleton } from '../parts/rows-skeleton.tsx'
import { StatusWord } from '../parts/status.tsx'
import { Clock, When } from '../parts/when.tsx'
import type { Show } from '../view.ts'
import { words } from '../words/words.ts'
import { ModelCalls } from './model-calls.tsx'

/** One task: what it is, what it did, what it asked of models, what it is made of. */
export function TaskDetail({ id, show }: { id: number; show: Show }) {
  const found = useQuery(taskQuery(useConnection(), id))
  return (
    <div className="mx-auto grid max-w-3xl gap-4">
      <BackLink to={{ name: 'tasks', task: null, show }} label={words.tasks} />
      {found.isError && (
        <ProblemNote what={words.failed.load} cause={found.error} onRetry={found.refetch} />
      )}
      {found.isPending && <RowsSkeleton rows={2} height="h-48" />}
      {found.data === null && <p className="py-6">{words.notFound(words.task(id))}</p>}
      {found.data && <Opened task={found.data} />}
    </div>
  )
}

function Opened({ task }: { task: Task }) {
  const calls = useQuery(modelCalls(useConnection(), task.id))
  const waitingFor = task.cards.find(({ status }) => status === 'open')
  return (
    <article className="grid gap-7">
      <div className="grid gap-4">
        <PaneHead
          title={
            <>
              <span className="mr-1 text-muted">#{task.id}</span> {task.agent}
            </>
          }
        >
          <StatusWord status={task.status} />
          {calls.data?.some(({ provider }) => provider === 'practice') && <PracticeBadge />}
        </PaneHead>
        {waitingFor && (
          <Link
            to={{ name: 'inbox', card: waitingFor.id }}
            className={`${buttonShape} bg-notice-soft text-notice`}
          >
            <Icon name="hand" />
            {words.waitsForCard}
          </Link>
        )}
        {task.status === 'failed' && (
          <p className="rounded-xl bg-alarm-soft p-4 text-alarm">
            <code className="font-mono">{task.failure_class}</code>
          </p>
        )}
        <TaskFacts task={task} />
        <div className="flex flex-wrap gap-x-5">
          <Payload label={words.input} value={task.input} />
          <Payload label={words.output} value={task.output} />
          <Payload label={words.error} value={task.error} />
        </div>
      </div>
      <Steps taskId={task.id} />
      <ModelCalls found={calls} />
      <Children taskId={task.id} />
    </article>
  )
}

function TaskFacts({ task }: { task: Task }) {
  const now = useNow()
  const end = task.finished_at ? Date.parse(task.finished_at) : now
  return (
    <Facts
      facts={[
        [words.created, <When key="created" at={task.created_at} />],
        [words.took, task.started_at ? span(end - Date.parse(task.started_at)) : '–'],
        [words.spent, usd(task.spent_usd)],
        [words.laneLabel, `P${task.lane}`],
        [words.attempt, `${task.attempt} / ${task.max_attempts}`],
        [
          words.parent,
          task.parent_id ? (
            <Link
              key="parent"
              to={{ name: 'tasks', task: task.parent_id, show: 'all' }}
              className="text-accent underline underline-offset-4"
            >
              {words.task(task.parent_id)}
            </Link>
          ) : (
            '–'
          ),
        ],
      ]}
    />
  )
}

const stepIcons: Record<string, IconName> = {
  model_call: 'spark',
  tool_call: 'tool',
  ask: 'question',
  decision: 'person',
  checkpoint: 'shield',
  error: 'alert',
}

function Steps({ taskId }: { taskId: number }) {
  const found = useQuery(steps(useConnection(), taskId))
  return (
    <section>
      <h3 className="mb-3 font-semibold">{words.steps}</h3>
      {found.isError && (
        <ProblemNote what={words.failed.load} cause={found.error} onRetry={found.refetch} />
      )}
      {found.data?.length === 0 && <p className="text-muted">{words.noSteps}</p>}
      <ol>
        {found.data?.map((step) => (
          <StepItem key={step.seq} step={step} />
        ))}
      </ol>
    </section>
  )
}

/** A stop on the line that runs from the first step to the last. */
function StepItem({ step }: { step: Step }) {
  return (
    <li className="group relative grid grid-cols-[2rem_1fr] gap-3 pb-4 last:pb-0">
      <span
        aria-hidden="true"
        className="absolute top-8 bottom-0 left-4 w-px bg-line group-last:hidden"
      />
      <span
        className={`flex size-8 items-center justify-center rounded-full bg-sunken ${step.error ? 'text-alarm' : 'text-muted'}`}
      >
        <Icon name={stepIcons[step.kind] ?? 'spark'} className="size-4" />
      </span>
      <div className="min-w-0">
        <p className="flex flex-wrap items-baseline gap-x-3 leading-8">
          <span>{words.step[step.kind] ?? step.kind}</span>
          <code className="font-mono text-sm">{step.action}</code>
          <span className="w-full text-sm leading-5 text-muted sm:ml-auto sm:w-auto">
            {step.duration_ms !== null && `${span(step.duration_ms)} · `}
            <Clock at={step.created_at} />
          </span>
        </p>
        <div className="flex flex-wrap gap-x-5">
          <Payload label={words.input} value={step.input} />
          <Payload label={words.output} value={step.output} />
          <Payload label={words.error} value={step.error} />
        </div>
      </div>
    </li>
  )
}

function Children({ taskId }: { taskId: number }) {
  const { data: tree = [] } = useQuery(taskTree(useConnection(), taskId))
  const below = tree.filter(({ depth }) => depth > 0)
  if (below.length === 0) return null
  return (
    <section>
      <h3 className="mb-3 font-semibold">{words.children}</h3>
      <ul className="divide-y divide-line overflow-hidden rounded-xl border border-line bg-surface">
        {below.map(({ id, depth, agent, status, spent_usd }) => (
          <li key={id}>
            <Link
              to={{ name: 'tasks', task: id, show: 'all' }}
              className="flex flex-wrap justify-between gap-x-4 px-4 py-2.5 hover:bg-sunken -outline-offset-2!"
            >
              <span>
                {depth > 1 && <span aria-hidden="true">{'· '.repeat(depth - 1)}</span>}
                <span className="mr-1 text-muted">#{id}</span> {agent}
              </span>
              <span className="flex gap-4">
                <span className="text-sm text-muted">{usd(spent_usd)}</span>
                <StatusWord status={status} />
              </span>
            </Link>
          </li>
        ))}
      </ul>
    </section>
  )
}
