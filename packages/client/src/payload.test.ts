import { expect, test } from 'vitest'
import { payloadProblem, requestProblem } from './payload.ts'

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
  ['a bigint', { a: 1n }, 'NS001'],
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

test('every field of a request is looked at, beside the room that the input may take', () => {
  const request = (more: object): unknown => ({ tasks: [{ input: nested(64), ...more }] })
  expect(requestProblem(request({}))).toBeNull()
  expect(requestProblem(request({ subject: '\u0000' }))).toMatchObject({ code: 'NS001' })
  expect(requestProblem(request({ other: nested(65) }))).toMatchObject({ code: 'NS023' })
})
