import { expect, test } from 'vitest'
import { payloadProblem } from './payload.ts'

function nested(levels: number): unknown {
  let value: unknown = 1
  for (let level = 0; level < levels; level += 1) value = [value]
  return value
}

test.each([
  ['depth 50,000', nested(50_000), 'NS023'],
  ['depth 65', nested(65), 'NS023'],
  ['10 MB', 'x'.repeat(10_000_000), 'NS022'],
  ['NUL', { a: 'x\u0000' }, 'NS001'],
  ['lone surrogate', { a: '\ud800' }, 'NS001'],
])('%s is refused before it is sent', (_, value, code) => {
  expect(payloadProblem(value)).toMatchObject({
    code,
    message: expect.any(String),
    hint: expect.any(String),
  })
})

test.each([
  ['depth 64', nested(64)],
  ['emoji', '🙂'],
  ['a backslash and u0000 as text', '\\u0000'],
  ['nothing', undefined],
])('%s is fine', (_, value) => {
  expect(payloadProblem(value)).toBeNull()
})
