import postgres from 'postgres'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { collect, type Harness, join, startHarness, tokenFor } from './harness.ts'

let harness: Harness
beforeAll(async () => {
  harness = await startHarness()
})
afterAll(() => harness.stop())
afterEach(() => {
  harness.faults.realtime.loss = 0
  harness.faults.realtime.delayMs = 0
})

type Received = { event: string; payload: unknown }[]

/** A member that has joined a private topic of its own, and what it hears. */
async function listener(
  version: '1.0.0' | '2.0.0' = '2.0.0',
): Promise<{ topic: string; received: Received }> {
  const [topic, user] = [`task:${crypto.randomUUID()}`, crypto.randomUUID()]
  await harness.allow(user, topic, { read: true })
  const client = await harness.client({ version, token: await tokenFor(user) })
  const channel = client.channel(topic, { config: { private: true } })
  const received = collect(channel)
  expect(await join(channel)).toBe('SUBSCRIBED')
  return { topic, received }
}

/** Broadcasts keep their order, so whatever was sent before this event has arrived or never will. */
async function untilLast(topic: string, received: Received): Promise<void> {
  await harness.sql`select realtime.send('{"id": "last"}', 'last', ${topic})`
  await expect.poll(() => received.at(-1)?.event).toBe('last')
  received.pop()
}

test.each(['1.0.0', '2.0.0'] as const)(
  'a client of protocol %s hears a committed broadcast and no rolled-back one',
  async (version) => {
    const { topic, received } = await listener(version)
    await harness.sql
      .begin(async (transaction) => {
        await transaction`select realtime.send('{"n": 1}', 'undone', ${topic})`
        throw new Error('undo')
      })
      .catch(() => {})
    await harness.sql.begin(async (transaction) => {
      await transaction`select realtime.send('{"id": "own", "n": 2}', 'first', ${topic})`
      await transaction`select realtime.send('{"n": 3}', 'second', ${topic})`
      expect(received).toEqual([])
    })
    await untilLast(topic, received)
    expect(received).toEqual([
      { event: 'first', payload: { id: 'own', n: 2 } },
      { event: 'second', payload: { id: expect.stringMatching(/^[0-9a-f-]{36}$/), n: 3 } },
    ])
  },
)

test('private and public channels of one name do not hear each other', async () => {
  const { topic, received } = await listener()
  const channel = (await harness.client()).channel(topic)
  const overheard = collect(channel)
  await join(channel)
  await harness.sql`select realtime.send('{"id": 1}', 'to all', ${topic}, false)`
  await untilLast(topic, received)
  expect(received).toEqual([])
  await expect.poll(() => overheard).toEqual([{ event: 'to all', payload: { id: 1 } }])
})

test('bytes from the database arrive as bytes, and not at all with protocol 1.0.0', async () => {
  const { topic, received } = await listener()
  await harness.sql`select realtime.send_binary('\\x00ff07', 'raw', ${topic})`
  await untilLast(topic, received)
  expect(received).toEqual([{ event: 'raw', payload: new Uint8Array([0, 255, 7]).buffer }])
  const old = await listener('1.0.0')
  await harness.sql`select realtime.send_binary('\\x00ff07', 'raw', ${old.topic})`
  await untilLast(old.topic, old.received)
  expect(old.received).toEqual([])
})

test('a burst larger than one read arrives whole and in order', async () => {
  const { topic, received } = await listener()
  await harness.sql`select realtime.send(jsonb_build_object('id', n), 'burst', ${topic})
    from generate_series(1, 1200) as n`
  await untilLast(topic, received)
  expect(received.map(({ payload }) => payload)).toEqual(
    Array.from({ length: 1200 }, (_, index) => ({ id: index + 1 })),
  )
})

test('broadcast_changes tells a row change from a trigger', async () => {
  const { topic, received } = await listener()
  await harness.sql.unsafe(`
    create table notes (id int, topic text);
    create function tell_notes() returns trigger language plpgsql security definer as $$ begin
      perform realtime.broadcast_changes(
        coalesce(new.topic, old.topic), tg_op, tg_op, tg_table_name, tg_table_schema, new, old);
      return null;
    end $$;
    create trigger tell_notes after insert or delete on notes
      for each row execute function tell_notes();`)
  await harness.sql`insert into notes values (1, ${topic})`
  await harness.sql`delete from notes`
  await untilLast(topic, received)
  const record = { id: 1, topic }
  const common = { schema: 'public', table: 'notes', id: expect.any(String) }
  expect(received).toEqual([
    { event: 'INSERT', payload: { ...common, operation: 'INSERT', record, old_record: null } },
    {
      event: 'DELETE',
      payload: { ...common, operation: 'DELETE', record: null, old_record: record },
    },
  ])
})

test('loss of 1 drops every broadcast from the database and is read at each use', async () => {
  const { topic, received } = await listener()
  let uses = 0
  const lossOfOne = {
    configurable: true,
    get: () => {
      uses += 1
      return 1
    },
  }
  Object.defineProperty(harness.faults.realtime, 'loss', lossOfOne)
  await harness.sql`select realtime.send('{}', 'lost', ${topic}) from generate_series(1, 20)`
  await expect.poll(() => uses).toBe(20)
  Object.defineProperty(harness.faults.realtime, 'loss', { value: 0, writable: true })
  await untilLast(topic, received)
  expect(received).toEqual([])
})

test('delayMs holds a broadcast back', async () => {
  const { topic, received } = await listener()
  harness.faults.realtime.delayMs = 150
  const start = performance.now()
  await harness.sql`select realtime.send('{}', 'late', ${topic})`
  await expect.poll(() => received.length).toBe(1)
  expect(performance.now() - start).toBeGreaterThanOrEqual(145)
})

test('a send without the right to insert warns, drops the message and lets the caller go on', async () => {
  const { topic, received } = await listener()
  const warnings: string[] = []
  const sql = postgres(harness.adminUrl, {
    max: 1,
    onnotice: ({ message }) => warnings.push(message ?? ''),
  })
  await sql.begin(async (transaction) => {
    await transaction`set local role anon`
    await transaction`select realtime.send('{}', 'refused', ${topic})`
    await transaction`reset role`
    await transaction`select realtime.send('[1]', 'no object', ${topic})`
  })
  await sql.end()
  await untilLast(topic, received)
  expect(received).toEqual([])
  expect(warnings).toEqual([
    expect.stringMatching(/^WarnSendingBroadcastMessage: .*row-level security/),
    expect.stringMatching(/^WarnSendingBroadcastMessage: /),
  ])
})

test('"postgres" may write policies on messages but puts nothing else into the schema', async () => {
  const rows = await harness.sql`select policyname from pg_policies
    where schemaname = 'realtime' and tablename = 'messages' order by 1`
  expect(rows.map(({ policyname }) => policyname)).toEqual(['members_read', 'members_write'])
  await expect(harness.sql`create table realtime.mine (id int)`).rejects.toThrow(
    'permission denied',
  )
  await expect(harness.sql`drop function realtime.topic()`).rejects.toThrow('must be owner')
})

test('partitions reach from yesterday to three days ahead, and old ones go', async () => {
  const sql = postgres(harness.adminUrl, { max: 1, onnotice: () => {} })
  await sql`create table realtime.messages_2020_01_01 partition of realtime.messages
    for values from ('2020-01-01') to ('2020-01-02')`
  await sql`drop table ${sql(`realtime.messages_${dayName(3)}`)}`
  await sql`select realtime.keep_partitions()`
  const rows = await sql`select inhrelid::regclass::text as name from pg_inherits
    where inhparent = 'realtime.messages'::regclass order by 1`
  await sql.end()
  expect(rows.map(({ name }) => name)).toEqual(
    [-1, 0, 1, 2, 3].map((days) => `realtime.messages_${dayName(days)}`),
  )
})

function dayName(daysFromNow: number): string {
  const day = new Date(Date.now() + daysFromNow * 24 * 3600 * 1000)
  return day.toISOString().slice(0, 10).replaceAll('-', '_')
}
