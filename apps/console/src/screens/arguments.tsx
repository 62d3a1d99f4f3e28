import type { Card } from '../data/rows.ts'
import { visible } from '../format.ts'
import { words } from '../words/words.ts'

/** About what fits into one line of a phone, characters. */
const lineLength = 60

/** The arguments of a card, each in full, exactly as they will run. */
export function Arguments({ card }: { card: Card }) {
  const entries = entriesOf(card.action.args)
  return (
    <div className="rounded-lg bg-sunken p-3">
      <p className="mb-2 text-sm text-muted">
        {words.exactArguments}
        {card.action.tool && (
          <code className="ml-2 font-mono text-ink">{visible(card.action.tool)}</code>
        )}
      </p>
      {entries.length === 0 && <p>{words.noArguments}</p>}
      <dl className="grid gap-2">
        {entries.map(([name, value]) => (
          <div key={name}>
            <dt className="font-mono text-sm text-muted">{visible(name)}</dt>
            <dd dir="auto" className="whitespace-pre-wrap">
              {visible(value)}
            </dd>
          </div>
        ))}
      </dl>
    </div>
  )
}

/** Short values first: amounts and numbers are what one decides on, the letter explains them. */
function entriesOf(args: unknown): [name: string, text: string][] {
  if (args === null || args === undefined) return []
  if (typeof args !== 'object' || Array.isArray(args)) return [['', textOf(args)]]
  return Object.entries(args)
    .map(([name, value]): [string, string] => [name, textOf(value)])
    .sort(([, left], [, right]) => lines(left) - lines(right))
}

/** Strings as they are; other values as JSON, on one line where it fits. */
function textOf(value: unknown): string {
  if (typeof value === 'string') return value
  const line = JSON.stringify(value) ?? ''
  return line.length <= lineLength ? line : JSON.stringify(value, null, 2)
}

function lines(text: string): number {
  return text.split('\n').length - 1 + Math.ceil(text.length / lineLength)
}
