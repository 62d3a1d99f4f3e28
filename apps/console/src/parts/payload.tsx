import { type ReactNode, useState } from 'react'
import { count, visible } from '../format.ts'
import { words } from '../words/words.ts'

/** What is shown at once of a long text; more would make the page slow. */
const firstPart = 65_536

/** A fold whose content is made only when someone opens it. */
export function Fold({ label, children }: { label: ReactNode; children: () => ReactNode }) {
  const [open, setOpen] = useState(false)
  return (
    <details className="open:w-full" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary className="inline-flex min-h-8 items-center rounded text-sm text-muted underline decoration-line underline-offset-4 hover:text-ink">
        {label}
      </summary>
      {open && children()}
    </details>
  )
}

/** A JSON value behind a fold; nothing where there is no value. */
export function Payload({ label, value }: { label: string; value: unknown }) {
  if (value === null || value === undefined) return null
  return <Fold label={label}>{() => <Json value={value} />}</Fold>
}

/** A JSON value as text, never as markup. */
export function Json({ value }: { value: unknown }) {
  const [whole, setWhole] = useState(false)
  const text = JSON.stringify(value, null, 2) ?? ''
  const rest = text.length - firstPart
  return (
    <div className="mt-1 mb-2 rounded-lg bg-sunken p-3">
      <pre className="font-mono text-xs leading-5 whitespace-pre-wrap">
        {visible(whole ? text : text.slice(0, firstPart))}
      </pre>
      {rest > 0 && !whole && (
        <button type="button" className="mt-2 min-h-8 underline" onClick={() => setWhole(true)}>
          {words.moreCharacters(count(rest))}
        </button>
      )}
    </div>
  )
}
