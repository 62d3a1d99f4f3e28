/**
 * What a model gets to read of a mail body: the words this sender wrote this time.
 * Nothing disappears unnoticed: each cut leaves one line in `trimmed`.
 */
export interface CleanText {
  text: string
  /** What was left out, for a person: `quoted history: 42 lines` */
  trimmed: string[]
}

/** Longest text handed on, in UTF-16 code units, without the mark that tells of the cut. */
export const maxTextLength = 20_000

/** Longest attribution ("On … wrote:") in characters and lines. Longer ones are prose. */
const maxAttribution = { characters: 300, lines: 3 }

/**
 * Removes quoted history and the signature, makes the text storable and cuts it to
 * `maxTextLength` characters with a visible mark.
 */
export function cleanText(body: string): CleanText {
  const trimmed: string[] = []
  const lines = storable(body).replace(/\r\n?/g, '\n').split('\n')
  const own = withoutHistory(lines)
  note(trimmed, 'quoted history', lines.length - own.length)
  const unsigned = withoutSignature(own)
  note(trimmed, 'signature', own.length - unsigned.length)
  const text = unsigned
    .join('\n')
    .replace(/\n{3,}/g, '\n\n')
    .trim()
  if (text.length <= maxTextLength) return { text, trimmed }
  // A cut inside a pair of surrogates would leave half a character behind.
  const splitsPair = /[\uD800-\uDBFF]/.test(text.charAt(maxTextLength - 1))
  const end = splitsPair ? maxTextLength - 1 : maxTextLength
  const left = text.length - end
  trimmed.push(`end of a long text: ${left} characters`)
  return { text: `${text.slice(0, end)}\n[… ${left} more characters cut]`, trimmed }
}

/**
 * Replaces what PostgreSQL's text and jsonb refuse, NUL and lone surrogates, by U+FFFD.
 */
export function storable(text: string): string {
  return text.replaceAll('\0', '\uFFFD').replace(/\p{Surrogate}/gu, '\uFFFD')
}

function note(trimmed: string[], what: string, lines: number): void {
  if (lines > 0) trimmed.push(`${what}: ${lines} ${lines === 1 ? 'line' : 'lines'}`)
}

/**
 * Drops quoted lines with the attribution above them. An answer written between or below
 * the quotes stays. Outlook and HTML mail quote without ">": there, only a separator or an
 * attribution that names an address says that the rest is history.
 */
function withoutHistory(lines: string[]): string[] {
  const own: string[] = []
  for (let index = 0; index < lines.length; index += 1) {
    const line = lines[index] ?? ''
    if (isQuoted(line)) continue
    if (isSeparator(line)) break
    const attribution = attributionAt(lines, index)
    if (attribution) {
      const next = nextFilledLine(lines, index + attribution.lines)
      if (next === undefined || isQuoted(next)) {
        index += attribution.lines - 1
        continue
      }
      if (attribution.text.includes('@')) break
    }
    own.push(line)
  }
  return own
}

function nextFilledLine(lines: string[], start: number): string | undefined {
  for (let index = start; index < lines.length; index += 1) {
    if (lines[index]?.trim()) return lines[index]
  }
  return undefined
}

function isQuoted(line: string): boolean {
  return line.startsWith('>')
}

function isSeparator(line: string): boolean {
  return (
    line.length < 100 &&
    /^-{3,} ?(original message|ursprüngliche nachricht) ?-{3,}$/i.test(line.trim())
  )
}

/**
 * The attribution that starts at `start`. Mailers wrap it at the address; lines without one
 * are not put together, or a sentence before "you wrote:" would be lost.
 */
function attributionAt(
  lines: string[],
  start: number,
): { text: string; lines: number } | undefined {
  if (!/^(On|Am) /.test(lines[start] ?? '')) return undefined
  for (let count = 1; count <= maxAttribution.lines; count += 1) {
    const text = lines
      .slice(start, start + count)
      .join(' ')
      .trim()
    if (text.length > maxAttribution.characters) return undefined
    const isWhole = /^(On .*\d.* wrote|Am .*\d.* schrieb .+):$/.test(text)
    if (isWhole && (count === 1 || text.includes('@'))) return { text, lines: count }
  }
  return undefined
}

/** RFC 3676 §4.3: a line of exactly "-- " (with its space) starts the signature. */
function withoutSignature(lines: string[]): string[] {
  const start = lines.indexOf('-- ')
  return start === -1 ? lines : lines.slice(0, start)
}
