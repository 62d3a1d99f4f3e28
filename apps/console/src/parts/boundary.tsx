import { Component, type ReactNode } from 'react'
import { ProblemNote } from './problem-note.tsx'

interface BoundaryProps {
  /** What to say is broken. */
  what: string
  children: ReactNode
}

/** Shows an error of rendering where it happened; loading the page again is the retry. */
export class Boundary extends Component<BoundaryProps, { failure: { cause: unknown } | null }> {
  override state: { failure: { cause: unknown } | null } = { failure: null }

  static getDerivedStateFromError(cause: unknown) {
    return { failure: { cause } }
  }

  override render(): ReactNode {
    if (!this.state.failure) return this.props.children
    return (
      <div className="m-4">
        <ProblemNote
          what={this.props.what}
          cause={this.state.failure.cause}
          onRetry={() => location.reload()}
        />
      </div>
    )
  }
}
