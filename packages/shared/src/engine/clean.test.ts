import fc from 'fast-check'
import { expect, test } from 'vitest'
import { clean } from './clean.ts'

test('NUL and lone surrogates become U+FFFD, everything else stays', () => {
  expect(clean({ 'a\u0000': ['x\u0000y', '\ud800', '🙂', 1, null, true] })).toEqual({
    'a\ufffd': ['x\ufffdy', '\ufffd', '🙂', 1, null, true],
  })
})

test('whatever JSON comes, what leaves has neither', () => {
  fc.assert(
    fc.property(fc.jsonValue({ stringUnit: 'binary' }), (value) => {
      const text = JSON.stringify(clean(value))
      expect(text).not.toMatch(/(?<!\\)(\\\\)*\\u(0000|d[89a-f])/)
    }),
  )
})
