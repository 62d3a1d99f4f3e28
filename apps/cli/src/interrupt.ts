/**
 * Aborts at the first Ctrl-C, SIGTERM or SIGHUP, so that the program can stop in order. Call it
 * before anything is started; the second signal ends the program at once.
 */
export function interruption(): AbortSignal {
  const interrupted = new AbortController()
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
  const abort = (): void => {
    for (const signal of signals) process.off(signal, abort)
    interrupted.abort()
  }
  for (const signal of signals) process.on(signal, abort)
  return interrupted.signal
}

/** Resolves when the signal aborts, at once if it already has. */
export function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((settle) => {
    if (signal.aborted) settle()
    else signal.addEventListener('abort', () => settle(), { once: true })
  })
}
