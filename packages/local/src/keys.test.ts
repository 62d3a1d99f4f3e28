import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createKeys, signToken, verifyToken } from './keys.ts'

let home: string

beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'supabase-keys-'))
})

afterEach(() => rmSync(home, { recursive: true }))

test('a home keeps its keys, readable by its owner only', () => {
  const keys = createKeys(join(home, 'new'))
  expect(keys.publishableKey).toMatch(/^sb_publishable_[\w-]{22}_[\w-]{8}$/)
  expect(keys.secretKey).toMatch(/^sb_secret_[\w-]{22}_[\w-]{8}$/)
  expect(createKeys(join(home, 'new'))).toEqual(keys)
  expect(statSync(join(home, 'new', 'keys.json')).mode & 0o777).toBe(0o600)
  expect(createKeys(join(home, 'other'))).not.toEqual(keys)
})

test('an incomplete file is refused by name', () => {
  writeFileSync(join(home, 'keys.json'), '{}')
  expect(() => createKeys(home)).toThrow('Cannot use keys in')
})

test('tokens verify with their secret and in their time', async () => {
  const { jwtSecret } = createKeys(home)
  const token = await signToken({ role: 'anon' }, jwtSecret, 60)
  expect(await verifyToken(token, jwtSecret)).toMatchObject({ claims: { role: 'anon' } })
  expect(await verifyToken(token, 'another secret')).toEqual({ fault: 'signature' })
  expect(await verifyToken('a.b', jwtSecret)).toEqual({ fault: 'malformed' })
  const old = await signToken({ role: 'anon' }, jwtSecret, -1)
  expect(await verifyToken(old, jwtSecret)).toEqual({ fault: 'expired' })
})
