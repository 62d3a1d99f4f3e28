/**
 * A shortest string for the pattern of a JSON schema, or undefined where the pattern is beyond this small reader
 * (look-arounds, back references) or no string was found. Used when the text offers no match.
 */
export function exampleFor(pattern: string): string | undefined {
  const regex = compile(pattern)
  if (regex === undefined) return undefined
  const example = new Reader(pattern).alternatives()
  return regex.test(example) ? example : undefined
}

/** The compiled pattern, or undefined where it is not valid. */
export function compile(pattern: string): RegExp | undefined {
  try {
    return new RegExp(pattern, 'u')
  } catch {
    return undefined
  }
}

const CLASSES: { readonly [letter: string]: string } = {
  d: '0',
  w: 'a',
  s: ' ',
  D: 'a',
  W: '-',
  S: 'a',
  n: '\n',
  t: '\t',
}

/** Walks over a regular expression and writes the first string each part allows. */
class Reader {
  readonly #source: string
  #at = 0

  constructor(source: string) {
    this.#source = source
  }

  alternatives(): string {
    const first = this.#sequence()
    while (this.#peek() === '|') {
      this.#at += 1
      this.#sequence()
    }
    return first
  }

  #sequence(): string {
    let written = ''
    while (this.#at < this.#source.length && this.#peek() !== '|' && this.#peek() !== ')') {
      const atom = this.#atom()
      written += atom.repeat(this.#minimum())
    }
    return written
  }

  #atom(): string {
    const character = this.#take()
    if (character === '^' || character === '$') return ''
    if (character === '.') return 'a'
    if (character === '\\') return this.#escape()
    if (character === '[') return this.#characterClass()
    if (character !== '(') return character
    if (this.#peek() === '?') while (!':>)'.includes(this.#take() || ')'));
    const inner = this.alternatives()
    this.#take()
    return inner
  }

  #escape(): string {
    const letter = this.#take()
    if (letter === 'b' || letter === 'B') return ''
    if (letter !== 'p' || this.#peek() !== '{') return CLASSES[letter] ?? letter
    const name = this.#source.slice(this.#at + 1, this.#source.indexOf('}', this.#at))
    this.#at += name.length + 2
    if (name.startsWith('N')) return '0'
    return name === 'Lu' ? 'A' : 'a'
  }

  #characterClass(): string {
    const end = this.#source.indexOf(']', this.#at + 1)
    const body = this.#source.slice(this.#at, end)
    this.#at = end + 1
    if (!body.startsWith('^'))
      return body.startsWith('\\') ? (CLASSES[body[1] ?? ''] ?? body[1] ?? '') : (body[0] ?? '')
    const allowed = compile(`[${body}]`)
    return [...'aA0- '].find((character) => allowed?.test(character)) ?? ''
  }

  /** How often the atom before must stand at least. */
  #minimum(): number {
    const sign = this.#peek()
    if (sign === '?' || sign === '*' || sign === '+') {
      this.#at += 1
      if (this.#peek() === '?') this.#at += 1
      return sign === '+' ? 1 : 0
    }
    const counted = /^\{(\d+)(,\d*)?\}\??/.exec(this.#source.slice(this.#at))
    if (counted === null) return 1
    this.#at += counted[0].length
    return Math.min(Number(counted[1]), 1_000)
  }

  #peek(): string {
    return this.#source[this.#at] ?? ''
  }

  #take(): string {
    const character = this.#peek()
    this.#at += 1
    return character
  }
}
