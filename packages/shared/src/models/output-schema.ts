import { isObject, type JsonObject } from './json.ts'
import type { JsonSchema } from './types.ts'

/** Keywords that hold one schema, a list of schemas, or schemas by name. */
const NESTED = new Set(['items', 'anyOf', 'allOf', 'properties', '$defs', 'definitions'])
const KEPT = new Set([
  'type',
  'enum',
  'const',
  'description',
  'title',
  'required',
  'default',
  '$ref',
  'additionalProperties',
])
const ANTHROPIC_FORMATS = new Set([
  'date-time',
  'time',
  'date',
  'duration',
  'email',
  'hostname',
  'uri',
  'ipv4',
  'ipv6',
  'uuid',
])

/**
 * The schema as Anthropic's structured output takes it. Objects are closed, `oneOf` becomes `anyOf`; limits of
 * numbers, strings and lists are refused there with a 400, so they move into the description, as the official SDK
 * does, and are named in `moved` (`amount.minimum`). The caller checks the answer against the full schema.
 */
export function anthropicSchema(schema: JsonSchema): { schema: JsonSchema; moved: string[] } {
  const moved: string[] = []
  return { schema: simplified(schema, '', moved), moved }
}

function simplified(schema: JsonSchema, path: string, moved: string[]): JsonSchema {
  const kept: JsonSchema = {}
  const limits: string[] = []
  for (const [given, value] of Object.entries(schema)) {
    const keyword = given === 'oneOf' ? 'anyOf' : given
    if (NESTED.has(keyword)) kept[keyword] = nested(keyword, value, { path, moved })
    else if (isKept(keyword, value)) kept[keyword] = value
    else if (keyword !== '$schema') {
      limits.push(`${keyword}: ${JSON.stringify(value)}`)
      moved.push(path === '' ? keyword : `${path}.${keyword}`)
    }
  }
  if (schema.type === 'object' || isObject(schema.properties)) kept.additionalProperties = false
  if (limits.length === 0) return kept
  const description = typeof schema.description === 'string' ? `${schema.description}\n\n` : ''
  return { ...kept, description: `${description}{${limits.join(', ')}}` }
}

function isKept(keyword: string, value: unknown): boolean {
  if (keyword === 'format') return typeof value === 'string' && ANTHROPIC_FORMATS.has(value)
  if (keyword === 'minItems') return value === 0 || value === 1
  return KEPT.has(keyword)
}

function nested(keyword: string, value: unknown, at: { path: string; moved: string[] }): unknown {
  const inner = (child: unknown, path: string) =>
    isObject(child) ? simplified(child, path, at.moved) : child
  if (Array.isArray(value)) return value.map((child) => inner(child, at.path))
  if (!isObject(value)) return value
  if (keyword === 'items') return inner(value, `${at.path}[]`)
  const entries = Object.entries(value).map(([name, child]): [string, unknown] => {
    return [name, inner(child, at.path === '' ? name : `${at.path}.${name}`)]
  })
  return Object.fromEntries(entries)
}

const STRICT = new Set([
  ...[
    'type',
    'enum',
    'const',
    'description',
    'title',
    '$ref',
    '$schema',
    'additionalProperties',
    'required',
    'format',
  ],
  ...[
    'pattern',
    'minimum',
    'maximum',
    'exclusiveMinimum',
    'exclusiveMaximum',
    'multipleOf',
    'minItems',
    'maxItems',
  ],
  ...['items', 'anyOf', 'properties', '$defs', 'definitions'],
])

/**
 * True if OpenAI's strict mode takes the schema as it is: every object closed with all its properties required, and
 * no keyword outside the supported ones. Otherwise the schema is sent as a hint (`strict: false`).
 */
export function isStrictSchema(schema: JsonSchema): boolean {
  if (!Object.keys(schema).every((keyword) => STRICT.has(keyword))) return false
  if ((schema.type === 'object' || isObject(schema.properties)) && !isClosed(schema)) return false
  return [...NESTED].every((keyword) => childrenOf(keyword, schema[keyword]).every(isStrictSchema))
}

function isClosed({ properties, required, additionalProperties }: JsonSchema): boolean {
  const must: unknown[] = Array.isArray(required) ? required : []
  const names = isObject(properties) ? Object.keys(properties) : []
  return additionalProperties === false && names.every((name) => must.includes(name))
}

function childrenOf(keyword: string, value: unknown): JsonObject[] {
  if (Array.isArray(value)) return value.filter(isObject)
  if (!isObject(value)) return []
  return keyword === 'items' ? [value] : Object.values(value).filter(isObject)
}
