import type { SupabaseClient } from '@supabase/supabase-js'
import { useQueryClient } from '@tanstack/react-query'
import { useEffect, useSyncExternalStore } from 'react'
import { useConnection } from '../connection.ts'
import { live } from './queries.ts'

/** Changes within this time are met with one refetch, ms. */
const gatherMs = 120
/** Pause before watching again after a watch broke, ms. */
const pauseMs = 1_000

/** Keeps everything under the key `live` fresh while tasks of the projects change. */
export function useLive(projectIds: readonly string[]): void {
  const { nightshift } = useConnection()
  const queries = useQueryClient()
  const key = projectIds.join()
  useEffect(() => {
    const leaving = new AbortController()
    const { signal } = leaving
    const refresh = gathered(() => queries.invalidateQueries({ queryKey: [live] }))
    const follow = async (project: string): Promise<void> => {
      while (!signal.aborted) {
        try {
          for await (const _ of nightshift.watchProject(project, signal)) refresh()
        } catch {
          // Watching is only how we hear early; what is shown is read again in any case.
          await pause(pauseMs)
        }
      }
    }
    for (const project of key.split(',').filter(Boolean)) void follow(project)
    return () => leaving.abort()
  }, [nightshift, queries, key])
}

/** How changes reach this page. */
export type Liveness = 'live' | 'polling' | 'offline'

export function useLiveness(): Liveness {
  const { supabase } = useConnection()
  return useSyncExternalStore(subscribe, () => liveness(supabase))
}

function liveness(supabase: SupabaseClient): Liveness {
  if (!navigator.onLine) return 'offline'
  const joined = supabase.getChannels().some(({ state }) => state === 'joined')
  return joined && supabase.realtime.isConnected() ? 'live' : 'polling'
}

/** The client announces no changes of its channels, so this looks itself. */
function subscribe(changed: () => void): () => void {
  const timer = setInterval(changed, 250)
  window.addEventListener('online', changed)
  window.addEventListener('offline', changed)
  return () => {
    clearInterval(timer)
    window.removeEventListener('online', changed)
    window.removeEventListener('offline', changed)
  }
}

/**
 * Acts once for all calls that come within `gatherMs`, and never while it still acts: under a stream
 * of changes a refetch must be allowed to end before the next begins.
 */
function gathered(act: () => Promise<void>): () => void {
  let rung = false
  let busy = false
  const work = async (): Promise<void> => {
    busy = true
    while (rung) {
      await pause(gatherMs)
      rung = false
      await act()
    }
    busy = false
  }
  return () => {
    rung = true
    if (!busy) void work()
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((settle) => setTimeout(settle, ms))
}
