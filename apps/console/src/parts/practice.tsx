import { useQuery } from '@tanstack/react-query'
import { useConnection } from '../connection.ts'
import { practised } from '../data/queries.ts'
import { words } from '../words/words.ts'

/** Marks what practice models answered. */
export function PracticeBadge() {
  return (
    <abbr
      title={words.practiceHint}
      className="rounded-md border border-notice/50 bg-notice-soft px-2 py-0.5 text-xs font-semibold tracking-wide text-notice no-underline"
    >
      {words.practice}
    </abbr>
  )
}

/** The badge, if a practice model answered for any of the tasks on this screen. */
export function PracticeOf({ taskIds }: { taskIds: number[] }) {
  const { data } = useQuery(
    practised(
      useConnection(),
      [...new Set(taskIds)].sort((a, b) => a - b),
    ),
  )
  return data && taskIds.length > 0 ? <PracticeBadge /> : null
}
