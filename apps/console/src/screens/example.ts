/** A value to start from for a JSON Schema: every known property, empty. */
export function example(schema: unknown): unknown {
  const { type, properties, items, enum: choices, ...rest } = fields(schema)
  if ('const' in rest) return rest.const
  if ('default' in rest) return rest.default
  if (Array.isArray(choices)) return choices[0]
  if (type === 'string') return ''
  if (type === 'number' || type === 'integer') return 0
  if (type === 'boolean') return false
  if (type === 'null') return null
  if (type === 'array') return items ? [example(items)] : []
  return Object.fromEntries(
    Object.entries(fields(properties)).map(([name, value]) => [name, example(value)]),
  )
}

function fields(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? { ...value } : {}
}
