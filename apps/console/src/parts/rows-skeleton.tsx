import { words } from '../words/words.ts'

/** Grey rows of about the size of what is coming. */
export function RowsSkeleton({ rows, height }: { rows: number; height: string }) {
  return (
    <div role="status" aria-label={words.loading} className="grid gap-3">
      {Array.from({ length: rows }, (_, row) => `row ${row}`).map((key) => (
        <div key={key} className={`skeleton rounded-xl bg-sunken ${height}`} />
      ))}
    </div>
  )
}
