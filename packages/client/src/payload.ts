/** A refusal in the words and codes of the database (`docs/errors.md`). */
export interface Problem {
  code: string
  message: string
  hint: string
  status: number
}

const inputLevels = 64
const inputBytes = 262_144
/** The input lies within a task, a list of tasks and the arguments of the call. */
const requestLevels = inputLevels + 3

/** Why the input of a task would be refused, or null. */
export function payloadProblem(value: unknown): Problem | null {
  const written = write(value, { name: 'input', levels: inputLevels })
  if ('problem' in written) return written.problem
  const bytes = new TextEncoder().encode(written.text).length
  if (bytes <= inputBytes) return null
  return {
    code: 'NS022',
    status: 413,
    message: `Payload "input" has ${bytes} bytes, allowed are ${inputBytes}`,
    hint: 'Store large content in Storage and pass its path.',
  }
}

/** Why the arguments of a call cannot be sent or stored, whichever field it is, or null. */
export function requestProblem(args: unknown): Problem | null {
  const written = write(args, { name: 'request', levels: requestLevels })
  return 'problem' in written ? written.problem : null
}

function write(
  value: unknown,
  { name, levels }: { name: string; levels: number },
): { text: string } | { problem: Problem } {
  if (isDeeper(value, levels)) {
    const message = `Payload "${name}" is nested deeper than ${levels} levels`
    const hint = 'Flatten it, or pass it as text.'
    return { problem: { code: 'NS023', status: 422, message, hint } }
  }
  const invalid = (what: string, hint: string): { problem: Problem } => ({
    problem: { code: 'NS001', status: 400, message: `Payload "${name}" ${what}`, hint },
  })
  let text: string
  try {
    text = JSON.stringify(value) ?? ''
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    return invalid(`is not JSON: ${reason}`, 'Pass texts, numbers, lists and plain objects.')
  }
  // JSON.stringify writes NUL and lone surrogates as escapes; Postgres cannot store either.
  return /(?<!\\)(\\\\)*\\u(0000|d[89a-f][0-9a-f]{2})/.test(text)
    ? invalid(
        'contains a NUL character or half of a surrogate pair',
        'Replace it, for example by U+FFFD.',
      )
    : { text }
}

/** Counts levels without recursion: a value 50,000 deep must not end the program. */
function isDeeper(value: unknown, levels: number): boolean {
  let level: unknown[] = [value]
  for (let depth = 0; depth <= levels; depth += 1) {
    level = level.flatMap((item) =>
      typeof item === 'object' && item !== null ? Object.values(item) : [],
    )
    if (level.length === 0) return false
  }
  return true
}
