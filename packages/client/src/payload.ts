/** Why a payload would be refused, in the words and codes of the database (`docs/errors.md`), or null. */
export function payloadProblem(
  value: unknown,
): { code: string; message: string; hint: string; status: number } | null {
  const depth = depthOf(value)
  if (depth > 64) {
    return {
      code: 'NS023',
      status: 422,
      message: 'Payload "input" is nested deeper than 64 levels',
      hint: 'Flatten it, or pass it as text.',
    }
  }
  const text = JSON.stringify(value) ?? ''
  const bytes = new TextEncoder().encode(text).length
  if (bytes > 262_144) {
    return {
      code: 'NS022',
      status: 413,
      message: `Payload "input" has ${bytes} bytes, allowed are 262144`,
      hint: 'Store large content in Storage and pass its path.',
    }
  }
  // JSON.stringify writes NUL and lone surrogates as escapes; Postgres cannot store either.
  if (/(?<!\\)(\\\\)*\\u(0000|d[89a-f][0-9a-f]{2})/.test(text)) {
    return {
      code: 'NS001',
      status: 400,
      message: 'Payload "input" contains a NUL character or half of a surrogate pair',
      hint: 'Replace it, for example by U+FFFD.',
    }
  }
  return null
}

/** Levels of nesting, counted without recursion: a value 50,000 deep must not end the program. */
function depthOf(value: unknown): number {
  let level: unknown[] = [value]
  for (let depth = 0; ; depth += 1) {
    const next = level.flatMap((item) =>
      typeof item === 'object' && item !== null ? Object.values(item) : [],
    )
    if (next.length === 0 || depth > 64) return depth
    level = next
  }
}
