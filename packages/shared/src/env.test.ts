import { expect, test } from 'vitest'
import { providerAccess, readSettings, secretKey } from './env.ts'

test('every setting has a default that works', () => {
  expect(readSettings({})).toMatchObject({
    NIGHTSHIFT_CONCURRENCY: 8,
    NIGHTSHIFT_QUEUES: ['default'],
  })
})

test('an unknown name is refused with the nearest valid one', () => {
  expect(() => readSettings({ NIGHTSHIFT_CONCURENCY: '4' })).toThrow(
    expect.objectContaining({
      code: 'setting_unknown',
      hint: 'Did you mean "NIGHTSHIFT_CONCURRENCY"?',
    }),
  )
})

test.each([
  [{ NIGHTSHIFT_CONCURRENCY: 'many' }, 'NIGHTSHIFT_CONCURRENCY'],
  [{ SUPABASE_URL: 'nowhere' }, 'SUPABASE_URL'],
  [{ SUPABASE_SECRET_KEYS: 'sb_secret_x' }, 'SUPABASE_SECRET_KEYS'],
])('a bad value names its setting: %o', (environment, name) => {
  expect(() => readSettings(environment)).toThrow(
    expect.objectContaining({ code: 'setting_invalid', message: expect.stringContaining(name) }),
  )
})

test('an empty value means the default, so that a line in .env can be blank', () => {
  expect(readSettings({ NIGHTSHIFT_POLL_SECONDS: '' }).NIGHTSHIFT_POLL_SECONDS).toBe(10)
})

test('only providers with a key can be called', () => {
  const settings = readSettings({
    ANTHROPIC_API_KEY: 'k',
    NIGHTSHIFT_PRACTICE_URL: 'http://127.0.0.1:1',
  })
  expect(Object.keys(providerAccess(settings))).toEqual(['anthropic', 'practice'])
})

test('a missing secret key is a clear error', () => {
  expect(() => secretKey(readSettings({}))).toThrow(
    expect.objectContaining({ code: 'setting_missing' }),
  )
  expect(secretKey(readSettings({ SUPABASE_SECRET_KEYS: '{"default":"sb_secret_x"}' }))).toBe(
    'sb_secret_x',
  )
})
