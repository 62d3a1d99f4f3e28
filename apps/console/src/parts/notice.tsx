import { createContext, type ReactNode, use, useMemo, useState } from 'react'
import { useAddress } from '../view.ts'
import { words } from '../words/words.ts'
import { Icon } from './icon.tsx'

const AnnounceContext = createContext<(text: string, options?: { quietly?: boolean }) => void>(
  () => {},
)

/** Says something to everyone, read aloud politely; `quietly` leaves out the visible bar. */
export const useAnnounce = () => use(AnnounceContext)

/** Shows the last notice until it is dismissed or the person goes elsewhere: nobody has to read fast. */
export function Notices({ children }: { children: ReactNode }) {
  const [spoken, setSpoken] = useState('')
  const [shown, setShown] = useState({ text: '', address: '' })
  const address = useAddress()
  const announce = useMemo(
    () =>
      (text: string, { quietly = false } = {}) => {
        setSpoken(text)
        if (!quietly) setShown({ text, address: `${location.pathname}${location.search}` })
      },
    [],
  )
  return (
    <AnnounceContext value={announce}>
      {children}
      <p aria-live="polite" className="sr-only">
        {spoken}
      </p>
      {shown.text && shown.address === address && (
        <section
          aria-label={words.notice}
          className="fixed inset-x-3 bottom-20 z-20 mx-auto flex max-w-md items-center gap-3 rounded-xl bg-ink py-1 pr-1 pl-4 text-canvas shadow-lg lg:bottom-6"
        >
          <p className="grow">{shown.text}</p>
          <button
            type="button"
            aria-label={words.dismiss}
            className="flex size-12 items-center justify-center rounded-lg"
            onClick={() => setShown({ text: '', address: '' })}
          >
            <Icon name="cross" />
          </button>
        </section>
      )}
    </AnnounceContext>
  )
}
