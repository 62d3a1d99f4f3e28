import type { View } from '../view.ts'
import { Icon } from './icon.tsx'
import { Link } from './link.tsx'

/** Leads a phone back to the list, which a desk has beside it. */
export function BackLink({ to, label }: { to: View; label: string }) {
  return (
    <Link
      to={to}
      className="mt-1 -mb-3 -ml-2 inline-flex min-h-12 items-center gap-2 justify-self-start rounded-lg px-2 text-accent lg:hidden"
    >
      <Icon name="back" />
      {label}
    </Link>
  )
}
