import { expect, test } from 'vitest'
import { byUrgency } from './order.ts'
import type { Card } from './rows.ts'

const base: Card = {
  id: 1,
  project_id: '',
  task_id: 1,
  kind: 'approval',
  title: '',
  consequence: '',
  action: {},
  digest: '',
  risk: 'low',
  reversible: 'no',
  evidence: [],
  allowed: [],
  deadline_at: null,
  on_expiry: 'reject',
  status: 'open',
  verb: null,
  note: null,
  decided_by: null,
  decided_at: null,
  created_at: '',
}

test('the nearest deadline comes first, then the greater risk, then the older card', () => {
  const cards: Card[] = [
    { ...base, id: 1, risk: 'critical' },
    { ...base, id: 2, risk: 'low', deadline_at: '2026-11-22T00:00:00Z' },
    { ...base, id: 3, risk: 'high', deadline_at: '2026-11-22T00:00:00+00:00' },
    { ...base, id: 4, risk: 'low', deadline_at: '2026-11-21T00:00:00Z' },
    { ...base, id: 6, risk: 'low' },
    { ...base, id: 5, risk: 'low' },
  ]
  expect(cards.sort(byUrgency).map(({ id }) => id)).toEqual([4, 3, 2, 1, 5, 6])
})
