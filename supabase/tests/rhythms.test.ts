import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Json, openShop, refusal, type Shop } from './actors.ts'
import {
  type Definition,
  finishTasks,
  fireAt,
  gatherRuns,
  outcomesOf,
  rhythmOf,
  runsOf,
  setRhythm,
} from './rhythm.ts'
import {
  addMember,
  createTenant,
  createUser,
  enqueueOne,
  sweep,
  type Tenant,
  taskOf,
} from './tenant.ts'

let shop: Shop
let tenant: Tenant
beforeAll(async () => {
  shop = await openShop()
})
afterAll(() => shop.close())
beforeEach(async () => {
  shop.setClock(new Date('2027-01-15T09:30:00Z'))
  tenant = await createTenant(shop)
})
afterEach(async () => {
  await shop.owner`update nightshift.rhythms set active = false, paused_reason = 'over', next_slot = null, next_at = null where active`
  await shop.owner`update nightshift.rhythm_runs set outcome = 'skipped', reason = 'over' where outcome in ('waiting', 'gathering', 'deciding')`
})

const day = '2027-01-15T'
const at = (time: string): Promise<number> => fireAt(shop, `${day}${time}Z`)
const query = (text: string): Definition => ({ gather: { kind: 'sql', query: text } })

describe('a slot', () => {
  test('becomes one task in the name of the creator', async () => {
    const id = await setRhythm(shop, tenant, {
      act: { agent: 'clerk', input: { ask: 'news' }, lane: 4, labels: ['daily'], budget_usd: 0.5 },
    })
    expect(await at('09:59:59')).toBe(0)
    expect(await at('10:00:05')).toBe(1)
    const [run] = await runsOf(shop, id)
    expect(run).toMatchObject({ outcome: 'acted', reason: null, manual: false, gathered: null })
    expect(run?.slot.toISOString()).toBe('2027-01-15T10:00:00.000Z')
    expect(await taskOf(shop, run?.task_ids[0] ?? 0)).toMatchObject({
      status: 'pending',
      input: { ask: 'news' },
      lane: 4,
      labels: ['daily'],
      budget_usd: '0.500000',
      created_by: tenant.owner,
      idempotency_key: `rhythm:${id}:2027-01-15T10:00:00.000000Z`,
    })
    expect(await rhythmOf(shop, id)).toMatchObject({
      last_slot: new Date('2027-01-15T10:00:00Z'),
      next_at: new Date('2027-01-15T11:00:00Z'),
    })
  })

  test('is taken once, whoever sweeps and however often', async () => {
    const id = await setRhythm(shop, tenant, { overlap: 'allow' })
    shop.setClock(new Date(`${day}10:00:01Z`))
    const fire = (): Promise<unknown> =>
      shop.owner.begin(async (sql) => {
        await sql`select set_config('nightshift.now', ${`${day}10:00:01Z`}, true)`
        await sql`select nightshift_private.fire_rhythms()`
      })
    await Promise.all([fire(), fire(), fire(), sweep(shop)])
    await sweep(shop)
    expect(await outcomesOf(shop, id)).toEqual(['10:00 acted'])
  })

  test('is not taken again when the clock goes back', async () => {
    const id = await setRhythm(shop, tenant, { overlap: 'allow', schedule: '*/30 * * * *' })
    await at('10:00')
    await at('10:30')
    await at('09:00')
    await shop.owner`update nightshift.rhythms set next_slot = ${`${day}10:00Z`}, next_at = ${`${day}10:00Z`} where id = ${id}`
    await at('10:30')
    expect(await outcomesOf(shop, id)).toEqual(['10:00 acted', '10:30 acted'])
  })

  test('leaves an event in the audit log, as does each change of the definition', async () => {
    const id = await setRhythm(shop, tenant)
    await at('10:00')
    await at('11:00')
    const events = await shop.owner`
      select action, actor_kind, meta ->> 'slot' as slot from nightshift.audit_events
      where project_id = ${tenant.project} and action like 'rhythm%' order by id`
    expect(events.map((event) => [event.action, event.actor_kind])).toEqual([
      ['rhythms.insert', 'person'],
      ['rhythm.acted', 'system'],
      ['rhythm.skipped', 'system'],
    ])
    await shop.asUser(tenant.owner, (sql) => sql`select nightshift.pause_rhythm(${id}, 'holidays')`)
    const [last] = await shop.owner`
      select action from nightshift.audit_events where project_id = ${tenant.project} order by id desc limit 1`
    expect(last?.action).toBe('rhythms.update')
  })

  test('whose task is refused has failed and says why; other rhythms go on', async () => {
    const broken = await setRhythm(shop, tenant, { act: { agent: 'clerk', input: { n: 1 } } })
    const sound = await setRhythm(shop, tenant)
    await shop.owner`update nightshift.rhythms set act = '{"agent": "gone"}' where id = ${broken}`
    await at('10:00')
    expect((await runsOf(shop, broken))[0]).toMatchObject({
      outcome: 'failed',
      reason: `Cannot act: Cannot find agent "gone" in project "${tenant.project}"`,
    })
    expect(await outcomesOf(shop, sound)).toEqual(['10:00 acted'])
  })

  test('does not run for somebody who has left the project', async () => {
    const operator = await addMember(shop, tenant, 'operator')
    const id = await setRhythm(shop, { ...tenant, owner: operator })
    await shop.asUser(
      tenant.owner,
      (sql) => sql`select nightshift.set_member(${tenant.project}, ${operator}, 'viewer')`,
    )
    await at('10:00')
    expect(await runsOf(shop, id)).toEqual([])
    expect(await rhythmOf(shop, id)).toMatchObject({
      active: false,
      paused_reason: expect.stringContaining('set it again to take it over'),
    })
  })
})

describe('after an outage', () => {
  const hourly: [policy: string, outcomes: string[]][] = [
    ['skip', ['10:00 missed', '11:00 missed', '12:00 missed']],
    ['once', ['10:00 missed', '11:00 missed', '12:00 acted']],
    ['all', ['10:00 acted', '11:00 acted', '12:00 acted']],
  ]
  test.each(hourly)('catch-up "%s" of three hours', async (policy, outcomes) => {
    const id = await setRhythm(shop, tenant, { catch_up: policy, overlap: 'allow' })
    await at('12:40')
    expect(await outcomesOf(shop, id)).toEqual(outcomes)
    await at('13:00:30')
    expect((await outcomesOf(shop, id)).at(-1)).toBe('13:00 acted')
  })

  test('a slot found less than a minute late is on time under every policy', async () => {
    const id = await setRhythm(shop, tenant, { catch_up: 'skip', schedule: '*/20 * * * * *' })
    await at('09:30:50')
    expect(await outcomesOf(shop, id)).toEqual(['09:30 acted', '09:30 skipped'])
  })

  test('"all" is bounded per sweep and goes on at the next one', async () => {
    const id = await setRhythm(shop, tenant, {
      catch_up: 'all',
      overlap: 'allow',
      schedule: '*/10 * * * *',
    })
    expect(await fireAt(shop, '2027-01-15T17:30:00Z')).toBe(20)
    expect(await fireAt(shop, '2027-01-15T17:30:10Z')).toBe(20)
    expect(await fireAt(shop, '2027-01-15T17:30:20Z')).toBe(8)
    const runs = await runsOf(shop, id)
    expect(runs).toHaveLength(48)
    expect(new Set(runs.map((run) => run.outcome))).toEqual(new Set(['acted']))
  })

  test('a day of missed seconds is written down in few sweeps', async () => {
    const id = await setRhythm(shop, tenant, { schedule: '*/30 * * * * *' })
    await fireAt(shop, '2027-01-16T10:30:00Z')
    await fireAt(shop, '2027-01-16T10:30:00Z')
    const runs = await runsOf(shop, id)
    expect(runs).toHaveLength(3000)
    expect(runs.slice(0, -3).every((run) => run.outcome === 'missed')).toBe(true)
    expect(runs.at(-1)?.slot.toISOString()).toBe('2027-01-16T10:30:00.000Z')
  })
})

describe('while the previous run is going', () => {
  test('"skip" skips and says so', async () => {
    const id = await setRhythm(shop, tenant, { overlap: 'skip' })
    await at('10:00')
    await at('11:00')
    await finishTasks(shop, tenant)
    await at('12:00')
    expect(await outcomesOf(shop, id)).toEqual(['10:00 acted', '11:00 skipped', '12:00 acted'])
    expect((await runsOf(shop, id))[1]?.reason).toBe('The previous run is still going')
  })

  test('"queue" lets one wait and skips the rest', async () => {
    const id = await setRhythm(shop, tenant, { overlap: 'queue' })
    for (const time of ['10:00', '11:00', '12:00']) await at(time)
    expect(await outcomesOf(shop, id)).toEqual(['10:00 acted', '11:00 waiting', '12:00 skipped'])
    await finishTasks(shop, tenant)
    await at('12:05')
    expect(await outcomesOf(shop, id)).toEqual(['10:00 acted', '11:00 acted', '12:00 skipped'])
  })

  test('"queue" with catch-up "all" gives no slot up', async () => {
    const id = await setRhythm(shop, tenant, { overlap: 'queue', catch_up: 'all' })
    await at('13:00')
    expect(await outcomesOf(shop, id)).toEqual(['10:00 acted', '11:00 waiting'])
    for (const time of ['13:01', '13:02', '13:03']) {
      await finishTasks(shop, tenant)
      await at(time)
    }
    expect(await outcomesOf(shop, id)).toEqual(
      ['10:00', '11:00', '12:00', '13:00'].map((slot) => `${slot} acted`),
    )
  })

  test('"allow" runs both', async () => {
    const id = await setRhythm(shop, tenant, { overlap: 'allow' })
    await at('10:00')
    await at('11:00')
    expect(await outcomesOf(shop, id)).toEqual(['10:00 acted', '11:00 acted'])
  })
})

describe('jitter', () => {
  test('is the same for one slot, differs between slots, and never reaches the next slot', async () => {
    const id = await setRhythm(shop, tenant, { schedule: '* * * * *', jitter_seconds: 3600 })
    const next = (): Promise<number[]> =>
      shop.asUser(tenant.owner, async (sql) => {
        const [row] = await sql<
          { times: Date[] }[]
        >`select nightshift.next_runs(${id}, 200) as times`
        return (row?.times ?? []).map(Number)
      })
    const times = await next()
    expect(await next()).toEqual(times)
    const late = times.map((time) => (time / 1000) % 60)
    expect(new Set(late).size).toBeGreaterThan(30)
    times.forEach((time, index) => {
      expect(Math.floor(time / 60_000)).toBe(Date.parse(`${day}09:31Z`) / 60_000 + index)
    })
    expect((await rhythmOf(shop, id)).next_at).toEqual(new Date(times[0] ?? 0))
  })
})

describe('gather', () => {
  test('runs a query with row security of the creator and hands the rows on', async () => {
    const other = await createTenant(shop)
    await enqueueOne(shop, other)
    const mine = await enqueueOne(shop, tenant, { input: { n: 7 } })
    const id = await setRhythm(shop, tenant, {
      ...query(`select t.id, t.input, r.slot, r.now, r.since, t.project_id = r.project_id as mine
        from nightshift.tasks t cross join rhythm r order by t.id;`),
      act: { agent: 'clerk', input: { ask: 'why' } },
    })
    await at('10:00:05')
    const [run] = await runsOf(shop, id)
    const row = {
      id: mine,
      input: { n: 7 },
      mine: true,
      slot: '2027-01-15T10:00:00+00:00',
      now: '2027-01-15T10:00:05+00:00',
      since: '2027-01-15T09:30:00+00:00',
    }
    expect(run?.gathered).toEqual({ rows: [row], count: 1, truncated: false })
    const task = await taskOf(shop, run?.task_ids[0] ?? 0)
    expect(task).toMatchObject({ input: { ask: 'why', gathered: { rows: [row], count: 1 } } })
  })

  test('runs under pg_cron as well, as postgres', async () => {
    const id = await setRhythm(
      shop,
      tenant,
      query('select count(*) as projects from nightshift.projects'),
    )
    shop.setClock(new Date(`${day}10:00:00Z`))
    await sweep(shop)
    expect(await outcomesOf(shop, id)).toEqual(['10:00 gathering'])
    const [row] = await shop.owner`
      select nightshift_private.gather_runs() as count, current_user as who, current_setting('request.jwt.claims', true) as claims`
    expect(row).toMatchObject({ count: 1, who: 'postgres' })
    expect(row?.claims ?? '').toBe('')
    expect((await runsOf(shop, id))[0]?.gathered?.rows).toEqual([{ projects: 1 }])
  })

  test('keeps at most 100 rows and 64 KB', async () => {
    const rows = await setRhythm(shop, tenant, query('select g from generate_series(1, 1000) g'))
    const bytes = await setRhythm(
      shop,
      tenant,
      query(`select repeat('x', 20000) from generate_series(1, 9)`),
    )
    const huge = await setRhythm(shop, tenant, query(`select repeat('x', 70000)`))
    await at('10:00')
    expect((await runsOf(shop, rows))[0]?.gathered).toMatchObject({ count: 100, truncated: true })
    expect((await runsOf(shop, bytes))[0]?.gathered).toMatchObject({ count: 3, truncated: true })
    expect((await runsOf(shop, huge))[0]).toMatchObject({
      outcome: 'failed',
      reason: 'Cannot gather: a row is larger than 64 KB',
    })
  })

  test('an error fails its run and no other', async () => {
    const broken = await setRhythm(
      shop,
      tenant,
      query('select 1 / (extract(year from now())::int - extract(year from now())::int)'),
    )
    const sound = await setRhythm(shop, tenant, query('select 1 as one'))
    await at('10:00')
    expect((await runsOf(shop, broken))[0]).toMatchObject({
      outcome: 'failed',
      reason: 'Cannot gather: division by zero',
    })
    expect(await outcomesOf(shop, sound)).toEqual(['10:00 acted'])
  })

  test('has no lasting effect: writing is refused, and the session is as before', async () => {
    await shop.owner`create table public.notes (text text)`
    await shop.owner`grant insert, select on public.notes to authenticated`
    await shop.owner`create function public.note() returns int language sql as $$ insert into public.notes values ('x') returning 1 $$`
    const id = await setRhythm(shop, tenant, query('select public.note()'))
    shop.setClock(new Date(`${day}10:00:00Z`))
    await sweep(shop)
    const [row] = await shop.asService(
      (sql) => sql`
        select nightshift.gather_runs(), current_user as who, current_setting('request.jwt.claims') as claims,
          current_setting('transaction_read_only') as read_only`,
    )
    expect(row).toMatchObject({
      who: 'service_role',
      claims: '{"role":"service_role"}',
      read_only: 'off',
    })
    expect((await runsOf(shop, id))[0]?.reason).toBe(
      'Cannot gather: cannot execute INSERT in a read-only transaction',
    )
    expect([...(await shop.owner`select * from public.notes`)]).toEqual([])
  })

  const hostile: [query: string, why: string][] = [
    [`select set_config('role', 'postgres', true)`, 'it must not read or change settings'],
    [`select U&"\\0073et_config"('role', 'postgres', true)`, 'it must not read or change settings'],
    [`select current_setting('app.settings.jwt_secret')`, 'it must not read or change settings'],
    [`select query_to_xml('select 1', true, true, '')`, 'it must not call pg_catalog.query_to_xml'],
    [
      `select (table_to_xml('auth.users', true, true, '')::text)::int`,
      'it must not call pg_catalog.table_to_xml',
    ],
    ['select pg_sleep(100)', 'it must not call pg_catalog.pg_sleep'],
    [`select pg_catalog.ts_stat('select 1')`, 'it must not call pg_catalog.ts_stat'],
    ['select * from auth.users', 'permission denied for table users'],
    ['select * from nightshift_private.errors', 'permission denied for table errors'],
    ['select rolname from pg_catalog.pg_roles', 'it must not read pg_catalog.pg_roles'],
    [`select net.http_get('http://127.0.0.1')`, 'it must not call net.http_get'],
    ['select headers from net.http_request_queue', 'it must not read net.http_request_queue'],
    [
      'select 1 as x) as found; reset role; select * from (select 2',
      'cannot open multi-query plan as cursor',
    ],
    ['select 1; drop table nightshift.tasks', 'syntax error at or near ";"'],
    ['delete from nightshift.tasks returning *', 'syntax error at or near "from"'],
    ['select $1', 'there is no parameter $1'],
    ['select * from tasks', 'relation "tasks" does not exist'],
  ]
  test.each(hostile)('refuses %j when it is set and when it is run', async (text, why) => {
    const refused = await refusal(setRhythm(shop, tenant, query(text)))
    expect(refused).toMatchObject({
      code: 'NS073',
      status: 422,
      message: `Cannot gather with this query: ${why}`,
    })
    const id = await setRhythm(shop, tenant, query('select 1'))
    await shop.owner`update nightshift.rhythms set gather = ${shop.owner.json({ kind: 'sql', query: text })} where id = ${id}`
    await at('10:00')
    expect((await runsOf(shop, id))[0]).toMatchObject({
      outcome: 'failed',
      reason: `Cannot gather: ${why}`,
    })
  })

  test('an endless query costs no other run its turn and is given up', async () => {
    const endless = await setRhythm(
      shop,
      tenant,
      query('with recursive x as (select 1 as n union all select n from x) select count(*) from x'),
    )
    const sound = await Promise.all(
      [1, 2, 3].map((n) => setRhythm(shop, tenant, query(`select ${n} as n`))),
    )
    const gather = (): Promise<unknown> =>
      shop
        .asService(async (sql) => {
          await sql`set local statement_timeout = '250ms'`
          await sql`select nightshift.gather_runs()`
        })
        .catch((error: unknown) => error)
    const sweepAt = (minute: string): Promise<unknown> => {
      shop.setClock(new Date(`${day}${minute}:00Z`))
      return sweep(shop)
    }
    const open = async (): Promise<number> =>
      (await shop.owner`select 1 from nightshift.rhythm_runs where outcome = 'gathering'`).length
    await sweepAt('10:00')
    // All at once, the sound ones fail with it; a minute later each goes alone.
    expect(await gather()).toMatchObject({ code: '57014' })
    expect(await open()).toBe(4)
    await sweepAt('10:01')
    for (let draw = 0.01; draw < 0.5 && (await open()) > 1; draw += 0.01) {
      shop.setDraw(draw)
      await gather()
    }
    shop.setDraw(0.99)
    for (const id of sound) expect(await outcomesOf(shop, id)).toEqual(['10:00 acted'])
    for (const minute of ['10:02', '10:03']) await sweepAt(minute)
    expect((await runsOf(shop, endless))[0]).toMatchObject({
      outcome: 'failed',
      reason: expect.stringContaining('it took too long three times'),
    })
  })

  test('a definer context cannot switch roles: runs stay open there', async () => {
    const id = await setRhythm(shop, tenant, query('select 1'))
    await shop.owner`
      create or replace function public.sweep_all() returns int language plpgsql security definer as $$
      begin return nightshift_private.gather_runs(); end $$`
    shop.setClock(new Date(`${day}10:00:00Z`))
    await sweep(shop)
    await shop.owner`select public.sweep_all()`
    expect((await runsOf(shop, id))[0]?.reason).toBe(
      'Cannot gather: cannot set parameter "role" within security-definer function',
    )
  })
})

describe('decide', () => {
  const pending = `select t.id, t.lane from nightshift.tasks t join rhythm r using (project_id) where t.status = 'pending' and t.labels = '{mail}'`
  const rules: [when: Definition, tasks: number, outcome: string, reason: string | null][] = [
    [{ min_rows: 2 }, 1, 'skipped', 'Rule not met: 1 rows, wanted at least 2'],
    [{ min_rows: 2 }, 2, 'acted', null],
    [{ path: '$.rows[*] ? (@.lane < 3)' }, 1, 'acted', null],
    [
      { path: '$.rows[*] ? (@.lane > 3)' },
      1,
      'skipped',
      'Rule not met: nothing fits $.rows[*] ? (@.lane > 3)',
    ],
    [{ path: '$.count > 1' }, 2, 'acted', null],
    [{ path: '$.count > 1' }, 1, 'skipped', 'Rule not met: nothing fits $.count > 1'],
  ]
  test.each(rules)('rule %j with %i rows: %s', async (when, tasks, outcome, reason) => {
    for (let n = 0; n < tasks; n += 1) await enqueueOne(shop, tenant, { labels: ['mail'], lane: 2 })
    const id = await setRhythm(shop, tenant, { ...query(pending), decide: { kind: 'rule', when } })
    await at('10:00')
    const [run] = await runsOf(shop, id)
    expect(run).toMatchObject({ outcome, reason, gathered: { count: tasks } })
    expect(run?.task_ids).toHaveLength(outcome === 'acted' ? 1 : 0)
  })

  test('changed: acts when the rows differ from those of the last run that acted', async () => {
    const id = await setRhythm(shop, tenant, {
      ...query(pending),
      decide: { kind: 'changed' },
      overlap: 'allow',
    })
    await at('10:00')
    await at('11:00')
    await enqueueOne(shop, tenant, { labels: ['mail'] })
    await at('12:00')
    expect(await outcomesOf(shop, id)).toEqual(['10:00 acted', '11:00 skipped', '12:00 acted'])
    expect((await runsOf(shop, id))[1]?.reason).toContain(
      'Nothing has changed since the slot 2027-01-15 10:00',
    )
  })
})

describe('a definition', () => {
  test('replaces the one before under the same name; owed slots stay owed', async () => {
    const set = (definition: Definition): Promise<number> =>
      shop.asUser(tenant.owner, async (sql) => {
        const full = {
          schedule: '0 * * * *',
          act: { agent: 'clerk' },
          catch_up: 'all',
          ...definition,
        }
        const [row] =
          await sql`select nightshift.set_rhythm(${tenant.project}, 'mine', ${sql.json(full)}) as id`
        return row?.id
      })
    const id = await set({})
    shop.setClock(new Date(`${day}11:30:00Z`))
    expect(await set({ description: 'new', overlap: 'allow' })).toBe(id)
    await at('11:30')
    expect(await outcomesOf(shop, id)).toEqual(['10:00 acted', '11:00 acted'])
    await set({ schedule: '15 * * * *' })
    expect(await rhythmOf(shop, id)).toMatchObject({
      description: '',
      overlap: 'skip',
      next_slot: new Date(`${day}12:15:00Z`),
    })
  })

  const act: Json = { agent: 'clerk' }
  const refusals: [definition: Definition, code: string, message: string][] = [
    [{ cron: '* * * * *' }, 'NS002', 'Unknown field "cron" in rhythm "x"'],
    [{ act: { agent: 'clerk', tools: [] } }, 'NS002', 'Unknown field "tools" in rhythm "x".act'],
    [{ act: {} }, 'NS001', 'rhythm "x".act.agent is missing'],
    [{ act: { agent: 'nobody' } }, 'NS020', 'Cannot find agent "nobody"'],
    [{ schedule: '* * * *' }, 'NS072', 'Cannot read schedule "* * * *"'],
    [{ schedule: '0 0 30 2 *' }, 'NS070', 'schedule "0 0 30 2 *" never comes'],
    [{ time_zone: 'Europe/Atlantis' }, 'NS070', 'time zone "Europe/Atlantis" is unknown'],
    [{ time_zone: 'Nowhere3' }, 'NS070', 'time zone "Nowhere3" is unknown'],
    [{ overlap: 'both' }, 'NS001', 'rhythm "x".overlap must be one of'],
    [{ jitter_seconds: 7200 }, 'NS001', 'rhythm "x".jitter_seconds is 7200, wanted at most 3600'],
    [
      { gather: { kind: 'http', url: 'https://example.test' } },
      'NS070',
      'gather.kind is "http", known are none, sql',
    ],
    [
      { gather: { kind: 'tool', tool: 'search' } },
      'NS070',
      'gather.kind is "tool", known are none, sql',
    ],
    [
      { gather: { kind: 'sql', sql: 'select 1' } },
      'NS002',
      'Unknown field "sql" in rhythm "x".gather',
    ],
    [{ gather: { kind: 'sql' } }, 'NS001', 'rhythm "x".gather.query is missing'],
    [
      { decide: { kind: 'mood' } },
      'NS070',
      'decide.kind is "mood", known are always, changed, model, rule',
    ],
    [
      { decide: { kind: 'changed' } },
      'NS070',
      'it decides on what is gathered, but gathers nothing',
    ],
    [
      { ...query('select 1'), decide: { kind: 'rule', when: {} } },
      'NS001',
      'decide.when fits none of the allowed shapes',
    ],
    [
      { ...query('select 1'), decide: { kind: 'rule', when: { path: '$.rows[' } } },
      'NS070',
      '"$.rows[" is no JSON path',
    ],
    [{ decide: { kind: 'model', agent: 'clerk' } }, 'NS070', 'a deciding agent needs tier "cheap"'],
  ]
  test.each(refusals)('%j is refused with %s', async (definition, code, message) => {
    const refused = await refusal(
      shop.asUser(
        tenant.owner,
        (sql) =>
          sql`select nightshift.set_rhythm(${tenant.project}, 'x', ${sql.json({ schedule: '* * * * *', act, ...definition })})`,
      ),
    )
    expect(refused.code).toBe(code)
    expect(refused.message).toContain(message)
  })

  test('the secret key names the person whose rights a query has', async () => {
    const set = (person: string | null): Promise<unknown> =>
      shop.asService(
        (sql) => sql`
          select nightshift.set_rhythm(${tenant.project}, 'backend', ${sql.json({
            schedule: '0 * * * *',
            act: { agent: 'clerk' },
            ...query('select count(*) from nightshift.projects'),
          })}, ${person})`,
      )
    expect((await refusal(set(null))).message).toContain('a query runs as a person')
    expect((await refusal(set(await createUser(shop)))).message).toContain(
      'must be an owner or operator',
    )
    await set(tenant.owner)
  })
})

describe('people', () => {
  test('run a rhythm now, also while it is paused; it still decides', async () => {
    const id = await setRhythm(shop, tenant, {
      ...query('select 1 where false'),
      decide: { kind: 'rule', when: { min_rows: 1 } },
    })
    await shop.asUser(tenant.owner, async (sql) => {
      await sql`select nightshift.pause_rhythm(${id}, 'holidays')`
      await sql`select nightshift.run_rhythm_now(${id})`
      await sql`select nightshift.run_rhythm_now(${id})`
    })
    await gatherRuns(shop)
    const runs = await runsOf(shop, id)
    expect(runs.map((run) => [run.manual, run.outcome])).toEqual([
      [true, 'skipped'],
      [true, 'skipped'],
    ])
    expect(await rhythmOf(shop, id)).toMatchObject({
      active: false,
      paused_reason: 'holidays',
      next_at: null,
    })
  })

  test('pause and resume: what passes in between is not owed', async () => {
    const id = await setRhythm(shop, tenant, { catch_up: 'all' })
    const call = (sqlText: string): Promise<unknown> =>
      shop.asUser(tenant.owner, (sql) => sql.unsafe(`select nightshift.${sqlText}`))
    await call(`pause_rhythm(${id})`)
    await at('12:30')
    await call(`resume_rhythm(${id})`)
    await call(`resume_rhythm(${id})`)
    await at('13:00')
    expect(await outcomesOf(shop, id)).toEqual(['13:00 acted'])
  })

  test('need a role, and see only their own projects', async () => {
    const id = await setRhythm(shop, tenant)
    const viewer = await addMember(shop, tenant, 'viewer')
    const stranger = await createUser(shop)
    const calls = ['run_rhythm_now', 'pause_rhythm', 'resume_rhythm'] as const
    for (const name of calls) {
      const call = (user: string): Promise<unknown> =>
        shop.asUser(user, (sql) => sql`select ${sql.unsafe(`nightshift.${name}`)}(${id})`)
      expect((await refusal(call(viewer))).code, name).toBe('NS011')
      expect((await refusal(call(stranger))).code, name).toBe('NS071')
    }
    const next = (user: string): Promise<Iterable<unknown>> =>
      shop.asUser(user, (sql) => sql`select nightshift.next_runs(${id})`)
    expect([...(await next(viewer))]).toHaveLength(1)
    expect((await refusal(next(stranger))).code).toBe('NS071')
    const set = refusal(setRhythm(shop, { ...tenant, owner: viewer }))
    expect((await set).code).toBe('NS011')
    expect((await refusal(setRhythm(shop, { ...tenant, owner: stranger }))).code).toBe('NS010')
  })
})
