import type { Rule } from './rules.ts'

/** The rules in force and how often each has matched. */
export class Script {
  #rules: { rule: Rule; matched: number }[] = []

  /** Replaces all rules; counting starts anew. */
  replace(rules: readonly Rule[]): void {
    this.#rules = rules.map((rule) => ({ rule, matched: 0 }))
  }

  /**
   * The first rule for a call. Every rule counts the calls it matches, also those an earlier rule wins, so that
   * `nth: 1` and `nth: 2` of the same match script two calls in a row.
   */
  next(model: string, text: string): Rule | undefined {
    let winner: Rule | undefined
    for (const entry of this.#rules) {
      const { match } = entry.rule
      if (match.model !== undefined && match.model !== model) continue
      if (match.contains !== undefined && !text.includes(match.contains)) continue
      entry.matched += 1
      if (match.nth === undefined || match.nth === entry.matched) winner ??= entry.rule
    }
    return winner
  }
}
