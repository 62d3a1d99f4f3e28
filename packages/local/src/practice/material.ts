import { isObject, parseJson } from './json.ts'
import { type Language, languageOf, meaningfulWords } from './words.ts'

/** What a practice answer is made from: the last thing the user said, read as a letter. */
export interface Material {
  /** The letter without its head lines. */
  body: string
  /** The letter, then whatever else came with it: other blocks, tool results. */
  everything: string
  /** Meaningful words with their weights, for choosing: one for the body, two more each for the subject and for extras. */
  words: ReadonlyMap<string, number>
  /** Subject and body. */
  letter: string
  language: Language
  /** The subject line, or the first sentence that is no greeting. */
  subject: string
  firstSentence: string
  /** Name and address of the sender; empty where unknown. */
  sender: { name: string; address: string }
  /** Numbers, truth values and short strings by the name they have in JSON that came along, in its order. */
  fields: ReadonlyMap<string, readonly unknown[]>
}

const MAXIMUM_LENGTH = 20_000
/** Longer strings are texts, not fields. */
const MAXIMUM_FIELD = 200
const GREETING =
  /^(hallo|hi|hello|hey|dear|guten (tag|morgen|abend)|sehr geehrte|liebe[rs]?|moin|servus|good (morning|day|evening))\b/i
const HEAD_LINE = /^([\p{L}-]{2,30}):[ \t]*(.*)$/u
const BODY_NAMES = ['text', 'body', 'content', 'message', 'nachricht']

/**
 * Reads the user's words. A letter may be wrapped in a tag that stands on lines of its own (`<mail>…</mail>`; further
 * such blocks are extras), may be a JSON object, may start with head lines (`Subject: …`); each form is unwrapped.
 */
export function readMaterial(asked: string, toolResults: readonly string[]): Material {
  const [letter = asked.slice(0, MAXIMUM_LENGTH), ...blocks] = taggedBlocks(asked)
  const { heads, body, rest } = readLetter(letter)
  const extras = [...blocks, ...toolResults].map((text) => text.slice(0, MAXIMUM_LENGTH))
  const firstSentence = firstSentenceOf(body)
  const subject = heads.get('subject') || heads.get('betreff') || ''
  const own = `${subject}\n${body}`.trim()
  const findings = [...readFields(extras).values()]
    .flat()
    .filter((value) => typeof value === 'string')
  return {
    body,
    everything: [own, ...rest, ...extras.flatMap(textsOf)].join('\n'),
    words: weighted([
      [body, 1],
      [subject, 2],
      [findings.join(' '), 2],
    ]),
    letter: own,
    language: languageOf(own),
    subject: subject || firstSentence,
    firstSentence,
    sender: readSender(heads),
    fields: readFields([letter, ...extras]),
  }
}

function weighted(sources: readonly (readonly [string, number])[]): Map<string, number> {
  const words = new Map<string, number>()
  for (const [text, weight] of sources) {
    for (const word of meaningfulWords(text)) words.set(word, (words.get(word) ?? 0) + weight)
  }
  return words
}

/** The contents of blocks whose tags stand on lines of their own. */
export function taggedBlocks(text: string): string[] {
  const block = /^[ \t]*<([a-z][\w-]*)[^<>\n]*>[ \t]*\n([\s\S]*?)\n?[ \t]*<\/\1>/gim
  return [...text.matchAll(block)].map((match) => (match[2] ?? '').slice(0, MAXIMUM_LENGTH))
}

interface Letter {
  heads: ReadonlyMap<string, string>
  body: string
  /** Strings of a JSON letter that are neither. */
  rest: readonly string[]
}

function readLetter(text: string): Letter {
  const parsed = text.trimStart().startsWith('{') ? parseJson(text) : undefined
  const leaves = leavesOf(parsed).flatMap(({ path, value }) =>
    typeof value === 'string' ? [{ path, value }] : [],
  )
  const [first] = leaves
  if (first === undefined) return plainLetter(text)
  const longest = leaves.reduce(
    (best, leaf) => (leaf.value.length > best.value.length ? leaf : best),
    first,
  )
  const body = leaves.find(({ path }) => BODY_NAMES.includes(lastOf(path))) ?? longest
  const heads = new Map(
    leaves.map(({ path, value }): [string, string] => [path.slice(-2).join('.'), value]).reverse(),
  )
  for (const { path, value } of leaves.toReversed())
    if (path.length > 1) heads.set(lastOf(path), value)
  return {
    heads,
    body: body.value,
    rest: leaves.filter((leaf) => leaf !== body).map(({ value }) => value),
  }
}

function plainLetter(text: string): Letter {
  const heads = new Map<string, string>()
  const lines = text.split(/\r?\n/)
  let index = 0
  for (; index < lines.length; index += 1) {
    const match = HEAD_LINE.exec(lines[index] ?? '')
    if (match === null) break
    heads.set((match[1] ?? '').toLowerCase(), (match[2] ?? '').trim())
  }
  const body = lines.slice(index).join('\n').trim()
  return { heads, body: body === '' ? text : body, rest: [] }
}

function readSender(heads: ReadonlyMap<string, string>): { name: string; address: string } {
  const line = heads.get('from') || heads.get('von') || heads.get('sender') || ''
  const address = heads.get('from.address') || /[^\s<>"]+@[^\s<>"]+/.exec(line)?.[0] || ''
  const name =
    heads.get('from.name') ||
    line
      .replace(/<[^>]*>/, '')
      .replaceAll('"', '')
      .trim()
  return { name: name === address ? '' : name, address }
}

interface Leaf {
  path: readonly string[]
  value: unknown
}

/** Everything in a JSON value that is neither object nor list, at most 12 levels deep. */
function leavesOf(value: unknown, path: readonly string[] = []): Leaf[] {
  if (path.length > 12) return []
  if (Array.isArray(value)) return value.flatMap((inner) => leavesOf(inner, path))
  if (isObject(value))
    return Object.entries(value).flatMap(([key, inner]) => leavesOf(inner, [...path, key]))
  return value === undefined ? [] : [{ path, value }]
}

function lastOf(path: readonly string[]): string {
  return path.at(-1)?.toLowerCase() ?? ''
}

function readFields(texts: readonly string[]): Map<string, unknown[]> {
  const fields = new Map<string, unknown[]>()
  for (const { path, value } of texts.flatMap((text) => leavesOf(parseJson(text)))) {
    const name = path.at(-1)
    const isText =
      typeof value === 'string' && (value.length > MAXIMUM_FIELD || value.includes('\n'))
    if (name === undefined || value === null || isText || BODY_NAMES.includes(lastOf(path)))
      continue
    fields.set(name, [...(fields.get(name) ?? []), value])
  }
  return fields
}

function textsOf(text: string): string[] {
  const parsed = parseJson(text)
  if (parsed === undefined) return [text]
  return leavesOf(parsed).flatMap(({ value }) => (typeof value === 'string' ? [value] : []))
}

function firstSentenceOf(text: string): string {
  const lines = text.split('\n').map((line) => line.trim())
  const start = lines.findIndex((line) => line !== '' && !(GREETING.test(line) && line.length < 60))
  const paragraph = start < 0 ? text : lines.slice(start).join('\n').split('\n\n')[0]
  const flat = (paragraph ?? '').replace(/\s+/g, ' ').trim()
  return (/^.*?[.!?](?=\s+\p{Lu}|$)/u.exec(flat)?.[0] ?? flat).slice(0, 200)
}
