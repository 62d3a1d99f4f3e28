import { type KeyboardEvent, useEffect, useEffectEvent, useState } from 'react'
import { words } from '../words/words.ts'
import { buttonShape } from './button.tsx'
import { Icon } from './icon.tsx'

/** How long a press must last, ms; styles.css fills the button in the same time. */
const holdMs = 800

interface HoldButtonProps {
  label: string
  /** Id of the text that says how to hold. */
  describedBy: string
  disabled: boolean
  onHeld: () => void
}

/** A button that acts only when it is held: with a finger, a mouse, or Enter or Space. */
export function HoldButton({ label, describedBy, disabled, onHeld }: HoldButtonProps) {
  const [holding, setHolding] = useState(false)
  const finish = useEffectEvent(() => {
    setHolding(false)
    onHeld()
  })
  useEffect(() => {
    if (!holding) return
    const timer = setTimeout(finish, holdMs)
    return () => clearTimeout(timer)
  }, [holding])
  const letGo = (): void => setHolding(false)
  const press = (event: KeyboardEvent): void => {
    if (event.key !== 'Enter' && event.key !== ' ') return
    event.preventDefault()
    if (!event.repeat) setHolding(true)
  }
  return (
    <button
      type="button"
      disabled={disabled}
      aria-describedby={describedBy}
      data-holding={holding || undefined}
      className={`${buttonShape} relative grow basis-44 touch-none overflow-hidden bg-calm text-on-calm`}
      onPointerDown={(event) => event.button === 0 && setHolding(true)}
      onPointerUp={letGo}
      onPointerLeave={letGo}
      onPointerCancel={letGo}
      onContextMenu={(event) => event.preventDefault()}
      onKeyDown={press}
      onKeyUp={letGo}
      onBlur={letGo}
    >
      <span aria-hidden="true" className="hold-fill absolute inset-0 bg-on-calm/25" />
      <span className="relative inline-flex items-center gap-2">
        <Icon name="check" />
        {holding ? words.keepHolding : label}
      </span>
    </button>
  )
}
