import { useNow } from '../clock.ts'
import { age, clock, moment, relative } from '../format.ts'

/** How old something is, counting; the exact time is its title. */
export function Age({ since }: { since: string }) {
  return (
    <time dateTime={since} title={moment(since)}>
      {age(since, useNow())}
    </time>
  )
}

/** When something happens or happened: `in 3 hours (18:00:00)`. */
export function When({ at }: { at: string }) {
  return (
    <time dateTime={at} title={moment(at)}>
      {relative(at, useNow())} ({clock(at)})
    </time>
  )
}

/** A time of day. */
export function Clock({ at }: { at: string }) {
  return (
    <time dateTime={at} title={moment(at)}>
      {clock(at)}
    </time>
  )
}
