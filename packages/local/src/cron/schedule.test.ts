import fc from 'fast-check'
import postgres from 'postgres'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { freshDatabase, type TestDatabase } from '../testing.ts'
import { type Calendar, dueRuns, matches, minuteMilliseconds, type Schedule } from './schedule.ts'

let database: TestDatabase
let sql: postgres.Sql

beforeAll(async () => {
  database = await freshDatabase({ template: 'supabase' })
  sql = postgres(database.url, { max: 1 })
})

afterAll(async () => {
  await sql.end()
  await database.drop()
})

async function parse(text: string): Promise<Schedule | null> {
  const [row] = await sql<{ schedule: Schedule | null }[]>`
    select cron._parse_schedule(${text}) as schedule`
  return row?.schedule ?? null
}

async function calendar(text: string): Promise<Calendar> {
  const schedule = await parse(text)
  if (!schedule || !('minutes' in schedule)) throw new Error(`"${text}" is no calendar`)
  return schedule
}

const dayMilliseconds = 86_400_000
const at = (text: string): number => Date.parse(`${text}Z`)

describe('reading schedules', () => {
  test.each([
    '* * * * *',
    '*/5 0-6,22,23 1-31/2 jan-mar,DEC mon-fri',
    '0 0 $ * *',
    '0 0 * * 7',
    '@daily',
    '@reboot',
    '1 second',
    '59 SECONDS',
    '  5   seconds ',
    // Read as "each minute": what follows five fields is ignored.
    '* * * * * *',
    '* * * * * and more',
    '5;junk * * * *',
  ])('"%s" is a schedule', async (text) => {
    expect(await parse(text)).not.toBeNull()
  })

  test.each([
    '',
    '* * * *',
    '60 * * * *',
    '* 24 * * *',
    '* * 0 * *',
    '* * 32 * *',
    '* * * 13 *',
    '* * * * 8',
    '1/5 * * * *',
    '*/0 * * * *',
    '*/60 * * * *',
    '1, * * * *',
    '1- * * * *',
    '* * * sunday *',
    '* * $1 * *',
    '* * * $ *',
    '@sometimes',
    '0 seconds',
    '60 seconds',
    '-5 seconds',
    '5 secondss',
    '1.5 seconds',
  ])('"%s" is none', async (text) => {
    expect(await parse(text)).toBeNull()
  })

  test('a range that runs backwards follows the bytes of the bitmap', async () => {
    expect(await calendar('0 22-6 * * *')).toMatchObject({ hours: [0, 1, 2, 3, 4, 5, 6, 22, 23] })
    expect(await calendar('0 22-10 * * *')).toMatchObject({ hours: [8, 9, 10, 22, 23] })
    expect(await calendar('0 5-3 * * *')).toMatchObject({ hours: [] })
    expect(await calendar('0 22-6/2 * * *')).toMatchObject({ hours: [] })
  })

  test('"$" is the last day of any month', async () => {
    const schedule = await calendar('0 12 $ * *')
    const days = [
      '2027-02-28',
      '2028-02-28',
      '2028-02-29',
      '2027-04-30',
      '2027-12-31',
      '2027-12-30',
    ]
    expect(days.filter((day) => matches(schedule, at(`${day}T12:00`)))).toEqual([
      '2027-02-28',
      '2028-02-29',
      '2027-04-30',
      '2027-12-31',
    ])
  })

  test('@yearly never runs, as in the extension', async () => {
    const schedule = await calendar('@yearly')
    expect(matches(schedule, at('2027-01-01T00:00'))).toBe(false)
  })
})

describe('against a walk through the minutes', () => {
  interface Item {
    text: string
    /** Says it value by value, knowing nothing of lists or steps. */
    holds(value: number): boolean
  }

  function item(low: number, high: number, names: string[]): fc.Arbitrary<Item> {
    const value = fc.integer({ min: low, max: high })
    const step = fc.integer({ min: 1, max: high })
    const name = (number: number): string => names[number - low] ?? String(number)
    const range = fc
      .tuple(value, value)
      .map(([a, b]) => ({ from: Math.min(a, b), to: Math.max(a, b) }))
    return fc.oneof(
      fc.constant({ text: '*', holds: () => true }),
      step.map((by) => ({ text: `*/${by}`, holds: (at: number) => (at - low) % by === 0 })),
      value.map((only) => ({ text: name(only), holds: (at: number) => at === only })),
      range.map(({ from, to }) => ({
        text: `${name(from)}-${name(to)}`,
        holds: (at: number) => from <= at && at <= to,
      })),
      fc.tuple(range, step).map(([{ from, to }, by]) => ({
        text: `${from}-${to}/${by}`,
        holds: (at: number) => from <= at && at <= to && (at - from) % by === 0,
      })),
    )
  }

  function field(low: number, high: number, names: string[] = []): fc.Arbitrary<Item> {
    return fc.array(item(low, high, names), { minLength: 1, maxLength: 3 }).map((items) => ({
      text: items.map((one) => one.text).join(','),
      holds: (value) => items.some((one) => one.holds(value)),
    }))
  }

  const months = [
    'jan',
    'Feb',
    'MAR',
    'apr',
    'may',
    'jun',
    'jul',
    'aug',
    'sep',
    'oct',
    'nov',
    'dec',
  ]
  const weekdays = ['sun', 'Mon', 'TUE', 'wed', 'thu', 'fri', 'sat', '7']
  const fields = fc.record({
    minute: field(0, 59),
    hour: field(0, 23),
    day: field(1, 31),
    month: field(1, 12, months),
    weekday: field(0, 7, weekdays),
  })
  type Fields = typeof fields extends fc.Arbitrary<infer Value> ? Value : never

  function expected({ minute, hour, day, month, weekday }: Fields, time: number): boolean {
    const date = new Date(time)
    const isDay = day.holds(date.getUTCDate())
    const dayOfWeek = date.getUTCDay()
    const isWeekday = weekday.holds(dayOfWeek) || (dayOfWeek === 0 && weekday.holds(7))
    const isEither = !day.text.startsWith('*') && !weekday.text.startsWith('*')
    return (
      minute.holds(date.getUTCMinutes()) &&
      hour.holds(date.getUTCHours()) &&
      month.holds(date.getUTCMonth() + 1) &&
      (isEither ? isDay || isWeekday : isDay && isWeekday)
    )
  }

  test('the same minutes match', async () => {
    const firstDay = fc.integer({ min: 20_000, max: 22_000 })
    await fc.assert(
      fc.asyncProperty(fields, firstDay, async (given, start) => {
        const { minute, hour, day, month, weekday } = given
        const schedule = await calendar(
          [minute, hour, day, month, weekday].map((one) => one.text).join(' '),
        )
        // Each minute of one day, then each day of two years at a minute that is named.
        const times = Array.from({ length: 1440 }, (_, at) => start * dayMilliseconds + at * 60_000)
        const named = (schedule.hours[0] ?? 0) * 60 + (schedule.minutes[0] ?? 0)
        for (let next = 0; next < 731; next += 1) {
          times.push((start + next) * dayMilliseconds + named * 60_000)
        }
        expect(times.filter((time) => matches(schedule, time))).toEqual(
          times.filter((time) => expected(given, time)),
        )
      }),
      { numRuns: 150 },
    )
  })
})

describe('when the clock jumps', () => {
  const noon = at('2027-03-01T12:00')
  const later = (minutes: number): number => noon + minutes * minuteMilliseconds

  test.each([
    ['* * * * *', 0, 0],
    ['* * * * *', 1, 1],
    ['* * * * *', 5, 5],
    ['* * * * *', 6, 1],
    ['* * * * *', -90, 0],
    ['30 12 * * *', 29, 0],
    ['30 12 * * *', 60, 1],
    ['30 12 * * *', 180, 1],
    ['30 12 * * *', 181, 0],
    ['1 15 * * *', 181, 1],
  ])('"%s" is due after %i minutes %i times', async (text, minutes, times) => {
    expect(dueRuns(await calendar(text), noon, later(minutes) + 59_000)).toBe(times)
  })
})
