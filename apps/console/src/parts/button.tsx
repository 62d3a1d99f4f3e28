import type { ButtonHTMLAttributes } from 'react'

const looks = {
  primary: 'bg-accent text-on-accent hover:opacity-90',
  calm: 'bg-calm text-on-calm hover:opacity-90',
  quiet: 'border border-line bg-surface text-ink hover:bg-sunken',
  plain: 'text-accent hover:underline',
  stern: 'border border-line bg-surface text-alarm hover:bg-alarm-soft',
}

/** Shape of everything one presses: at least 48 px high. */
export const buttonShape =
  'inline-flex min-h-12 items-center justify-center gap-2 rounded-xl px-3 font-medium wrap-normal select-none touch-manipulation motion-safe:transition-colors disabled:opacity-60 disabled:cursor-not-allowed'

interface ButtonProps extends ButtonHTMLAttributes<HTMLButtonElement> {
  look?: keyof typeof looks
}

export function Button({ look = 'quiet', className = '', ...rest }: ButtonProps) {
  return <button type="button" {...rest} className={`${buttonShape} ${looks[look]} ${className}`} />
}
