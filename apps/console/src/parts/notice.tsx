import { createContext, type ReactNode, use, useMemo, useState } from 'react'
import { words } from '../words/words.ts'
import { Icon } from './icon.tsx'

const AnnounceContext = createContext<(text: string, options?: { quietly?: boolean }) => void>(
  () => {},
)

/** Says something to everyone, read aloud politely; `quietly` leaves out the visible bar. */
export const useAnnounce = () => use(AnnounceContext)

/** Holds the last notice; it stays until dismissed, so that nobody has to read fast. */
export function Notices({ children }: { children: ReactNode }) {
  const [spoken, setSpoken] = useState('')
  const [shown, setShown] = useState('')
  const announce = useMemo(
    () =>
      (text: string, { quietly = false } = {}) => {
        setSpoken(text)
        if (!quietly) setShown(text)
      },
    [],
  )
  return (
    <AnnounceContext value={announce}>
      {children}
      <p aria-live="polite" className="sr-only">
        {spoken}
      </p>
      {shown && (
        <div className="fixed inset-x-3 bottom-20 z-20 mx-auto flex max-w-md items-center gap-3 rounded-xl bg-ink py-1 pr-1 pl-4 text-canvas shadow-lg lg:bottom-6">
          <p className="grow">{shown}</p>
          <button
            type="button"
            aria-label={words.dismiss}
            className="flex size-12 items-center justify-center rounded-lg"
            onClick={() => setShown('')}
          >
            <Icon name="cross" />
          </button>
        </div>
      )}
    </AnnounceContext>
  )
}
