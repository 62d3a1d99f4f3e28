import { expect, test } from 'vitest'
import { example } from './example.ts'

test('a schema becomes a value to start from', () => {
  const schema = {
    type: 'object',
    properties: {
      from: { type: 'string' },
      lines: {
        type: 'array',
        items: { type: 'object', properties: { amount: { type: 'integer' } } },
      },
      urgent: { type: 'boolean' },
      language: { enum: ['de', 'en'] },
      version: { const: 2 },
    },
  }
  expect(example(schema)).toEqual({
    from: '',
    lines: [{ amount: 0 }],
    urgent: false,
    language: 'de',
    version: 2,
  })
})

test.each([null, undefined, true, {}])('no schema (%s) becomes an empty object', (schema) => {
  expect(example(schema)).toEqual({})
})
