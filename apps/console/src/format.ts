import { words } from './words/words.ts'

const locale = words.language

const money = new Intl.NumberFormat(locale, {
  style: 'currency',
  currency: 'USD',
  maximumFractionDigits: 4,
})
const whole = new Intl.NumberFormat(locale)
const dayMs = 86_400_000

/** US dollars, with fractions of a cent where there are any. */
export function usd(amount: number): string {
  return money.format(amount)
}

export function count(amount: number): string {
  return whole.format(amount)
}

/** A length of time in its largest unit: `45 s`, `3 min`, `2 h`, `4 d`. Takes ms. */
export function span(ms: number): string {
  if (ms < 1_000) return unit(Math.max(0, Math.round(ms)), 'millisecond')
  if (ms < 10_000) return unit(Math.round(ms / 100) / 10, 'second')
  return coarse(ms)
}

/** How old something is; nothing is younger than 0 s, even where the clocks differ. */
export function age(since: string, now: number): string {
  return coarse(Math.max(0, now - Date.parse(since)))
}

/** `in 23 hours`, `5 minutes ago`. */
export function relative(at: string, now: number): string {
  const seconds = (Date.parse(at) - now) / 1_000
  const format = new Intl.RelativeTimeFormat(locale, { numeric: 'auto' })
  const size = Math.abs(seconds)
  if (size < 60) return format.format(Math.round(seconds), 'second')
  if (size < 3_600) return format.format(Math.round(seconds / 60), 'minute')
  if (size < 172_800) return format.format(Math.round(seconds / 3_600), 'hour')
  return format.format(Math.round(seconds / 86_400), 'day')
}

/** The time of day, with the date in front when it is not today. */
export function clock(at: string): string {
  const date = new Date(at)
  const sameDay = date.toDateString() === new Date().toDateString()
  return date.toLocaleString(locale, {
    ...(sameDay ? {} : { day: 'numeric', month: 'short' }),
    hour: '2-digit',
    minute: '2-digit',
    second: '2-digit',
    hourCycle: 'h23',
  })
}

/** Date and time in full. */
export function moment(at: string): string {
  return new Date(at).toLocaleString(locale, { dateStyle: 'full', timeStyle: 'long' })
}

/** Midnight of this person's day, ISO 8601. */
export function startOfToday(): string {
  const date = new Date()
  date.setHours(0, 0, 0, 0)
  return date.toISOString()
}

/** Enough of a uuid to tell two apart. */
export function short(id: string): string {
  return id.length > 13 ? `${id.slice(0, 4)}…${id.slice(-4)}` : id
}

/**
 * Text from outside with its invisible characters made visible: zero-width and direction marks could
 * otherwise let an argument look like another one.
 */
export function visible(text: string): string {
  return text.replace(
    // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this shows
    /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g,
    (character) => `⟨U+${character.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')}⟩`,
  )
}

function coarse(ms: number): string {
  if (ms < 60_000) return unit(Math.floor(ms / 1_000), 'second')
  if (ms < 3_600_000) return unit(Math.floor(ms / 60_000), 'minute')
  if (ms < dayMs) return unit(Math.floor(ms / 3_600_000), 'hour')
  return unit(Math.floor(ms / dayMs), 'day')
}

function unit(amount: number, name: string): string {
  return amount.toLocaleString(locale, { style: 'unit', unit: name, unitDisplay: 'short' })
}
