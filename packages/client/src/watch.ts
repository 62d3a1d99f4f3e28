import type { SupabaseClient } from '@supabase/supabase-js'

/** A task as it stands after a change; a larger `version` is newer. */
export interface Change {
  id: number
  /** Null for a group that only waits for its children. */
  agent: string | null
  status: string
  version: number
  failure_class: string | null
}

const terminal = ['completed', 'failed', 'cancelled']
const pollMs = 2_000

/**
 * Tasks of a project whenever they change. Realtime only says "look"; what is yielded was read under
 * row-level security, so a lost, doubled or reordered broadcast costs at most one polling interval.
 */
export async function* watchProject(
  supabase: SupabaseClient,
  project: string,
  signal: AbortSignal,
): AsyncGenerator<Change> {
  yield* watch(supabase, {
    topic: `nightshift:project:${project}`,
    filter: { column: 'project_id', value: project },
    signal,
    endsWhen: () => false,
  })
}

/** One task until it ends. */
export async function* watchTask(
  supabase: SupabaseClient,
  task: number,
  signal: AbortSignal = new AbortController().signal,
): AsyncGenerator<Change> {
  yield* watch(supabase, {
    topic: `nightshift:task:${task}`,
    filter: { column: 'id', value: String(task) },
    signal,
    endsWhen: (change) => terminal.includes(change.status),
  })
}

interface Watch {
  topic: string
  filter: { column: string; value: string }
  signal: AbortSignal
  endsWhen: (change: Change) => boolean
}

async function* watch(supabase: SupabaseClient, options: Watch): AsyncGenerator<Change> {
  const bell = createBell(options.signal)
  await supabase.realtime.setAuth()
  const channel = supabase
    .channel(options.topic, { config: { private: true } })
    .on('broadcast', { event: '*' }, bell.ring)
    .subscribe(bell.ring)
  const seen = new Map<number, number>()
  try {
    while (!options.signal.aborted) {
      for (const change of await read(supabase, options.filter)) {
        if (seen.get(change.id) === change.version) continue
        seen.set(change.id, change.version)
        yield change
        if (options.endsWhen(change)) return
      }
      await bell.wait(pollMs)
    }
  } finally {
    await supabase.removeChannel(channel)
  }
}

async function read(
  supabase: SupabaseClient,
  { column, value }: Watch['filter'],
): Promise<Change[]> {
  const { data } = await supabase
    .schema('nightshift')
    .from('tasks')
    .select('id,agent,status,version,failure_class')
    .eq(column, value)
    .order('id', { ascending: false })
    .limit(500)
  // A failed read is met again at the next look.
  return (data ?? []).reverse()
}

function createBell(signal: AbortSignal): { ring: () => void; wait(ms: number): Promise<void> } {
  let rung = false
  let awake: () => void = () => {}
  const ring = (): void => {
    rung = true
    awake()
  }
  signal.addEventListener('abort', ring)
  return {
    ring,
    async wait(ms) {
      if (!rung && !signal.aborted) {
        await new Promise<void>((settle) => {
          const timer = setTimeout(settle, ms)
          awake = () => {
            clearTimeout(timer)
            settle()
          }
        })
      }
      rung = false
      awake = () => {}
    },
  }
}
