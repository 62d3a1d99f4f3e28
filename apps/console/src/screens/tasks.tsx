import { useQuery } from '@tanstack/react-query'
import { useConnection } from '../connection.ts'
import { listLength, tasks } from '../data/queries.ts'
import type { TaskRow } from '../data/rows.ts'
import { usd } from '../format.ts'
import { buttonShape } from '../parts/button.tsx'
import { Icon } from '../parts/icon.tsx'
import { Link } from '../parts/link.tsx'
import { PaneHead, Panes } from '../parts/panes.tsx'
import { PracticeOf } from '../parts/practice.tsx'
import { ProblemNote } from '../parts/problem-note.tsx'
import { RowsSkeleton } from '../parts/rows-skeleton.tsx'
import { StatusWord } from '../parts/status.tsx'
import { Age } from '../parts/when.tsx'
import { type Show, shows } from '../view.ts'
import { words } from '../words/words.ts'
import { TaskDetail } from './task.tsx'

interface TasksProps {
  taskId: number | null
  show: Show
}

/** What runs and ran, newest first, and the task that is opened. */
export function TasksScreen({ taskId, show }: TasksProps) {
  const found = useQuery(tasks(useConnection(), show))
  return (
    <Panes
      listLabel={words.tasks}
      list={
        <>
          <PaneHead title={words.tasks}>
            <PracticeOf taskIds={found.data?.map(({ id }) => id) ?? []} />
            <Link
              to={{ name: 'new-task' }}
              className={`${buttonShape} ml-auto bg-accent text-on-accent`}
            >
              <Icon name="plus" />
              {words.newTask}
            </Link>
          </PaneHead>
          <ShowFilter show={show} taskId={taskId} />
          {found.isError && (
            <ProblemNote what={words.failed.load} cause={found.error} onRetry={found.refetch} />
          )}
          {found.isPending && <RowsSkeleton rows={6} height="h-16" />}
          {found.data?.length === 0 && <NoTasks show={show} />}
          {found.data && found.data.length > 0 && (
            <ul className="divide-y divide-line overflow-hidden rounded-xl border border-line bg-surface">
              {found.data.map((task) => (
                <li key={task.id}>
                  <TaskItem task={task} isOpen={task.id === taskId} show={show} />
                </li>
              ))}
            </ul>
          )}
          {found.data?.length === listLength && (
            <p className="mt-3 text-sm text-muted">{words.latestShown(listLength)}</p>
          )}
        </>
      }
      detail={taskId && <TaskDetail key={taskId} id={taskId} show={show} />}
      detailLabel={taskId ? words.task(taskId) : words.details}
      placeholder={words.chooseTask}
    />
  )
}

function ShowFilter({ show, taskId }: { show: Show; taskId: number | null }) {
  return (
    <ul className="mb-3 flex flex-wrap gap-2">
      {shows.map((name) => (
        <li key={name}>
          <Link
            to={{ name: 'tasks', task: taskId, show: name }}
            aria-current={name === show ? 'true' : undefined}
            className="inline-flex min-h-9 items-center rounded-full border border-line px-3 text-sm text-muted hover:bg-sunken aria-[current]:border-ink aria-[current]:bg-ink aria-[current]:text-canvas"
          >
            {words.show[name]}
          </Link>
        </li>
      ))}
    </ul>
  )
}

function NoTasks({ show }: { show: Show }) {
  return (
    <div className="mt-[10dvh] grid justify-items-center gap-4 text-center">
      <p>{show === 'all' ? words.noTasks : words.noTasksShown}</p>
      <Link
        to={show === 'all' ? { name: 'new-task' } : { name: 'tasks', task: null, show: 'all' }}
        className="text-accent underline underline-offset-4"
      >
        {show === 'all' ? words.newTask : words.showAll}
      </Link>
    </div>
  )
}

function TaskItem({ task, isOpen, show }: { task: TaskRow; isOpen: boolean; show: Show }) {
  return (
    <Link
      to={{ name: 'tasks', task: task.id, show }}
      aria-current={isOpen ? 'true' : undefined}
      className="grid gap-0.5 px-4 py-2.5 hover:bg-sunken aria-[current]:bg-sunken -outline-offset-2!"
    >
      <span className="flex flex-wrap justify-between gap-x-4">
        <span>
          <span className="mr-1 text-muted">#{task.id}</span>{' '}
          <span className="font-medium">{task.agent}</span>
        </span>
        <StatusWord status={task.status} />
      </span>
      <span className="flex flex-wrap gap-x-4 text-sm text-muted">
        <span>
          {words.age} <Age since={task.created_at} />
        </span>
        <span>{words.lane(task.lane)}</span>
        <span>{usd(task.spent_usd)}</span>
        {task.failure_class && <span className="text-alarm">{task.failure_class}</span>}
      </span>
    </Link>
  )
}
