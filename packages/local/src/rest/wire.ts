import type { PostgresConnection } from '@supabase/lite/postgres'
import { arrayLiteral, parseArray } from './arrays.ts'
import type { ArrayType } from './catalog.ts'

declare global {
  interface JSON {
    /** In Node since 22, not yet in TypeScript's libraries. */
    rawJSON(text: string): object
  }
}

/** How the driver reads and writes one type. */
export interface WireType {
  to: number
  from: number[]
  serialize: (value: unknown) => string
  parse: (text: string) => unknown
}

type Parse = WireType['parse']

/** "2026-11-20 19:16:05+00" -> "2026-11-20T19:16:05+00:00", as PostgREST shows it. */
const timestamptz: Parse = (text) => text.replace(' ', 'T').replace(/([+-]\d\d)$/, '$1:00')

const float: Parse = (text) => (Number.isFinite(Number(text)) ? Number(text) : text)

/** Numbers keep all their digits in the answer, though JavaScript could not hold them. */
const digits: Parse = (text) => {
  const number = Number(text)
  if (String(number) === text) return number
  return Number.isFinite(number) ? JSON.rawJSON(text) : text
}

/** How types whose JSON form is not their text are read, by oid. */
const parsers = new Map<number, Parse>([
  [16, (text) => text === 't'],
  [20, digits],
  [21, Number],
  [23, Number],
  [26, Number],
  [114, (text) => JSON.parse(text)],
  [700, float],
  [701, float],
  [1082, (text) => text],
  [1114, (text) => text.replace(' ', 'T')],
  [1184, timestamptz],
  [1700, digits],
  [3802, (text) => JSON.parse(text)],
])

const bytea = 17

/**
 * How values travel so that they look as PostgREST sends them. Array types are told by their oids:
 * letting the driver ask for them is not safe (its question fails outside of any promise when the
 * connection goes).
 */
export function wireTypes(arrayTypes: readonly ArrayType[]): Record<string, WireType> {
  const types: Record<string, WireType> = { bytea: wireType(bytea, (text) => text) }
  for (const [oid, parse] of parsers) types[`type ${oid}`] = wireType(oid, parse)
  for (const { oid, element } of arrayTypes) {
    const parse = parsers.get(element) ?? ((text: string) => text)
    types[`type ${oid}`] = wireType(oid, (text) => parseArray(text, parse))
  }
  return types
}

function wireType(oid: number, parse: Parse): WireType {
  const isJson = oid === 114 || oid === 3802
  return { to: oid, from: [oid], serialize: isJson ? JSON.stringify : asText, parse }
}

function asText(value: unknown): string {
  return Array.isArray(value) ? arrayLiteral(value) : String(value)
}

type Statement = Awaited<ReturnType<PostgresConnection['onPostgrestAST']>>
type Schema = Awaited<ReturnType<PostgresConnection['introspect']>>

/**
 * Gives values of json and array columns the form in which they arrive intact: lite parses JSON
 * inside of strings, and the driver guesses from `true` or `[true]` a boolean.
 */
export function exactValues(statement: Statement, { columns }: Schema): Statement {
  const { values, from } = statement
  if (!values || !from) return statement
  const schema = statement.schema ?? 'public'
  const forms = columns
    .filter((column) => column.table === from && column.schema === schema)
    .flatMap((column): [string, Form][] => {
      if (column.pg_type?.startsWith('_')) return [[column.name, arrayForm]]
      return column.pg_type === 'json' || column.pg_type === 'jsonb'
        ? [[column.name, jsonForm]]
        : []
    })
  if (forms.length === 0) return statement
  const exact = Array.isArray(values)
    ? values.map((row) => formed(row, forms))
    : formed(values, forms)
  return { ...statement, values: exact }
}

type Form = (value: unknown) => unknown

/** An object that only knows its JSON form. */
const jsonForm: Form = (value) => ({ toJSON: () => value })

const arrayForm: Form = (value) => (Array.isArray(value) ? arrayLiteral(value) : value)

function formed(row: unknown, forms: [string, Form][]): object {
  const fields: Record<string, unknown> = { ...(typeof row === 'object' ? row : null) }
  for (const [name, form] of forms) {
    const value = fields[name]
    if (value !== null && value !== undefined) fields[name] = form(value)
  }
  return fields
}
