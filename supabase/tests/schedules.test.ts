import { Cron } from 'croner'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openShop, refusal, type Shop } from './actors.ts'
import { jumpsOf, type Schedule, schedules, slotsByRule, zones } from './schedules.ts'

let shop: Shop
beforeAll(async () => {
  shop = await openShop()
})
afterAll(() => shop.close())

interface Case {
  schedule: string
  zone: string
  from: number
}

/** Up to `count` slots after each start, as Postgres computes them. */
async function slotsOf(cases: Case[], count: number): Promise<number[][]> {
  const rows = await shop.owner<{ place: number; slots: Date[] }[]>`
    select place, slots.found as slots
    from jsonb_array_elements(${shop.owner.json(cases as never)}) with ordinality as c(v, place)
    cross join lateral (
      with recursive walk (slot, place) as (
        select nightshift_private.next_slot(v ->> 'schedule', v ->> 'zone', to_timestamp((v ->> 'from')::numeric / 1000)), 1
        union all
        select nightshift_private.next_slot(v ->> 'schedule', v ->> 'zone', slot), place + 1 from walk where place < ${count} and slot is not null
      ) select array_agg(slot order by place) as found from walk where slot is not null) slots
    order by c.place`
  return rows.map((row) => (row.slots ?? []).map(Number))
}

const iso = (slots: number[]): string[] => slots.map((slot) => new Date(slot).toISOString())
const year = { from: Date.UTC(2026, 11, 1), to: Date.UTC(2027, 11, 1) }

describe('next_slot', () => {
  const fixed: [name: string, schedule: string, zone: string, from: string, slots: string[]][] = [
    [
      'a time the spring day leaves out runs at the instant it would have been',
      '30 2 * * *',
      'Europe/Berlin',
      '2027-03-27T12:00Z',
      ['2027-03-28T01:30', '2027-03-29T00:30'],
    ],
    [
      'asked within the hour after the jump, the left-out time is still to come',
      '30 2 * * *',
      'Europe/Berlin',
      '2027-03-28T01:10Z',
      ['2027-03-28T01:30', '2027-03-29T00:30'],
    ],
    [
      'a time the autumn day has twice runs once, the first time',
      '30 2 * * *',
      'Europe/Berlin',
      '2026-10-24T12:00Z',
      ['2026-10-25T00:30', '2026-10-26T01:30'],
    ],
    [
      'an hourly schedule keeps real hours over the doubled hour',
      '30 * * * *',
      'Europe/Berlin',
      '2026-10-24T23:45Z',
      ['2026-10-25T00:30', '2026-10-25T01:30', '2026-10-25T02:30'],
    ],
    [
      'a half-hour jump shifts by half an hour',
      '15,35 2 * * *',
      'Australia/Lord_Howe',
      '2026-10-03T13:00Z',
      ['2026-10-03T15:35', '2026-10-03T15:45', '2026-10-04T15:15'],
    ],
    [
      'midnight may be the hour that is left out',
      '0 0 * * *',
      'America/Havana',
      '2027-03-13T12:00Z',
      ['2027-03-14T05:00', '2027-03-15T04:00'],
    ],
    [
      'the last day of a month',
      '0 0 L feb,apr *',
      'UTC',
      '2027-03-01T00:00Z',
      ['2027-04-30T00:00', '2028-02-29T00:00'],
    ],
    [
      '29 February is up to 8 years away',
      '0 0 29 2 *',
      'UTC',
      '2096-03-01T00:00Z',
      ['2104-02-29T00:00'],
    ],
    [
      'day and weekday: either is enough',
      '0 0 13 * fri',
      'UTC',
      '2027-08-07T00:00Z',
      ['2027-08-13T00:00', '2027-08-20T00:00'],
    ],
    ['Sunday is 0 and 7', '0 0 * * 7', 'UTC', '2027-01-01T00:00Z', ['2027-01-03T00:00']],
    [
      'seconds in front',
      '*/40 0 0 * * *',
      'UTC',
      '2027-01-01T00:00:00.5Z',
      ['2027-01-01T00:00:40', '2027-01-02T00:00:00'],
    ],
  ]
  test.each(fixed)('%s', async (_name, schedule, zone, from, expected) => {
    const [slots = []] = await slotsOf(
      [{ schedule, zone, from: Date.parse(from) }],
      expected.length,
    )
    expect(iso(slots)).toEqual(iso(expected.map((text) => Date.parse(`${text}Z`))))
  })

  test('no slot where there is none', async () => {
    expect(await slotsOf([{ schedule: '0 0 30 2 *', zone: 'UTC', from: year.from }], 1)).toEqual([
      [],
    ])
  })

  test('is the rule on and around every jump of the clock', async () => {
    const jumps = zones.flatMap((zone) =>
      jumpsOf(zone, year.from, year.to).map((at) => ({ zone, at })),
    )
    expect(jumps.length).toBeGreaterThanOrEqual(12)
    const drawn = fc.sample(
      fc.record({
        schedule: schedules,
        jump: fc.constantFrom(...jumps),
        before: fc.integer({ min: -2 * 3600, max: 30 * 3600 }),
      }),
      { seed: 7, numRuns: 300 },
    )
    const cases = drawn.map(({ schedule, jump, before }) => ({
      schedule: schedule.text,
      zone: jump.zone,
      from: jump.at - before * 1000,
    }))
    const found = await slotsOf(cases, 12)
    drawn.forEach(({ schedule, jump }, index) => {
      const [from, slots] = [cases[index]?.from ?? 0, found[index] ?? []]
      const to = Math.min(slots[11] ?? Number.POSITIVE_INFINITY, jump.at + 60 * 3_600_000)
      const rule = slotsByRule(schedule, jump.zone, { from: from + 1, to })
      expect(
        iso(slots.filter((slot) => slot < to)),
        `${schedule.text} ${jump.zone} ${new Date(from).toISOString()}`,
      ).toEqual(iso(rule))
    })
  })

  test('agrees with croner all year, but for restricted hours within a day of a jump', async () => {
    const drawn = fc.sample(
      fc.record({
        schedule: schedules,
        zone: fc.constantFrom(...zones),
        from: fc.integer({ min: year.from / 1000, max: year.to / 1000 }),
      }),
      { seed: 11, numRuns: 300 },
    )
    const found = await slotsOf(
      drawn.map(({ schedule, zone, from }) => ({
        schedule: schedule.text,
        zone,
        from: from * 1000,
      })),
      12,
    )
    let [compared, excused] = [0, 0]
    drawn.forEach(({ schedule, zone, from }, index) => {
      const ours = found[index] ?? []
      const cron = new Cron(schedule.text, { timezone: zone, paused: true })
      const theirs = cron.nextRuns(12, new Date(from * 1000)).map(Number)
      const end = Math.min(ours.at(-1) ?? 0, theirs.at(-1) ?? 0)
      const differing = [
        ...ours.filter((slot) => !theirs.includes(slot)),
        ...theirs.filter((slot) => !ours.includes(slot)),
      ].filter((slot) => slot <= end)
      compared += ours.length
      excused += differing.length
      const unexplained = differing.filter((slot) => !isExcused(schedule, zone, slot))
      expect(
        iso(unexplained),
        `${schedule.text} ${zone} ${new Date(from * 1000).toISOString()}`,
      ).toEqual([])
    })
    expect(compared).toBeGreaterThan(3000)
    expect(excused).toBeLessThan(compared / 50)
  })

  test('a year of an hourly schedule takes a fraction of a second', async () => {
    const started = performance.now()
    const [slots = []] = await slotsOf(
      [{ schedule: '0 * * * *', zone: 'Europe/Berlin', from: year.from }],
      365 * 24,
    )
    expect(slots.at(-1)).toBe(year.to)
    expect(performance.now() - started).toBeLessThan(5000)
  })
})

/**
 * Where croner follows another rule on purpose: it runs left-out times at the first instant after the
 * jump (we: where they would have been, so that they keep their distance to each other), leaves them out
 * with `*​/2` hours, and runs doubled times twice as soon as any field is a range or a step.
 */
function isExcused(schedule: Schedule, zone: string, slot: number): boolean {
  const day = 24 * 3_600_000
  return schedule.hours.length < 24 && jumpsOf(zone, slot - day, slot + day).length > 0
}

describe('a schedule that is refused', () => {
  const cases: [schedule: string, why: string][] = [
    ['* * * *', 'it needs five fields, or six with seconds in front'],
    ['', 'it needs five fields, or six with seconds in front'],
    ['60 * * * *', 'the minute cannot be "60"'],
    ['* 24 * * *', 'the hour cannot be "24"'],
    ['* * 0 * *', 'the day of the month cannot be "0"'],
    ['* * * foo *', 'the month cannot be "foo"'],
    ['* * * * 8', 'the weekday cannot be "8"'],
    ['*/0 * * * *', 'the minute cannot be "*/0"'],
    ['5/10 * * * *', 'the minute cannot be "5/10"'],
    ['10-5 * * * *', 'the minute cannot be "10-5"'],
    ['1,,2 * * * *', 'the minute cannot be "1,,2"'],
    ['* * * * fri-mon', 'the weekday cannot be "fri-mon"'],
    ['99 * * * * *', 'the second cannot be "99"'],
    ['@daily', 'it needs five fields, or six with seconds in front'],
  ]
  test.each(cases)('%j: %s', async (schedule, why) => {
    const refused = await refusal(shop.owner`select nightshift_private.parse_schedule(${schedule})`)
    expect(refused).toMatchObject({
      code: 'NS072',
      message: `Cannot read schedule "${schedule}": ${why}`,
    })
  })
})
