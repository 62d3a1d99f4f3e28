/** What `cron._parse_schedule` returns for the three kinds of schedule. */
export type Schedule = EverySeconds | AtStart | Calendar

export interface EverySeconds {
  seconds: number
}

export interface AtStart {
  reboot: true
}

export interface Calendar {
  minutes: number[]
  hours: number[]
  days: number[]
  /** Whether the last day of a month counts as one of `days`. */
  lastDay: boolean
  months: number[]
  /** 0 is Sunday. */
  weekdays: number[]
  /** Day and weekday must both match; else either is enough. */
  bothDays: boolean
  /** Minute or hour is a star: such jobs are not caught up when the clock jumps. */
  wild: boolean
}

export const minuteMilliseconds = 60_000
const dayMilliseconds = 86_400_000

/** Whether a calendar names the minute in which `time` (milliseconds since 1970) lies, in GMT. */
export function matches(calendar: Calendar, time: number): boolean {
  const date = new Date(time)
  const isLastDay = new Date(time + dayMilliseconds).getUTCDate() === 1
  const day = calendar.days.includes(date.getUTCDate()) || (calendar.lastDay && isLastDay)
  const weekday = calendar.weekdays.includes(date.getUTCDay())
  return (
    calendar.minutes.includes(date.getUTCMinutes()) &&
    calendar.hours.includes(date.getUTCHours()) &&
    calendar.months.includes(date.getUTCMonth() + 1) &&
    (calendar.bothDays ? day && weekday : day || weekday)
  )
}

/** The start of the minute in which `time` lies. */
export function minuteOf(time: number): number {
  return time - (time % minuteMilliseconds)
}

/**
 * How many runs came due after `lastMinute` and up to `now`, by the rules of Vixie cron for clocks that
 * jump: up to 5 minutes each minute counts; up to 3 hours each missed minute counts for jobs at a fixed
 * time and only the current one for wildcard jobs; beyond, only the current minute. A clock that went
 * back is waited for.
 */
export function dueRuns(calendar: Calendar, lastMinute: number, now: number): number {
  const passed = Math.floor((now - lastMinute) / minuteMilliseconds)
  if (passed <= 0) return 0
  const catchesUp = passed <= 5 || (passed <= 180 && !calendar.wild)
  let count = 0
  for (let back = catchesUp ? passed - 1 : 0; back >= 0; back -= 1) {
    if (matches(calendar, minuteOf(now) - back * minuteMilliseconds)) count += 1
  }
  return count
}
