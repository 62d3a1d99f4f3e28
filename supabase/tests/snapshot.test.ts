import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { readSnapshot, snapshotFile } from '../../scripts/snapshot.ts'
import { openShop } from './actors.ts'

test('schema.snapshot shows the schema as the migrations make it', async () => {
  const shop = await openShop()
  const committed = readFileSync(snapshotFile, 'utf8')
  const hint =
    'schema.snapshot has drifted; look at the difference, then: node scripts/snapshot.ts --write'
  expect(await readSnapshot(shop.database.url), hint).toBe(committed)
  await shop.owner`alter table nightshift.tools add column sneaky int`
  await shop.owner`grant execute on function nightshift.sweep() to public`
  const changed = await readSnapshot(shop.database.url)
  expect(changed).toContain('column sneaky integer')
  expect(changed).toContain('grant execute to PUBLIC')
  await shop.close()
})
