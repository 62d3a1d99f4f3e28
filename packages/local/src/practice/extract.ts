/** The first e-mail address in the text. */
export function firstEmail(text: string): string | undefined {
  return /[\p{L}\p{N}._%+-]+@[\p{L}\p{N}-]+(?:\.[\p{L}\p{N}-]+)*\.\p{L}{2,}/u.exec(text)?.[0]
}

/** The first web address in the text. */
export function firstUrl(text: string): string | undefined {
  return /https?:\/\/[^\s<>"')\]]+/.exec(text)?.[0]?.replace(/[.,;:!?]+$/, '')
}

/** The first calendar day in the text as `YYYY-MM-DD`; German `31.12.2026` is understood. */
export function firstDate(text: string): string | undefined {
  const iso = /\b\d{4}-\d{2}-\d{2}\b/.exec(text)?.[0]
  if (iso !== undefined) return iso
  const german = /\b(\d{1,2})\.(\d{1,2})\.(\d{4})\b/.exec(text)
  if (german === null) return undefined
  const [, day = '', month = '', year = ''] = german
  return `${year}-${month.padStart(2, '0')}-${day.padStart(2, '0')}`
}

/** The first token that looks like an order, ticket or invoice number: letters with three digits, else five digits. */
export function firstCode(text: string): string | undefined {
  const tokens = tokensOf(text).filter(
    (token) => !token.includes('@') && !/^\d{4}-\d{2}/.test(token),
  )
  return (
    tokens.find((token) =>
      /^(?=.*\p{L})(?=(?:\D*\d){3})[\p{L}\d][\p{L}\d_-]{3,23}$/u.test(token),
    ) ?? tokens.find((token) => /^\d{5,23}$/.test(token))
  )
}

/** The first token, or else line, that satisfies the pattern of a JSON schema. */
export function firstMatch(text: string, pattern: RegExp): string | undefined {
  const matches = (candidate: string) => pattern.test(candidate)
  return (
    tokensOf(text).find(matches) ??
    text
      .split(/\r?\n/)
      .map((line) => line.trim())
      .find(matches)
  )
}

function tokensOf(text: string): string[] {
  return text
    .split(/[\s,;:()<>"'„“”‚‘’[\]{}=]+/)
    .map((token) => token.replace(/^[#.!?-]+|[.!?-]+$/g, ''))
    .filter((token) => token !== '')
}

/** A number found in a text. */
export interface Amount {
  value: number
  /** True if a currency stands beside it. */
  money: boolean
  /** True if it was written with decimals. */
  decimals: boolean
}

const CURRENCY = String.raw`€|\$|£|EUR|Euro|USD|CHF|GBP`
const NUMBER = String.raw`\d{1,3}(?:[.,'’]\d{3})+(?:[.,]\d{1,2})?|\d+(?:[.,]\d{1,2})?`
const AMOUNT = new RegExp(
  String.raw`(?<![\p{L}\d#.,:/@_-])(?<before>(?:${CURRENCY})\s?)?(?<number>${NUMBER})(?<after>\s?(?:${CURRENCY})(?!\p{L}))?(?![.,:/@_-]?\d|[\p{L}@_]|-\p{L})`,
  'giu',
)

/** Free-standing numbers in the text, in order; parts of dates, times and order numbers are none. */
export function amountsIn(text: string): Amount[] {
  return [...text.matchAll(AMOUNT)].map(({ groups }) => {
    const written = groups?.number ?? '0'
    const value = parseNumber(written)
    const money = groups?.before !== undefined || groups?.after !== undefined
    return { value, money, decimals: /[.,]\d{1,2}$/.test(written) }
  })
}

/** Reads `1.249,00`, `1,249.00`, `49,90` and `49.90`. */
function parseNumber(written: string): number {
  const decimals = /[.,](\d{1,2})$/.exec(written)?.[1]
  const whole = decimals === undefined ? written : written.slice(0, -decimals.length - 1)
  return Number(`${whole.replace(/\D/g, '')}.${decimals ?? '0'}`)
}
