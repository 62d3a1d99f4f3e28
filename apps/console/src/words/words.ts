import { de } from './de.ts'
import { en, type Words } from './en.ts'

/** The dictionary for a BCP 47 tag such as `de-AT`; English where there is none. */
export function wordsFor(tag: string): Words {
  return tag.toLowerCase().split('-')[0] === 'de' ? de : en
}

/** What the console says to this person. The language does not change while the page is open. */
export const words = wordsFor(navigator.language)
