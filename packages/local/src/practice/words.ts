/** The languages the practice models can tell apart. */
export type Language = 'de' | 'en'

const ENGLISH =
  wordSet(`a about after all an and any are as at be been but by can could did do does for from had
  has have he her his how i if in into is it its just me more my no not of on one or our she so some than that the
  their them then there these they this to too up us was we were what when where which who why will with would you your`)

const GERMAN =
  wordSet(`aber alle als am an auch auf aus bei bin bis bitte da damit dann das dass dem den der des die
  dies diese dieser doch ein eine einem einen einer er es für hab habe haben hat hatte ich ihm ihn ihr ihre im in ist
  ja kann kein keine mein meine mich mir mit nach nicht noch nun nur ob oder schon sehr sein seine sich sie sind so
  über um und uns unser vom von vor war was wenn wer werden wie wir wird wo wurde zu zum zur`)

/** Words that stand in nearly every tool description and every letter, so that sharing one says nothing. */
const GENERIC =
  wordSet(`ask asks call contain contains customer data email false field get give given given input
  kunde kunden mail mails make message nachricht need only output person please return returns run set somebody
  someone something string text thing tool true use used user value want wanted wants whether`)

function wordSet(list: string): ReadonlySet<string> {
  return new Set(list.split(/\s+/))
}

/** Lower-case words of a text or an identifier (snake_case and camelCase are split); umlauts and accents stay. */
export function plainWords(text: string): string[] {
  return text
    .replace(/(\p{Ll})(\p{Lu})/gu, '$1 $2')
    .toLowerCase()
    .split(/[^\p{L}\p{N}]+/u)
    .filter((word) => word !== '')
}

/** The words that carry meaning, without endings, so that "refunds" meets "refund" and "Rechnungen" "Rechnung". */
export function meaningfulWords(text: string): Set<string> {
  const kept = plainWords(text).filter(
    (word) => word.length > 2 && !ENGLISH.has(word) && !GERMAN.has(word) && !GENERIC.has(word),
  )
  return new Set(kept.map(withoutEnding))
}

function withoutEnding(word: string): string {
  const stem = word.replace(/(ungen|ung|ings?|ies|ied|ed|es|en|er|em|e|n|s|y)$/u, '')
  return stem.length >= 4 ? stem : word
}

/** How much of the wanted words the text has, by their weights in it. */
export function overlap(wanted: ReadonlySet<string>, text: ReadonlyMap<string, number>): number {
  let shared = 0
  for (const word of wanted) shared += text.get(word) ?? 0
  return shared
}

/** The language whose function words are more frequent; English where neither leads. */
export function languageOf(text: string): Language {
  let lead = 0
  for (const word of plainWords(text)) {
    if (GERMAN.has(word)) lead += 1
    if (ENGLISH.has(word)) lead -= 1
  }
  return lead > 0 ? 'de' : 'en'
}
