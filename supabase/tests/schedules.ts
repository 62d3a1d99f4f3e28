import fc from 'fast-check'

/** A schedule with what it means, so that nobody has to parse it to check it. */
export interface Schedule {
  text: string
  seconds: number[]
  minutes: number[]
  hours: number[]
  /** Days of the month; 32 stands for the last one. */
  days: number[]
  months: number[]
  weekdays: number[]
  /** Day and weekday are both given, so either is enough. */
  either: boolean
}

/** Zones with jumps of one hour, two and a half, some at midnight, in both hemispheres, and some without. */
export const zones = [
  'Europe/Berlin',
  'America/New_York',
  'Australia/Lord_Howe',
  'America/Havana',
  'America/Santiago',
  'Antarctica/Troll',
  'Asia/Kolkata',
  'UTC',
]

interface Field {
  text: string
  values: number[]
}

const range = (low: number, high: number, step = 1): number[] =>
  Array.from({ length: Math.floor((high - low) / step) + 1 }, (_, index) => low + index * step)

/** One cron field with the values it stands for; `names` may replace numbers. */
function field(low: number, high: number, names: string[] = []): fc.Arbitrary<Field> {
  const value = fc.integer({ min: low, max: high })
  const say = (n: number): string => names[n - low] ?? String(n)
  const item = fc.oneof(
    value.map((n) => ({ text: say(n), values: [n] })),
    fc.tuple(value, value).map(([a, b]) => {
      const [first, last] = [Math.min(a, b), Math.max(a, b)]
      return { text: `${say(first)}-${say(last)}`, values: range(first, last) }
    }),
    fc
      .tuple(value, fc.integer({ min: 2, max: Math.max(2, Math.floor(high / 2)) }))
      .map(([a, step]) => ({
        text: `${a}-${high}/${step}`,
        values: range(a, high, step),
      })),
    fc.integer({ min: 2, max: Math.max(2, Math.floor(high / 2)) }).map((step) => ({
      text: `*/${step}`,
      values: range(low, high, step),
    })),
  )
  return fc.array(item, { minLength: 1, maxLength: 3 }).map((items) => ({
    text: items.map((each) => each.text).join(','),
    values: [...new Set(items.flatMap((each) => each.values))],
  }))
}

const months = ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec']
const weekdays = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat']
const any = (low: number, high: number): fc.Arbitrary<Field> =>
  fc.constant({ text: '*', values: range(low, high) })
const lastDay: Field = { text: 'L', values: [32] }

/** Schedules of all shapes; most run every day, so that a window of a few days holds many slots. */
export const schedules: fc.Arbitrary<Schedule> = fc
  .record({
    seconds: fc.option(field(0, 59), { freq: 6 }),
    minutes: fc.oneof({ weight: 4, arbitrary: field(0, 59) }, { weight: 1, arbitrary: any(0, 59) }),
    hours: fc.oneof({ weight: 3, arbitrary: field(0, 23) }, { weight: 1, arbitrary: any(0, 23) }),
    days: fc.oneof(
      { weight: 5, arbitrary: any(1, 31) },
      { weight: 1, arbitrary: field(1, 31) },
      { weight: 1, arbitrary: fc.constant(lastDay) },
    ),
    months: fc.oneof(
      { weight: 6, arbitrary: any(1, 12) },
      { weight: 1, arbitrary: field(1, 12, months) },
    ),
    weekdays: fc.oneof(
      { weight: 5, arbitrary: any(0, 6) },
      { weight: 1, arbitrary: field(0, 6, weekdays) },
    ),
  })
  .map((parts) => {
    const seconds = parts.seconds ?? { text: '', values: [0] }
    const rest = [parts.minutes, parts.hours, parts.days, parts.months, parts.weekdays]
    return {
      text: [seconds, ...rest]
        .map((each) => each.text)
        .join(' ')
        .trim(),
      seconds: seconds.values,
      minutes: parts.minutes.values,
      hours: parts.hours.values,
      days: parts.days.values,
      months: parts.months.values,
      weekdays: parts.weekdays.values,
      either: parts.days.text !== '*' && parts.weekdays.text !== '*',
    }
  })

const quarter = 900_000
const offsets = new Map<string, Map<number, number>>()

/**
 * How far the zone's wall clock is ahead of UTC, ms; asks ICU, not Postgres. Clocks jump at full
 * quarters of an hour, so one answer serves a quarter.
 */
export function offsetAt(zone: string, instant: number): number {
  const known = offsets.get(zone) ?? new Map<number, number>()
  offsets.set(zone, known)
  const start = Math.floor(instant / quarter) * quarter
  const offset = known.get(start) ?? wallClock(zone, start) - start
  known.set(start, offset)
  return offset
}

const formats = new Map<string, Intl.DateTimeFormat>()

/** What the wall shows at an instant, as if it were UTC. */
function wallClock(zone: string, instant: number): number {
  const numbers = ['year', 'month', 'day', 'hour', 'minute', 'second'] as const
  const format =
    formats.get(zone) ??
    new Intl.DateTimeFormat('en-US', {
      timeZone: zone,
      hourCycle: 'h23',
      ...Object.fromEntries(numbers.map((name) => [name, 'numeric'])),
    })
  formats.set(zone, format)
  const part: Record<string, number> = {}
  for (const { type, value } of format.formatToParts(instant)) part[type] = Number(value)
  const { year = 0, month = 1, day = 1, hour = 0, minute = 0, second = 0 } = part
  return Date.UTC(year, month - 1, day, hour, minute, second)
}

const hour = 3_600_000

/** The instants in [from, to) at which the zone's clock jumps, to the minute. */
export function jumpsOf(zone: string, from: number, to: number): number[] {
  const jumps: number[] = []
  for (let low = from; low < to; low += 6 * hour) {
    if (offsetAt(zone, low) === offsetAt(zone, low + 6 * hour)) continue
    let [before, after] = [low, low + 6 * hour]
    while (after - before > 60_000) {
      const middle = before + Math.floor((after - before) / 120_000) * 60_000
      if (offsetAt(zone, middle) === offsetAt(zone, low)) before = middle
      else after = middle
    }
    jumps.push(after)
  }
  return jumps
}

function isDay(schedule: Schedule, wall: Date): boolean {
  const last = new Date(Date.UTC(wall.getUTCFullYear(), wall.getUTCMonth() + 1, 0)).getUTCDate()
  const day =
    schedule.days.includes(wall.getUTCDate()) ||
    (schedule.days.includes(32) && wall.getUTCDate() === last)
  const weekday = schedule.weekdays.includes(wall.getUTCDay())
  return (
    schedule.months.includes(wall.getUTCMonth() + 1) &&
    (schedule.either ? day || weekday : day && weekday)
  )
}

/** Wall-clock times (as if UTC) of one calendar day that fit. */
function* timesOf(schedule: Schedule, day: number): Generator<number> {
  if (!isDay(schedule, new Date(day))) return
  for (const h of schedule.hours)
    for (const m of schedule.minutes)
      for (const s of schedule.seconds) yield day + h * hour + m * 60_000 + s * 1000
}

/**
 * The slots in [from, to) by the letter of the rule, day by day: slow and plain. Every hour: each
 * instant at which the wall shows a fitting time; else each fitting time once, the first time it is
 * shown, or where it would have been under the offset before the jump that leaves it out.
 */
export function slotsByRule(
  schedule: Schedule,
  zone: string,
  span: { from: number; to: number },
): number[] {
  const found = new Set<number>()
  const day = 24 * hour
  const everyHour = schedule.hours.length === 24
  for (let d = Math.floor(span.from / day) * day - 2 * day; d < span.to + 2 * day; d += day) {
    for (const time of timesOf(schedule, d)) {
      if (time < span.from - 2 * day || time > span.to + 2 * day) continue
      const near = [...new Set([time - day, time + day].map((at) => offsetAt(zone, at)))]
      const shown = near
        .map((offset) => time - offset)
        .filter((at) => at + offsetAt(zone, at) === time)
      const shifted = time - (near[0] ?? 0)
      const instants = everyHour ? shown : [shown.length ? Math.min(...shown) : shifted]
      for (const at of instants) if (at >= span.from && at < span.to) found.add(at)
    }
  }
  return [...found].sort((a, b) => a - b)
}
