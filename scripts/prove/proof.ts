/** What a proof reports; `ok` is true only if every invariant held. */
export interface ProofResult {
  name: string
  seed: number
  runs: number
  violations: string[]
  ok: boolean
  [figure: string]: unknown
}

export interface ProofOptions {
  seed: number
  runs: number | null
  log: (line: string) => void
}

/** A longer check than a test: seeded, bounded, repeatable. */
export type Proof = (options: ProofOptions) => Promise<ProofResult>
