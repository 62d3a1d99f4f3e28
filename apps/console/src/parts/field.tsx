import { type ReactNode, useId } from 'react'

/** Look of text fields and selects. */
export const fieldLook =
  'min-h-12 w-full rounded-xl border border-muted/60 bg-surface px-3 py-2 text-ink placeholder:text-muted'

interface FieldProps {
  label: string
  hint?: string | undefined
  /** Makes the control from the ids that tie it to its label and hint. */
  children: (ids: { id: string; 'aria-describedby': string | undefined }) => ReactNode
}

/** A label, its control, and an optional hint. */
export function Field({ label, hint, children }: FieldProps) {
  const id = useId()
  const hintId = `${id}-hint`
  return (
    <div>
      <label htmlFor={id} className="mb-1 block font-medium">
        {label}
      </label>
      {children({ id, 'aria-describedby': hint ? hintId : undefined })}
      {hint && (
        <p id={hintId} className="mt-1 text-sm text-muted">
          {hint}
        </p>
      )}
    </div>
  )
}
