/** Exit codes of the CLI, part of the contract. */
export const exitCode = {
  ok: 0,
  failed: 1,
  usage: 2,
  notFound: 3,
  denied: 4,
  conflict: 5,
  timeout: 6,
  waiting: 7,
  unhealthy: 8,
  /** Ctrl-C, as shells report it. */
  interrupted: 130,
} as const

/** Ends the program with a message for people and a code for programs. */
export class ExitError extends Error {
  readonly exitCode: number
  readonly hint: string | null

  constructor(message: string, options: { exitCode: number; hint?: string }) {
    super(message)
    this.name = 'ExitError'
    this.exitCode = options.exitCode
    this.hint = options.hint ?? null
  }
}

/** The exit code of an error: its own, that of its stable code, or what its HTTP status maps to. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof ExitError) return error.exitCode
  const { code, status } = readError(error)
  if (code.startsWith('setting_')) return exitCode.usage
  if (code === 'STACK_RUNNING') return exitCode.conflict
  if (status === 400 || status === 422) return exitCode.usage
  if (status === 404) return exitCode.notFound
  if (status === 401 || status === 403) return exitCode.denied
  if (status === 409) return exitCode.conflict
  return exitCode.failed
}

function readError(error: unknown): { code: string; status: number } {
  if (typeof error !== 'object' || error === null) return { code: '', status: 0 }
  return {
    code: 'code' in error ? String(error.code) : '',
    status: 'status' in error ? Number(error.status) : 0,
  }
}
