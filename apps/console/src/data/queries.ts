import { keepPreviousData, queryOptions } from '@tanstack/react-query'
import { type Connection, need } from '../connection.ts'
import { startOfToday } from '../format.ts'
import type { Show } from '../view.ts'
import { byUrgency } from './order.ts'
import type {
  Agent,
  AuditEvent,
  Card,
  ModelCall,
  ModelCallTexts,
  Project,
  Step,
  Task,
  TaskRow,
  TreeRow,
} from './rows.ts'

/** First part of the key of everything that a change of a task can change. */
export const live = 'live'

const db = ({ supabase }: Connection) => supabase.schema('nightshift')

/** The person's projects with their role in each. */
export const projects = (connection: Connection) =>
  queryOptions({
    queryKey: ['projects', connection.userId],
    queryFn: async ({ signal }): Promise<Project[]> => {
      const found: { id: string; name: string; members: { role: string }[] }[] = need(
        await db(connection)
          .from('projects')
          .select('id,name,members!inner(role)')
          .eq('members.user_id', connection.userId)
          .order('created_at')
          .abortSignal(signal),
      )
      return found.map(({ id, name, members: [own] }) => ({ id, name, role: own?.role ?? '' }))
    },
  })

/** Open cards, the most urgent first. */
export const openCards = (connection: Connection) =>
  queryOptions({
    queryKey: [live, 'cards', 'open'],
    queryFn: async ({ signal }): Promise<Card[]> => {
      const cards: Card[] = need(
        await db(connection)
          .from('cards')
          .select('*')
          .eq('status', 'open')
          .order('deadline_at')
          .limit(200)
          .abortSignal(signal),
      )
      return cards.sort(byUrgency)
    },
  })

/** One card, or null when there is none that the person may see. */
export const card = (connection: Connection, id: number) =>
  queryOptions({
    queryKey: [live, 'cards', id],
    queryFn: async ({ signal }): Promise<Card | null> => {
      const found: Card[] = need(
        await db(connection).from('cards').select('*').eq('id', id).abortSignal(signal),
      )
      return found[0] ?? null
    },
  })

/** How many tasks were completed since midnight. */
export const finishedToday = (connection: Connection) =>
  queryOptions({
    queryKey: [live, 'finished-today'],
    queryFn: async ({ signal }): Promise<number> => {
      const { count, error, status } = await db(connection)
        .from('tasks')
        .select('id', { count: 'exact', head: true })
        .eq('status', 'completed')
        .gte('finished_at', startOfToday())
        .abortSignal(signal)
      return need({ data: count, error, status })
    },
  })

/** How many tasks the list shows. */
export const listLength = 100

/** The newest tasks of a filter. */
export const tasks = (connection: Connection, show: Show) =>
  queryOptions({
    queryKey: [live, 'tasks', show],
    placeholderData: keepPreviousData,
    queryFn: async ({ signal }): Promise<TaskRow[]> => {
      const all = db(connection)
        .from('tasks')
        .select('id,project_id,agent,status,lane,created_at,finished_at,spent_usd,failure_class')
      const filtered = {
        all: () => all,
        active: () => all.not('status', 'in', '(completed,failed,cancelled)'),
        waiting: () => all.eq('status', 'awaiting_approval'),
        failed: () => all.eq('status', 'failed'),
      }[show]()
      return need(
        await filtered.order('id', { ascending: false }).limit(listLength).abortSignal(signal),
      )
    },
  })

/** One task, or null when there is none that the person may see. */
export const task = (connection: Connection, id: number) =>
  queryOptions({
    queryKey: [live, 'task', id],
    queryFn: async ({ signal }): Promise<Task | null> => {
      const found: Task[] = need(
        await db(connection)
          .from('tasks')
          .select('*,cards(id,status)')
          .eq('id', id)
          .abortSignal(signal),
      )
      return found[0] ?? null
    },
  })

/** What a task did, in order. */
export const steps = (connection: Connection, id: number) =>
  queryOptions({
    queryKey: [live, 'steps', id],
    queryFn: async ({ signal }): Promise<Step[]> =>
      need(
        await db(connection)
          .from('steps')
          .select('seq,kind,action,input,output,error,duration_ms,created_at')
          .eq('task_id', id)
          .order('seq')
          .abortSignal(signal),
      ),
  })

/** The model calls of a task, without their texts. */
export const modelCalls = (connection: Connection, id: number) =>
  queryOptions({
    queryKey: [live, 'calls', id],
    queryFn: async ({ signal }): Promise<ModelCall[]> =>
      need(
        await db(connection)
          .from('llm_calls')
          .select(
            'id,step_seq,model,provider,latency_ms,input_tokens,output_tokens,cache_read_tokens,cache_write_tokens,cost_usd,created_at',
          )
          .eq('task_id', id)
          .order('id')
          .abortSignal(signal),
      ),
  })

/** What a model was told and said. It never changes. */
export const modelCallTexts = (connection: Connection, id: number) =>
  queryOptions({
    queryKey: ['call-texts', id],
    staleTime: Number.POSITIVE_INFINITY,
    queryFn: async ({ signal }): Promise<ModelCallTexts> =>
      need(
        await db(connection)
          .from('llm_calls')
          .select('prompt,output,error')
          .eq('id', id)
          .abortSignal(signal)
          .single(),
      ),
  })

/** A task and all below it, parents before children. */
export const taskTree = (connection: Connection, id: number) =>
  queryOptions({
    queryKey: [live, 'tree', id],
    queryFn: async ({ signal }): Promise<TreeRow[]> =>
      need(await db(connection).rpc('task_tree', { task_id: id }).abortSignal(signal)),
  })

/** Whether a practice model answered for any of these tasks. */
export const practised = (connection: Connection, taskIds: readonly number[]) =>
  queryOptions({
    queryKey: [live, 'practised', taskIds],
    placeholderData: keepPreviousData,
    enabled: taskIds.length > 0,
    queryFn: async ({ signal }): Promise<boolean> => {
      const found: unknown[] = need(
        await db(connection)
          .from('llm_calls')
          .select('id')
          .eq('provider', 'practice')
          .in('task_id', taskIds)
          .limit(1)
          .abortSignal(signal),
      )
      return found.length > 0
    },
  })

/** The latest events of all the person's projects. */
export const auditEvents = (connection: Connection) =>
  queryOptions({
    queryKey: [live, 'audit'],
    queryFn: async ({ signal }): Promise<AuditEvent[]> =>
      need(
        await db(connection)
          .from('audit_events')
          .select('id,project_id,at,actor_kind,actor,action,object_type,object_id,task_id,meta')
          .order('id', { ascending: false })
          .limit(100)
          .abortSignal(signal),
      ),
  })

/** Agents that take new tasks. */
export const agents = (connection: Connection) =>
  queryOptions({
    queryKey: ['agents'],
    queryFn: async ({ signal }): Promise<Agent[]> =>
      need(
        await db(connection)
          .from('agents')
          .select('project_id,name,description,input_schema')
          .eq('active', true)
          .order('name')
          .abortSignal(signal),
      ),
  })
