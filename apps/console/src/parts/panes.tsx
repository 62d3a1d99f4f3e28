import type { ReactNode } from 'react'

interface PanesProps {
  list: ReactNode
  listLabel: string
  /** What is open, or null; narrow screens show either this or the list. */
  detail: ReactNode | null
  detailLabel: string
  /** Stands where the detail will be. */
  placeholder: string
}

/** List and detail: one after the other on a phone, side by side on a desk. */
export function Panes({ list, listLabel, detail, detailLabel, placeholder }: PanesProps) {
  return (
    <div className="lg:grid lg:h-dvh lg:grid-cols-[minmax(21rem,27rem)_1fr]">
      <section
        tabIndex={-1}
        aria-label={listLabel}
        data-landing={detail ? undefined : ''}
        className={`px-4 pb-6 outline-none lg:block lg:overflow-y-auto lg:border-r lg:border-line ${detail ? 'hidden' : ''}`}
      >
        {list}
      </section>
      <section
        tabIndex={-1}
        aria-label={detailLabel}
        data-landing={detail ? '' : undefined}
        className={`px-4 pb-8 outline-none lg:block lg:overflow-y-auto lg:px-8 ${detail ? '' : 'hidden'}`}
      >
        {detail ?? (
          <p className="mx-auto mt-[30dvh] max-w-xs text-center text-muted">{placeholder}</p>
        )}
      </section>
    </div>
  )
}

/** The head of a pane: its title and what belongs beside it. */
export function PaneHead({ title, children }: { title: ReactNode; children?: ReactNode }) {
  return (
    <div className="flex min-h-14 flex-wrap items-center gap-x-3 gap-y-1 py-3 lg:pt-6">
      <h2 className="text-xl font-semibold tracking-tight">{title}</h2>
      {children}
    </div>
  )
}
