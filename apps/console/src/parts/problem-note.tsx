import { type Problem, problemOf } from '../problem.ts'
import { words } from '../words/words.ts'
import { Button } from './button.tsx'
import { Icon } from './icon.tsx'

interface ProblemNoteProps {
  /** What did not work, in the person's words. */
  what: string
  cause: unknown
  onRetry?: (() => void) | undefined
}

/** Says what failed, why, what to do and the code to search for. */
export function ProblemNote({ what, cause, onRetry }: ProblemNoteProps) {
  const { why, hint, code } = inWords(problemOf(cause))
  return (
    <div role="alert" className="rounded-xl border border-alarm/40 bg-alarm-soft p-4 text-ink">
      <p className="flex items-start gap-2 font-semibold text-alarm">
        <Icon name="alert" />
        {what}
      </p>
      <p className="mt-1">{why}</p>
      {hint && <p className="mt-1 text-sm">{hint}</p>}
      <div className="mt-3 flex flex-wrap items-center gap-3">
        {onRetry && <Button onClick={onRetry}>{words.retry}</Button>}
        {code && <code className="font-mono text-sm">{code}</code>}
      </div>
    </div>
  )
}

function inWords(problem: Problem): Problem {
  return problem.code === 'unreachable'
    ? { ...problem, why: words.unreachable, hint: words.unreachableHint }
    : problem
}
