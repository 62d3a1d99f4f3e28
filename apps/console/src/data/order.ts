import type { Card, Risk } from './rows.ts'

const weight: Record<Risk, number> = { critical: 0, high: 1, medium: 2, low: 3 }

/** Sorts cards: nearest deadline first, none last; then the greater risk; then the older card. */
export function byUrgency(left: Card, right: Card): number {
  return (
    deadline(left) - deadline(right) || weight[left.risk] - weight[right.risk] || left.id - right.id
  )
}

/** The largest safe integer stands for "never": two infinities would subtract to NaN. */
function deadline(card: Card): number {
  return card.deadline_at ? Date.parse(card.deadline_at) : Number.MAX_SAFE_INTEGER
}
