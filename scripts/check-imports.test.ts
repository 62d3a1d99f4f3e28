import { expect, test } from 'vitest'
import { allBadImports, badImports } from './check-imports.ts'

const verdict = (source: string): string[] =>
  badImports('packages/shared/src/guard/probe.ts', source)

test('imports go one way through the whole tree', () => {
  expect(allBadImports()).toEqual([])
})

test.each([
  ["import { x } from '../models/types.ts'", 'may not import'],
  ["import {\n  x,\n} from '../memory/fuse.ts'", 'may not import'],
  ["export { x } from 'node:fs'", 'may not import'],
  ["const x = await import('openai')", 'only'],
  ["import { x } from './render'", 'needs its file ending'],
])('refuses %s', (source, words) => {
  expect(verdict(source).join()).toContain(words)
})

test('allows the error class, zod and siblings', () => {
  expect(
    verdict(
      "import { z } from 'zod'\nimport { N } from '../errors.ts'\nimport { r } from './render.ts'",
    ),
  ).toEqual([])
})
