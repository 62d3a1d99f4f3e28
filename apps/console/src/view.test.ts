import { expect, test } from 'vitest'
import { hrefOf, parseView } from './view.ts'

test.each([
  { name: 'inbox', card: null },
  { name: 'inbox', card: 12 },
  { name: 'tasks', task: null, show: 'all' },
  { name: 'tasks', task: 7, show: 'failed' },
  { name: 'new-task' },
  { name: 'audit' },
] as const)('the address of %o leads back to it', (view) => {
  const { pathname, search } = new URL(hrefOf(view), 'http://console.test')
  expect(parseView(pathname, search)).toEqual(view)
})

test.each(['/', '/nonsense', '/cards/0', '/cards/1e9', '/cards/12345678901234567890'])(
  'what nobody knows is the inbox: %s',
  (path) => {
    expect(parseView(path)).toEqual({ name: 'inbox', card: null })
  },
)
