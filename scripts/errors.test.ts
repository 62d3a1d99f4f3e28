import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { freshDatabase } from '../packages/local/src/testing.ts'
import { type ErrorRow, errorsFile, readErrors, renderErrors } from './errors.ts'

const root = join(import.meta.dirname, '..')
let rows: ErrorRow[]
beforeAll(async () => {
  const database = await freshDatabase()
  rows = await readErrors(database.url)
  await database.drop()
})

/** All files below a folder of the repository with one of the endings. */
function sources(folder: string, ending: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith(ending) && !file.includes('node_modules'))
    .map((file) => readFileSync(join(root, folder, file), 'utf8'))
}

test('docs/errors.md lists the errors of the database', () => {
  const hint = 'docs/errors.md has drifted: node scripts/errors.ts --write'
  expect(readFileSync(errorsFile, 'utf8'), hint).toBe(renderErrors(rows))
})

test('a code without advice is noticed', () => {
  const row: ErrorRow = { code: 'NS009', name: 'x', status: 400, message: 'x', hint: 'x' }
  expect(() => renderErrors([...rows, row])).toThrow('no advice for code "NS009"')
})

test('every code raised in SQL exists, and every one that exists is raised', () => {
  const sql = sources('supabase/migrations', '.sql').join('\n')
  const raised = new Set([...sql.matchAll(/fault\('(NS\d{3})'/g)].map((match) => match[1]))
  expect([...raised].sort()).toEqual(rows.map((row) => row.code))
})

test('as many places are filled in as a text has', () => {
  const sql = sources('supabase/migrations', '.sql').join('\n')
  for (const call of faults(sql)) {
    const row = rows.find((candidate) => candidate.code === call.code)
    const places = `${row?.message}${row?.hint}`.split('%s').length - 1
    expect(call.count, `${call.code} in ${call.text}`).toBe(places)
  }
})

test('TypeScript names only codes that exist', () => {
  const known = new Set(rows.map((row) => row.code))
  for (const folder of ['packages', 'apps', 'functions']) {
    const named = sources(folder, '.ts').flatMap((text) => text.match(/\bNS\d{3}\b/g) ?? [])
    expect(named.filter((code) => !known.has(code))).toEqual([])
  }
})

/** Calls of fault() with the number of their arguments after the code. */
function faults(sql: string): { code: string; count: number; text: string }[] {
  return [...sql.matchAll(/fault\('(NS\d{3})'/g)].map((match) => {
    let depth = 1
    let count = 0
    let quoted = false
    let end = match.index + 'fault('.length
    for (; depth > 0 && end < sql.length; end += 1) {
      const character = sql[end]
      if (character === "'") quoted = !quoted
      if (quoted) continue
      if (character === '(' || character === '[') depth += 1
      if (character === ')' || character === ']') depth -= 1
      if (character === ',' && depth === 1) count += 1
    }
    return { code: match[1] ?? '', count, text: sql.slice(match.index, end) }
  })
}
