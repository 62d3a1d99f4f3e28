import { type Clock, systemClock } from './clock.ts'

/**
 * A flag that one loop waits for, after Postgres's process latch: it may be set at any time, and the
 * wait that it ends clears it, so a set between two waits is not lost.
 */
export interface Latch {
  set(): void
  /** Ends when the latch is set or, if given, after so many milliseconds. One waiter at a time. */
  wait(milliseconds?: number): Promise<void>
}

export function createLatch(clock: Clock = systemClock): Latch {
  let isSet = false
  let wake = (): void => {}
  return {
    set() {
      isSet = true
      wake()
    },
    async wait(milliseconds) {
      if (!isSet) {
        await new Promise<void>((settle) => {
          const cancel =
            milliseconds === undefined ? () => {} : clock.after(milliseconds, () => settle())
          wake = () => {
            cancel()
            settle()
          }
        })
      }
      wake = () => {}
      isSet = false
    },
  }
}
