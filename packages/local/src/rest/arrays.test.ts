import { expect, test } from 'vitest'
import { arrayLiteral, parseArray } from './arrays.ts'

test.each<[string, unknown[]]>([
  ['{}', []],
  ['{1,2,NULL}', ['1', '2', null]],
  ['{"a b","",NULL,"NULL","\\"x\\\\"}', ['a b', '', null, 'NULL', '"x\\']],
  [
    '{{1,2},{3,4}}',
    [
      ['1', '2'],
      ['3', '4'],
    ],
  ],
  ['[0:1]={a,b}', ['a', 'b']],
])('reads %s', (text, items) => {
  expect(parseArray(text, (element) => element)).toEqual(items)
})

test('writes what it reads', () => {
  const items = ['a', '"q\\"', '', null, 'NULL', '{}', ['n', 'ü,']]
  expect(parseArray(arrayLiteral(items), (element) => element)).toEqual(items)
  expect(arrayLiteral([true, 1.5, { a: 1 }])).toBe('{"true","1.5","{\\"a\\":1}"}')
})
