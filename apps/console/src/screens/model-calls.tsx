import { type UseQueryResult, useQuery } from '@tanstack/react-query'
import { useConnection } from '../connection.ts'
import { modelCallTexts } from '../data/queries.ts'
import type { ModelCall } from '../data/rows.ts'
import { count, span, usd } from '../format.ts'
import { Fold, Json } from '../parts/payload.tsx'
import { PracticeBadge } from '../parts/practice.tsx'
import { ProblemNote } from '../parts/problem-note.tsx'
import { RowsSkeleton } from '../parts/rows-skeleton.tsx'
import { words } from '../words/words.ts'

/** Every call of a model that a task made, with its price in time, tokens and money. */
export function ModelCalls({ found }: { found: UseQueryResult<ModelCall[]> }) {
  return (
    <section>
      <h3 className="mb-3 font-semibold">{words.modelCalls}</h3>
      {found.isError && (
        <ProblemNote what={words.failed.load} cause={found.error} onRetry={found.refetch} />
      )}
      {found.data?.length === 0 && <p className="text-muted">{words.noModelCalls}</p>}
      <ul className="grid gap-3">
        {found.data?.map((call) => (
          <li key={call.id} className="rounded-xl border border-line bg-surface p-4">
            <CallItem call={call} />
          </li>
        ))}
      </ul>
    </section>
  )
}

function CallItem({ call }: { call: ModelCall }) {
  const read = call.input_tokens + call.cache_read_tokens + call.cache_write_tokens
  return (
    <>
      <p className="flex flex-wrap items-center gap-x-3 gap-y-1">
        <span className="font-medium">{call.model}</span>
        {call.provider === 'practice' ? (
          <PracticeBadge />
        ) : (
          <span className="text-sm text-muted">{call.provider}</span>
        )}
      </p>
      <dl className="mt-1 flex flex-wrap gap-x-5 text-sm">
        <Figure name={words.latency} value={span(call.latency_ms)} />
        <Figure
          name={words.tokens}
          value={words.tokensOf(count(read), count(call.output_tokens))}
        />
        <Figure name={words.cost} value={usd(call.cost_usd)} />
      </dl>
      <Fold label={`${words.prompt} · ${words.output}`}>{() => <Texts callId={call.id} />}</Fold>
    </>
  )
}

function Figure({ name, value }: { name: string; value: string }) {
  return (
    <div className="flex gap-1.5">
      <dt className="text-muted">{name}</dt>
      <dd>{value}</dd>
    </div>
  )
}

/** Prompt and output are read only when opened: they are large, and somebody's words. */
function Texts({ callId }: { callId: number }) {
  const found = useQuery(modelCallTexts(useConnection(), callId))
  if (found.isError) {
    return <ProblemNote what={words.failed.load} cause={found.error} onRetry={found.refetch} />
  }
  if (!found.data) return <RowsSkeleton rows={1} height="h-24" />
  const { prompt, output, error } = found.data
  return (
    <div className="mt-2">
      <p className="text-sm text-muted">{words.prompt}</p>
      <Json value={prompt} />
      <p className="text-sm text-muted">{error ? words.error : words.output}</p>
      <Json value={error ?? output} />
    </div>
  )
}
