import { firstCode, firstDate, firstEmail, firstMatch, firstUrl } from './extract.ts'
import { type JsonObject, numberOf, stringOf } from './json.ts'
import type { Material } from './material.ts'
import { compile, exampleFor } from './pattern.ts'
import { plainWords } from './words.ts'

/** What a string property is about, told from its name or description. */
type Role =
  | 'code'
  | 'currency'
  | 'date'
  | 'email'
  | 'language'
  | 'reply'
  | 'sender'
  | 'subject'
  | 'url'

/** One word of a property's name; the last one that fits decides, as compounds carry their head at the end. */
const NAMED: readonly [Role, RegExp][] = [
  ['code', /^(code|id|nr|number|nummer|\p{L}+nummer|reference|referenz)$/u],
  ['currency', /^(currency|währung|waehrung)$/],
  ['date', /^(date|datum|day|tag)$/],
  ['email', /^(email|mail|to|recipient|empfänger|absender)$/],
  ['language', /^(language|sprache|lang|locale)$/],
  ['reply', /^(reply|answer|antwort|message|nachricht|body|draft|entwurf|response|comment)$/],
  ['sender', /^(name|sender|customer|kunde)$/],
  ['subject', /^(subject|betreff|title|titel|summary|zusammenfassung|headline|topic|thema)$/],
  ['url', /^(url|link|website)$/],
]

/** The same in a description, where the first one that fits decides. */
const DESCRIBED: readonly [Role, RegExp][] = [
  ['code', /\b(order|invoice|ticket|tracking|customer) (number|id|code)\b|nummer\b/i],
  ['currency', /\bcurrency\b|währung/i],
  ['date', /\b(date|datum)\b/i],
  ['email', /\be-?mail[ -]?(address|adresse)\b|\bmailadresse\b/i],
  ['language', /\b(language|sprache)\b/i],
  ['reply', /\b(reply|answer|antwort|draft|entwurf|message to|nachricht an)/i],
  ['subject', /\b(subject|betreff|summary|summari[sz]e|zusammenfassung|title|titel)\b/i],
]

/** A string the text offers for this schema, or undefined where it says nothing fitting. */
export function stringFrom(
  schema: JsonObject,
  name: string,
  material: Material,
): string | undefined {
  const pattern = typeof schema.pattern === 'string' ? compile(schema.pattern) : undefined
  const byFormat = fromFormat(stringOf(schema.format), material)
  if (typeof byFormat === 'string' && pattern?.test(byFormat) !== false) return byFormat
  if (byFormat !== false) return undefined
  if (pattern !== undefined) return firstMatch(material.everything, pattern)
  const found = fromRole(roleOf(name, stringOf(schema.description)), material)
  return found === undefined ? undefined : fitLength(found, schema)
}

/** A string that validates although the text offers none. */
export function stringWithout(schema: JsonObject): string {
  const example = FORMAT_EXAMPLES[stringOf(schema.format)] ?? ''
  if (typeof schema.pattern !== 'string') return fitLength(example, schema)
  return compile(schema.pattern)?.test(example) === true
    ? example
    : (exampleFor(schema.pattern) ?? '')
}

const FORMAT_EXAMPLES: { readonly [format: string]: string } = {
  date: '1970-01-01',
  'date-time': '1970-01-01T00:00:00Z',
  email: 'nobody@example.com',
  time: '00:00:00Z',
  uri: 'https://example.com/',
  url: 'https://example.com/',
  uuid: '00000000-0000-4000-8000-000000000000',
}

/** False where the format says nothing about the content. */
function fromFormat(format: string, material: Material): string | undefined | false {
  const text = material.everything
  if (format === 'email') return material.sender.address || firstEmail(text)
  if (format === 'uri' || format === 'url') return firstUrl(text)
  if (format === 'date') return firstDate(text)
  if (format === 'date-time') {
    const date = firstDate(text)
    return date === undefined ? undefined : `${date}T00:00:00Z`
  }
  if (format === 'uuid') return /\b[\da-f]{8}(?:-[\da-f]{4}){3}-[\da-f]{12}\b/i.exec(text)?.[0]
  return format === 'time' ? undefined : false
}

function roleOf(name: string, description: string): Role | undefined {
  for (const word of plainWords(name).reverse()) {
    const named = NAMED.find(([, pattern]) => pattern.test(word))
    if (named !== undefined) return named[0]
  }
  const described = DESCRIBED.map(([role, pattern]) => ({ role, at: description.search(pattern) }))
  return described.filter(({ at }) => at >= 0).sort((left, right) => left.at - right.at)[0]?.role
}

function fromRole(role: Role | undefined, material: Material): string | undefined {
  switch (role) {
    case 'code':
      return firstCode(material.everything)
    case 'currency':
      return currencyIn(material.everything)
    case 'date':
      return firstDate(material.everything)
    case 'email':
      return material.sender.address || firstEmail(material.everything)
    case 'language':
      return material.language
    case 'reply':
      return politeDraft(material)
    case 'sender':
      return material.sender.name || undefined
    case 'subject':
      return material.subject
    case 'url':
      return firstUrl(material.everything)
    case undefined:
      return material.firstSentence || undefined
  }
}

function currencyIn(text: string): string | undefined {
  const sign = /€|\$|£|\b(?:EUR|Euro|USD|CHF|GBP)\b/i.exec(text)?.[0]?.toUpperCase()
  const codes: { readonly [sign: string]: string } = {
    '€': 'EUR',
    EURO: 'EUR',
    $: 'USD',
    '£': 'GBP',
  }
  return sign === undefined ? undefined : (codes[sign] ?? sign)
}

/** A short letter in the language of the text that names its subject. */
export function politeDraft({ language, subject }: Material): string {
  if (language === 'de') {
    return `Guten Tag,\n\nvielen Dank für Ihre Nachricht zu „${subject}“. Wir kümmern uns darum und melden uns bei Ihnen.\n\nMit freundlichen Grüßen`
  }
  return `Hello,\n\nthank you for your message about “${subject}”. We are looking into it and will get back to you.\n\nKind regards`
}

/** Cuts between characters, pads with full stops. */
function fitLength(text: string, schema: JsonObject): string {
  const most = numberOf(schema.maxLength) ?? Number.POSITIVE_INFINITY
  let fitting = ''
  for (const character of text) {
    if (fitting.length + character.length > most) break
    fitting += character
  }
  return fitting.padEnd(numberOf(schema.minLength) ?? 0, '.')
}
