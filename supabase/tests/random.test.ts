import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type Json, openShop, refusal, type Shop } from './actors.ts'
import {
  cancel,
  claim,
  commit,
  complete,
  createTenant,
  enqueue,
  fail,
  type Lease,
  modelCall,
  modelStep,
  retry,
  sweep,
  type Tenant,
  taskOf,
} from './tenant.ts'

/** One operation; `pick` chooses its target and details among what exists when it runs. */
interface Operation {
  kind: string
  pick: number
}

/** How often each kind of operation comes: enough work gets done that tasks reach every state. */
const weights: Record<string, number> = {
  ...{ enqueue: 1, schedule: 1, deadline: 1, after: 2, child: 1, group: 2, claim: 5, heartbeat: 1 },
  ...{ step: 3, yield: 1, ask: 4, finish: 3, complete: 3, fail: 3, release: 1, decide: 3 },
  ...{ cancel: 2, retry: 2, wait: 2, sweep: 3 },
}

/** One database with a random life in it. */
class Story {
  readonly shop: Shop
  readonly tenant: Tenant
  /** Every lease ever handed out: the old ones are zombies. */
  readonly leases: Lease[] = []
  accepted = 0
  private time = Date.parse('2030-01-01T00:00:00Z')

  constructor(shop: Shop, tenant: Tenant) {
    this.shop = shop
    this.tenant = tenant
    shop.setClock(new Date(this.time))
  }

  async run({ kind, pick }: Operation): Promise<void> {
    await this.operations[kind]?.(pick)
  }

  pass(seconds: number): void {
    this.time += seconds * 1000
    this.shop.setClock(new Date(this.time))
  }

  private readonly operations: Record<string, (pick: number) => Promise<unknown>> = {
    enqueue: (pick) => this.add([{ lane: pick % 6 }]),
    schedule: (pick) => this.add([{ run_at: this.in(pick % 600) }]),
    deadline: (pick) => this.add([{ deadline_at: this.in(pick % 900) }]),
    after: async (pick) => {
      const after = [await this.task(pick), await this.task(pick >> 3)]
      return this.add([{ after }])
    },
    child: async (pick) => this.add([{ parent: await this.task(pick) }]),
    group: (pick) => {
      const combinator = ['all', 'race', 'any', 'all_settled'][pick % 4] ?? 'all'
      const children = Array.from({ length: 1 + (pick % 3) }, (_, i) => ({
        parent: 'p',
        key: `c${i}`,
      }))
      const inner = [
        { parent: 'p', key: 'q', combinator: 'all' },
        { parent: 'q', after: ['c0'] },
      ]
      return this.add([{ key: 'p', combinator }, ...children, ...(pick % 5 === 0 ? inner : [])])
    },
    claim: async (pick) =>
      this.leases.push(...(await claim(this.shop, this.tenant, { tasks: 1 + (pick % 4) }))),
    heartbeat: (pick) =>
      this.work(pick, async (lease) => {
        const rows = await this.shop.asService(
          (sql) =>
            sql`select 1 from nightshift.heartbeat(${sql.json([{ task_id: lease.task_id, fence: lease.fence }])})`,
        )
        return rows.length > 0
      }),
    step: (pick) =>
      this.work(pick, async (lease) => this.move(lease, [modelStep], { status: 'running' })),
    yield: (pick) => this.work(pick, async (lease) => this.move(lease, [], { status: 'pending' })),
    ask: (pick) =>
      this.work(pick, async (lease) => {
        const card = {
          title: 'May I?',
          action: { tool: 't', args: {} },
          risk: 'low',
          deadline_at: this.in(300),
        }
        return this.move(lease, [{ kind: 'ask', action: 't' }], {
          status: 'awaiting_approval',
          card,
        })
      }),
    finish: (pick) =>
      this.work(pick, async (lease) =>
        this.move(lease, [modelStep], { status: 'completed', output: 1 }),
      ),
    complete: (pick) =>
      this.work(pick, async (lease) => (await complete(this.shop, [lease]))[0] === 'completed'),
    fail: (pick) =>
      this.work(pick, async (lease) => {
        const failureClass = ['external', 'permission', 'rate_limit', 'context_loss', 'stuck'][
          pick % 5
        ]
        await fail(this.shop, lease, failureClass ?? 'external')
        return true
      }),
    release: (pick) =>
      this.work(pick, async ({ task_id, fence }) => {
        await this.shop.asService((sql) => sql`select nightshift.release(${task_id}, ${fence})`)
        return true
      }),
    decide: async (pick) => {
      const cards = await this.shop.owner`select id, digest from nightshift.cards order by id`
      const card = cards.at(-1 - (pick % Math.min(cards.length, 3)))
      const verb = ['approve', 'reject'][pick % 2] ?? 'reject'
      if (card) {
        await this.person((user) =>
          this.shop.asUser(
            user,
            (sql) => sql`select nightshift.decide(${card.id}, ${verb}, ${card.digest})`,
          ),
        )
      }
    },
    cancel: async (pick) => {
      const id = await this.task(pick)
      await this.person(() => cancel(this.shop, this.tenant, id))
    },
    retry: async (pick) => {
      const id = await this.task(pick)
      await this.person(() => retry(this.shop, this.tenant, id))
    },
    wait: async (pick) => this.pass(pick % 400),
    sweep: () => sweep(this.shop),
  }

  private in(seconds: number): string {
    return new Date(this.time + seconds * 1000).toISOString()
  }

  /** Some existing task; 0 when there is none. */
  private async task(pick: number): Promise<number> {
    const rows = await this.shop.owner`select id from nightshift.tasks order by id`
    return rows[pick % rows.length]?.id ?? 0
  }

  private async add(tasks: Record<string, Json>[]): Promise<void> {
    const rows = await this.person(() => enqueue(this.shop, this.tenant, tasks))
    this.accepted += rows?.length ?? 0
  }

  /** A person may be told no, but only with one of our codes. */
  private person<T>(act: (user: string) => Promise<T>): Promise<T | null> {
    return act(this.tenant.owner).catch(async (cause: unknown) => {
      const { code } = await refusal(Promise.reject(cause))
      expect(code).toMatch(/^NS\d{3}$/)
      return null
    })
  }

  private async move(
    lease: Lease,
    steps: Json[],
    outcome: { status: string; [field: string]: Json },
  ): Promise<boolean> {
    const { step_count: after } = await taskOf(this.shop, lease.task_id)
    const calls = steps.includes(modelStep) ? [modelCall(1, { cost_usd: 0.01 })] : []
    const answer = await commit(this.shop, lease, { after, steps, calls, outcome })
    return !answer.repeated
  }

  /** Writes with some lease, old or new: it succeeds exactly when that lease is the current one. */
  private async work(pick: number, write: (lease: Lease) => Promise<boolean>): Promise<void> {
    // Mostly one of the youngest leases, now and then one that is surely lost.
    const reach = pick % 4 === 0 ? this.leases.length : Math.min(this.leases.length, 4)
    const lease = this.leases[this.leases.length - 1 - (pick % reach)]
    if (!lease) return
    const before = await taskOf(this.shop, lease.task_id)
    const holds = before.status === 'running' && before.fence === lease.fence
    const wrote = await write(lease).catch(async (cause: unknown) => {
      const { code } = await refusal(Promise.reject(cause))
      // Only a parallel commit of the same holder can have moved the steps on (NS034).
      expect(this.alone ? ['NS030'] : ['NS030', 'NS034']).toContain(code)
      return false
    })
    if (this.alone && holds) expect(wrote, 'the holder writes').toBe(true)
    if (this.alone && !holds) {
      expect((await taskOf(this.shop, lease.task_id)).version, 'a zombie changes nothing').toBe(
        before.version,
      )
    }
  }

  /** False while operations run in parallel: then nobody knows beforehand who holds what. */
  alone = true

  /** What must hold after every operation; one row per violation. */
  async violations(): Promise<readonly { rule: string; id: number }[]> {
    return this.shop.owner<{ rule: string; id: number }[]>`
      select 'stranded: ' || reason as rule, id from nightshift.v_stranded
      union all
      select 'accounting', accepted from nightshift.v_accounting
        where accepted <> completed + failed + cancelled + live or accepted <> ${this.accepted}
      union all
      select 'steps have gaps', t.id from nightshift.tasks t
        left join (select task_id, count(*) as n, max(seq) as last from nightshift.steps group by 1) s on s.task_id = t.id
        where (t.step_count, t.step_count) is distinct from (coalesce(s.n, 0), coalesce(s.last, 0))
      union all
      select 'open dependencies', t.id from nightshift.tasks t
        where t.status = 'blocked' and t.open_dependencies <> (
          select count(*) from nightshift.task_dependencies d join nightshift.tasks o on o.id = d.depends_on
          where d.task_id = t.id and o.status not in ('completed', 'failed', 'cancelled'))
      union all
      select 'spend', t.id from nightshift.tasks t
        where t.spent_usd <> (select coalesce(sum(c.cost_usd), 0) from nightshift.llm_calls c where c.task_id = t.id)
      union all
      select 'open card', t.id from nightshift.tasks t
        where (t.status = 'awaiting_approval') <> exists (select from nightshift.cards c where c.task_id = t.id and c.status = 'open')
      union all
      select 'steps of an unknown fence', s.task_id from nightshift.steps s
        where s.fence is not null and not exists (
          select from nightshift.audit_events e where e.task_id = s.task_id and e.action = 'task.running' and (e.meta ->> 'fence')::bigint = s.fence)
      union all
      select 'last event', t.id from nightshift.tasks t
        where t.status is distinct from (
          select case e.action when 'task.enqueued' then e.meta ->> 'status' else substr(e.action, 6) end
          from nightshift.audit_events e where e.task_id = t.id and e.action like 'task.%' order by e.id desc limit 1)`
  }

  /** Lets diligent workers and people finish everything; fails if something stays behind. */
  async drain(): Promise<void> {
    for (let round = 0; round < 40; round += 1) {
      this.pass(3600)
      await sweep(this.shop)
      const leases = await claim(this.shop, this.tenant, { tasks: 1000 })
      await complete(this.shop, leases)
      const [row] = await this.shop.owner`
        select count(*) from nightshift.tasks where status not in ('completed', 'failed', 'cancelled')`
      if (row?.count === 0) return
    }
    throw new Error('something never ends')
  }
}

const kind = fc.oneof(
  ...Object.entries(weights).map(([name, weight]) => ({ weight, arbitrary: fc.constant(name) })),
)
const operation = fc.record({ kind, pick: fc.nat({ max: 999 }) })

/** Tells one story: each element is one operation, or several at the same time. */
async function tell(steps: Operation[][]): Promise<void> {
  const shop = await openShop()
  try {
    const story = new Story(shop, await createTenant(shop, { definition: { max_attempts: 2 } }))
    for (const step of steps) {
      story.alone = step.length === 1
      await Promise.all(step.map((one) => story.run(one)))
      expect(await story.violations(), JSON.stringify(step)).toEqual([])
    }
    await story.drain()
    expect(await story.violations()).toEqual([])
    const [row] = await shop.asService(
      (sql) => sql`select nightshift.audit_verify(${story.tenant.project}) as report`,
    )
    expect(row?.report.findings).toEqual([])
  } finally {
    await shop.close()
  }
}

/** One run of some hundred operations finds more than many short ones; a failure shrinks for a while. */
const limits = { numRuns: 2, interruptAfterTimeLimit: 20_000, markInterruptAsFailure: false }

test('any sequence of operations leaves nothing stranded, lost, doubled or written by a zombie', async () => {
  const steps = fc.array(
    operation.map((one) => [one]),
    { minLength: 140, maxLength: 180, size: 'max' },
  )
  await fc.assert(fc.asyncProperty(steps, tell), limits)
})

test('the same when operations run in parallel sessions', async () => {
  const steps = fc.array(fc.array(operation, { minLength: 2, maxLength: 5 }), {
    minLength: 40,
    maxLength: 50,
    size: 'max',
  })
  await fc.assert(fc.asyncProperty(steps, tell), limits)
})
