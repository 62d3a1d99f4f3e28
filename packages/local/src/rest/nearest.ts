/**
 * The candidate most like `text`, or null when none is: likeness is the share of common
 * letter pairs (Dice), as fuzzy search in PostgREST's hints works on letter groups.
 */
export function nearest(text: string, candidates: string[]): string | null {
  const threshold = 0.5
  const wanted = pairsOf(text)
  let best: { candidate: string; likeness: number } | null = null
  for (const candidate of candidates) {
    const offered = pairsOf(candidate)
    const common = [...wanted].filter((pair) => offered.has(pair)).length
    const likeness = (2 * common) / (wanted.size + offered.size)
    if (likeness > (best?.likeness ?? threshold)) best = { candidate, likeness }
  }
  return best?.candidate ?? null
}

function pairsOf(text: string): Set<string> {
  const padded = ` ${text.toLowerCase()} `
  return new Set(Array.from(padded.slice(1), (letter, index) => padded[index] + letter))
}
