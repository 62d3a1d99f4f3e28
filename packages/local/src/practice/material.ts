import { isObject, parseJson } from './json.ts'
import { type Language, languageOf, meaningfulWords } from './words.ts'

/** What a practice answer is made from: the last thing the user said, read as a letter. */
export interface Material {
  /** The letter, at most 20,000 characters. */
  text: string
  /** The letter without its head lines. */
  body: string
  /** The letter and what tools have answered since. */
  everything: string
  /** Meaningful words of the letter, for choosing among options. */
  words: ReadonlySet<string>
  language: Language
  /** The subject line, or the first sentence that is no greeting. */
  subject: string
  firstSentence: string
  /** The sender line, or an empty string. */
  sender: string
}

const MAXIMUM_LENGTH = 20_000
const GREETING =
  /^(hallo|hi|hello|hey|dear|guten (tag|morgen|abend)|sehr geehrte|liebe[rs]?|moin|servus|good (morning|day|evening))\b/i
const HEAD_LINE = /^([\p{L}-]{2,30}):[ \t]*(.*)$/u

/**
 * Reads the user's words. A letter may be wrapped in a tag that stands on a line of its own (`<mail>…</mail>`), may be
 * a JSON object, may start with head lines (`Subject: …`); each form is unwrapped.
 */
export function readMaterial(asked: string, toolResults: readonly string[]): Material {
  const letter = unwrapTag(asked.slice(0, MAXIMUM_LENGTH))
  const { heads, body } = splitHeads(unwrapJson(letter))
  const firstSentence = firstSentenceOf(body)
  return {
    text: letter,
    body,
    everything: [letter, ...toolResults].join('\n').slice(0, 2 * MAXIMUM_LENGTH),
    words: meaningfulWords(letter),
    language: languageOf(body),
    subject: heads.get('subject') || heads.get('betreff') || firstSentence,
    firstSentence,
    sender: heads.get('from') || heads.get('von') || heads.get('sender') || '',
  }
}

function unwrapTag(text: string): string {
  return /^[ \t]*<([a-z][\w-]*)[^<>\n]*>[ \t]*\n([\s\S]+?)\n[ \t]*<\/\1>/im.exec(text)?.[2] ?? text
}

/** A JSON object becomes a letter: short strings are head lines, the longest text is the body. */
function unwrapJson(text: string): string {
  const parsed = text.trimStart().startsWith('{') ? parseJson(text) : undefined
  if (!isObject(parsed)) return text
  const entries = stringEntries(parsed)
  const [first] = entries
  if (first === undefined) return text
  const body = entries.reduce(
    (longest, entry) => (entry[1].length > longest[1].length ? entry : longest),
    first,
  )
  const heads = entries.filter((entry) => entry !== body && !entry[1].includes('\n'))
  return [...heads.map(([key, value]) => `${key}: ${value}`), '', body[1]].join('\n')
}

function stringEntries(value: object): [string, string][] {
  return Object.entries(value).flatMap(([key, inner]): [string, string][] => {
    if (typeof inner === 'string') return [[key, inner]]
    return isObject(inner) ? stringEntries(inner) : []
  })
}

function splitHeads(text: string): { heads: Map<string, string>; body: string } {
  const heads = new Map<string, string>()
  const lines = text.split(/\r?\n/)
  let index = 0
  for (; index < lines.length; index += 1) {
    const match = HEAD_LINE.exec(lines[index] ?? '')
    if (match === null) break
    heads.set((match[1] ?? '').toLowerCase(), (match[2] ?? '').trim())
  }
  const body = lines.slice(index).join('\n').trim()
  return { heads, body: body === '' ? text : body }
}

function firstSentenceOf(text: string): string {
  const lines = text.split('\n').map((line) => line.trim())
  const start = lines.findIndex((line) => line !== '' && !(GREETING.test(line) && line.length < 60))
  const paragraph = start < 0 ? text : lines.slice(start).join('\n').split('\n\n')[0]
  const flat = (paragraph ?? '').replace(/\s+/g, ' ').trim()
  return (/^.*?[.!?](?=\s+\p{Lu}|$)/u.exec(flat)?.[0] ?? flat).slice(0, 200)
}
