/** An error as a person reads it: why it happened, what to do, and a code to search for. */
export interface Problem {
  why: string
  hint: string | null
  code: string | null
  /** HTTP status; 0 when nothing answered. */
  status: number
}

/** What PostgREST, Auth, our client and the browser throw, in one shape. */
export function problemOf(cause: unknown): Problem {
  const status = fieldOf(cause, 'status')
  const unanswered = isUnanswered(cause)
  return {
    why: messageOf(cause),
    hint: textOf(fieldOf(cause, 'hint')),
    code: unanswered ? 'unreachable' : textOf(fieldOf(cause, 'code')),
    status: typeof status === 'number' && !unanswered ? status : 0,
  }
}

export function messageOf(cause: unknown): string {
  return textOf(fieldOf(cause, 'message')) ?? String(cause)
}

/** Browsers say "Failed to fetch", "NetworkError …" or "Load failed"; supabase-js passes it on as text. */
function isUnanswered(cause: unknown): boolean {
  return /failed to fetch|networkerror|load failed/i.test(messageOf(cause))
}

function fieldOf(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined
}

function textOf(value: unknown): string | null {
  return typeof value === 'string' && value !== '' ? value : null
}
