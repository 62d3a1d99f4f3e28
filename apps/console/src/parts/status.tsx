import type { Status } from '../data/rows.ts'
import { words } from '../words/words.ts'
import { Icon, type IconName } from './icon.tsx'

const looks: Record<Status, { icon: IconName; text: string }> = {
  blocked: { icon: 'lock', text: 'text-muted' },
  scheduled: { icon: 'calendar', text: 'text-muted' },
  pending: { icon: 'clock', text: 'text-muted' },
  running: { icon: 'running', text: 'text-accent' },
  awaiting_tool: { icon: 'tool', text: 'text-accent' },
  awaiting_approval: { icon: 'hand', text: 'text-notice' },
  awaiting_children: { icon: 'branch', text: 'text-accent' },
  completed: { icon: 'check', text: 'text-calm' },
  failed: { icon: 'cross', text: 'text-alarm' },
  cancelled: { icon: 'slash', text: 'text-muted' },
}

export function StatusWord({ status }: { status: Status }) {
  const { icon, text } = looks[status]
  return (
    <span className={`inline-flex items-center gap-1.5 ${text}`}>
      <Icon name={icon} className={`size-4.5 ${status === 'running' ? 'spin' : ''}`} />
      {words.status[status]}
    </span>
  )
}
