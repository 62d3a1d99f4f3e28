import type { PostgresConnection } from '@supabase/lite/postgres'

declare global {
  interface JSON {
    /** In Node since 22, not yet in TypeScript's libraries. */
    rawJSON(text: string): object
  }
}

/** How values travel between JSON and Postgres so that they look as PostgREST sends them. */
export const wireTypes = {
  // "2026-11-20 19:16:05+00" -> "2026-11-20T19:16:05+00:00"
  timestamptz: text(1184, (value) => value.replace(' ', 'T').replace(/([+-]\d\d)$/, '$1:00')),
  timestamp: text(1114, (value) => value.replace(' ', 'T')),
  // Without a parser of its own the driver makes a Buffer of it.
  bytea: text(17, (value) => value),
  bigint: digits(20),
  numeric: digits(1700),
}

interface WireType {
  to: number
  from: number[]
  serialize: (value: unknown) => string
  parse: (value: string) => unknown
}

function text(oid: number, parse: (value: string) => unknown): WireType {
  return { to: oid, from: [oid], serialize: String, parse }
}

/** Numbers keep all their digits in the answer, though JavaScript could not hold them. */
function digits(oid: number): WireType {
  return text(oid, (value) => {
    const number = Number(value)
    if (String(number) === value) return number
    return Number.isFinite(number) ? JSON.rawJSON(value) : value
  })
}

type Statement = Awaited<ReturnType<PostgresConnection['onPostgrestAST']>>
type Schema = Awaited<ReturnType<PostgresConnection['introspect']>>

/**
 * Wraps the values of json and jsonb columns: lite parses JSON inside of strings, and the driver
 * takes `true` or `[1]` for a boolean or an array of numbers. A wrapper that only knows its JSON
 * form arrives intact.
 */
export function exactJson(statement: Statement, { columns }: Schema): Statement {
  const { values, from } = statement
  if (!values || !from) return statement
  const schema = statement.schema ?? 'public'
  const names = columns
    .filter((column) => column.table === from && column.schema === schema)
    .filter((column) => column.type === 'json' || column.type === 'jsonb')
    .map((column) => column.name)
  if (names.length === 0) return statement
  const exact = Array.isArray(values)
    ? values.map((row) => wrapped(row, names))
    : wrapped(values, names)
  return { ...statement, values: exact }
}

function wrapped(row: unknown, names: string[]): object {
  const fields: Record<string, unknown> = { ...(typeof row === 'object' ? row : null) }
  for (const name of names) {
    const value = fields[name]
    if (value !== null && value !== undefined) fields[name] = { toJSON: () => value }
  }
  return fields
}
