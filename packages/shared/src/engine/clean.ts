/**
 * Makes a value storable as jsonb: Postgres refuses NUL (22P05) and lone surrogates (22P02), and a
 * single such character from a model or tool must not cost the task. Both become U+FFFD.
 */
export function clean(value: unknown): unknown {
  if (typeof value === 'string') return value.toWellFormed().replaceAll('\u0000', '\ufffd')
  if (Array.isArray(value)) return value.map(clean)
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(
      Object.entries(value).map(([key, inner]) => [clean(key) as string, clean(inner)]),
    )
  }
  return value
}
