import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Json, openShop, refusal, type Shop } from './actors.ts'
import { addMember, createTenant, enqueueOne, type Tenant } from './tenant.ts'

let shop: Shop
let tenant: Tenant
beforeAll(async () => {
  shop = await openShop()
  tenant = await createTenant(shop, { tools: { note: { description: 'Writes a note.' } } })
})
afterAll(() => shop.close())

const setAgent = async (name: string, definition: Json, user = tenant.owner): Promise<number> => {
  const [row] = await shop.asUser(
    user,
    (sql) =>
      sql`select nightshift.set_agent(${tenant.project}, ${name}, ${sql.json(definition)}) as version`,
  )
  return row?.version
}
const setTool = (name: string, definition: Json, user = tenant.owner): Promise<unknown> =>
  shop.asUser(
    user,
    (sql) => sql`select nightshift.set_tool(${tenant.project}, ${name}, ${sql.json(definition)})`,
  )

test('each change of an agent is a new version, an identical definition keeps the current one', async () => {
  expect(await setAgent('writer', { instructions: 'a', tools: ['note'] })).toBe(1)
  expect(await setAgent('writer', { instructions: 'a', tools: ['note'] })).toBe(1)
  expect(await setAgent('writer', { instructions: 'b' })).toBe(2)
  const rows = await shop.asUser(
    tenant.owner,
    (sql) => sql`select version, active from nightshift.agents where name = 'writer' order by 1`,
  )
  expect([...rows]).toEqual([
    { version: 1, active: false },
    { version: 2, active: true },
  ])
})

test('a task keeps the version it came in with', async () => {
  await setAgent('clerk', { instructions: 'one' })
  const [before] = await shop.owner`select max(version) as version from nightshift.agents
    where project_id = ${tenant.project} and name = 'clerk'`
  const id = await enqueueOne(shop, tenant)
  await setAgent('clerk', { instructions: 'two' })
  const [task] = await shop.owner`select agent_version from nightshift.tasks where id = ${id}`
  expect(task?.agent_version).toBe(before?.version)
})

test('two changes at once make two versions', async () => {
  const versions = await Promise.all(
    ['x', 'y', 'z', 'w'].map((instructions) => setAgent('busy', { instructions })),
  )
  expect(versions.sort()).toEqual([1, 2, 3, 4])
})

test.each<[string, Json, string, RegExp]>([
  ['bad', { instructions: 'x', colour: 'red' }, 'NS002', /^Unknown field "colour" in agent "bad"$/],
  ['bad', { description: 'x' }, 'NS001', /instructions is missing/],
  ['bad', { instructions: 'x', tier: 'huge' }, 'NS001', /tier must be one of/],
  [
    'bad',
    { instructions: 'x', max_attempts: 21 },
    'NS001',
    /max_attempts is 21, wanted at most 20/,
  ],
  ['bad', { instructions: 'x', tools: null }, 'NS001', /tools is null, wanted array/],
  ['bad', { instructions: 'x', tools: ['hammer'] }, 'NS027', /^Cannot find tool "hammer"/],
  ['Bad name', { instructions: 'x' }, 'NS001', /^Name "Bad name" does not match/],
  ['bad', [], 'NS001', /must be a JSON object/],
  ['bad', { instructions: 'x'.repeat(300_000) }, 'NS022', /^Payload "definition" has/],
])('agent %s with %j is refused with %s', async (name, definition, code, message) => {
  const refused = await refusal(setAgent(name, definition))
  expect(refused.code).toBe(code)
  expect(refused.message).toMatch(message)
})

test.each<[string, Json, string, RegExp]>([
  [
    'bad',
    { description: 'x', approval: 'run' },
    'NS002',
    /^Unknown field "approval" in tool "bad"$/,
  ],
  ['bad', {}, 'NS001', /description is missing/],
  ['bad', { description: 'x', risk: 'none' }, 'NS001', /risk must be one of/],
  ['bad', { description: 'x', input_schema: { $ref: 'y' } }, 'NS026', /\$ref/],
  ['no spaces', { description: 'x' }, 'NS001', /^Name "no spaces"/],
])('tool %s with %j is refused with %s', async (name, definition, code, message) => {
  const refused = await refusal(setTool(name, definition))
  expect(refused.code).toBe(code)
  expect(refused.message).toMatch(message)
})

test('approval follows from risk', async () => {
  await setTool('wire', { description: 'Sends money.', risk: 'high' })
  await setTool('look', { description: 'Looks.' })
  const rows = await shop.owner`select name, approval from nightshift.tools
    where project_id = ${tenant.project} and name in ('wire', 'look') order by name`
  expect([...rows]).toEqual([
    { name: 'look', approval: 'run' },
    { name: 'wire', approval: 'ask' },
  ])
})

test.each(['reviewer', 'auditor', 'viewer'])(
  'a %s may not define agents or tools',
  async (role) => {
    const member = await addMember(shop, tenant, role)
    expect((await refusal(setAgent('clerk', { instructions: 'x' }, member))).code).toBe('NS011')
    expect((await refusal(setTool('note', { description: 'x' }, member))).code).toBe('NS011')
  },
)

test('an operator defines agents and tools', async () => {
  const member = await addMember(shop, tenant, 'operator')
  await setTool('extra', { description: 'x' }, member)
  expect(await setAgent('helper', { instructions: 'x', tools: ['extra'] }, member)).toBe(1)
})
