import { useMutation, useQuery } from '@tanstack/react-query'
import { useMemo, useState } from 'react'
import { useConnection } from '../connection.ts'
import { agents } from '../data/queries.ts'
import type { Agent, Project } from '../data/rows.ts'
import { Button } from '../parts/button.tsx'
import { Field, fieldLook } from '../parts/field.tsx'
import { PaneHead } from '../parts/panes.tsx'
import { ProblemNote } from '../parts/problem-note.tsx'
import { RowsSkeleton } from '../parts/rows-skeleton.tsx'
import { go } from '../view.ts'
import { words } from '../words/words.ts'
import { example } from './example.ts'

/** Hands in a task by hand. */
export function NewTaskScreen({ projects }: { projects: Project[] }) {
  const found = useQuery(agents(useConnection()))
  const own = projects.filter(({ role }) => role === 'owner' || role === 'operator')
  const choices = found.data?.filter((agent) => own.some(({ id }) => id === agent.project_id))
  return (
    <section
      tabIndex={-1}
      aria-label={words.newTask}
      data-landing=""
      className="mx-auto max-w-xl px-4 pb-8 outline-none"
    >
      <PaneHead title={words.newTask} />
      <p className="mb-4 text-muted">{words.newTaskLead}</p>
      {found.isError && (
        <ProblemNote what={words.failed.load} cause={found.error} onRetry={found.refetch} />
      )}
      {found.isPending && <RowsSkeleton rows={2} height="h-24" />}
      {choices?.length === 0 && <p>{words.noAgents}</p>}
      {choices?.[0] && <TaskForm projects={own} agents={choices} first={choices[0]} />}
    </section>
  )
}

interface TaskFormProps {
  projects: Project[]
  agents: Agent[]
  first: Agent
}

function TaskForm({ projects, agents, first }: TaskFormProps) {
  const [agent, setAgent] = useState(first)
  const [text, setText] = useState(() => exampleText(first))
  const [lane, setLane] = useState(2)
  const enqueue = useEnqueue({ agent, text, lane })
  const choose = (key: string): void => {
    const next = agents.find((each) => keyOf(each) === key)
    if (!next) return
    // What someone wrote is kept; only the untouched example follows the agent.
    if (text === exampleText(agent)) setText(exampleText(next))
    setAgent(next)
  }
  return (
    <form
      className="grid gap-5"
      onSubmit={(event) => {
        event.preventDefault()
        enqueue.mutate()
      }}
    >
      <Field label={words.agent} hint={agent.description || undefined}>
        {(ids) => (
          <select
            {...ids}
            value={keyOf(agent)}
            onChange={(event) => choose(event.target.value)}
            className={fieldLook}
          >
            {projects.map((project) => (
              <optgroup key={project.id} label={project.name}>
                {agents
                  .filter(({ project_id }) => project_id === project.id)
                  .map((each) => (
                    <option key={keyOf(each)} value={keyOf(each)}>
                      {each.name}
                    </option>
                  ))}
              </optgroup>
            ))}
          </select>
        )}
      </Field>
      <Field label={words.inputJson}>
        {(ids) => (
          <textarea
            {...ids}
            rows={10}
            spellCheck={false}
            value={text}
            onChange={(event) => setText(event.target.value)}
            className={`${fieldLook} font-mono text-sm`}
          />
        )}
      </Field>
      <Field label={words.laneLabel} hint={words.laneHint}>
        {(ids) => (
          <select
            {...ids}
            value={lane}
            onChange={(event) => setLane(Number(event.target.value))}
            className={fieldLook}
          >
            {[0, 1, 2, 3, 4, 5].map((number) => (
              <option key={number} value={number}>
                P{number}
              </option>
            ))}
          </select>
        )}
      </Field>
      {enqueue.isError && <ProblemNote what={words.failed.enqueue} cause={enqueue.error} />}
      <Button type="submit" look="primary" disabled={enqueue.isPending}>
        {words.handIn}
      </Button>
    </form>
  )
}

/** Same content, same key: pressing again after a lost answer does not make a second task. */
function useEnqueue({ agent, text, lane }: { agent: Agent; text: string; lane: number }) {
  const { nightshift } = useConnection()
  const key = useMemo(
    () => ({ content: `${keyOf(agent)} ${lane} ${text}`, value: crypto.randomUUID() }),
    [agent, lane, text],
  )
  return useMutation({
    mutationFn: () =>
      nightshift.enqueue({
        project: agent.project_id,
        agent: agent.name,
        input: parsed(text),
        lane,
        idempotency_key: `console:${key.value}`,
      }),
    onSuccess: ([task]) => task && go({ name: 'tasks', task: task.id, show: 'all' }),
  })
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause)
    throw new Error(`${words.notJson}: ${why}`)
  }
}

function exampleText(agent: Agent): string {
  return JSON.stringify(example(agent.input_schema), null, 2)
}

function keyOf(agent: Agent): string {
  return `${agent.project_id}/${agent.name}`
}
