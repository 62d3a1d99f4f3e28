import type { Risk } from '../data/rows.ts'
import { words } from '../words/words.ts'
import { Icon, type IconName } from './icon.tsx'

const looks: Record<Risk, { icon: IconName; text: string; edge: string }> = {
  low: { icon: 'shield', text: 'text-calm', edge: 'border-l-calm' },
  medium: { icon: 'gauge', text: 'text-notice', edge: 'border-l-notice' },
  high: { icon: 'alert', text: 'text-alarm', edge: 'border-l-alarm' },
  critical: { icon: 'octagon', text: 'text-grave', edge: 'border-l-grave' },
}

/** Classes of the coloured edge that goes with the word. */
export function riskEdge(risk: Risk): string {
  return `border-l-4 ${looks[risk].edge}`
}

export function RiskWord({ risk }: { risk: Risk }) {
  return (
    <span className={`inline-flex items-center gap-1.5 font-semibold ${looks[risk].text}`}>
      <Icon name={looks[risk].icon} />
      {words.risk[risk]}
    </span>
  )
}
