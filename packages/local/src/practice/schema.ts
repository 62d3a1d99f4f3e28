import { isObject, type JsonObject, numberOf, objectsOf, stringOf } from './json.ts'
import { withDescribedLimits } from './limits.ts'
import type { Material } from './material.ts'
import { isAllowedNumber, numberFrom, numberWithout } from './numbers.ts'
import { compile } from './pattern.ts'
import { stringFrom, stringWithout } from './strings.ts'
import { meaningfulWords, overlap, plainWords } from './words.ts'

/** Beyond this depth a recursive schema is no longer followed into what is optional or may be null. */
const OPTIONAL_DEPTH = 6
/** Beyond this depth a schema that requires itself is given up. */
const MAXIMUM_DEPTH = 32
/** Longest chain of references that is followed. */
const MAXIMUM_HOPS = 16

/** Longest string that is taken over from a field as it is. */
const MAXIMUM_FIELD = 200

/** One place in the answer that is to be filled. */
interface Place {
  schema: JsonObject
  name: string
  depth: number
}

/**
 * A value that validates against the JSON schema, made from the text: choices by shared words, strings and numbers by
 * extraction, what the text does not offer as null, left out or smallest. The same input gives the same value.
 */
export function fillSchema(schema: unknown, material: Material): unknown {
  const root = isObject(schema) ? schema : {}
  return new Filler(root, material).fill({ schema: root, name: '', depth: 0 })
}

class Filler {
  readonly #root: JsonObject
  readonly #material: Material

  constructor(root: JsonObject, material: Material) {
    this.#root = root
    this.#material = material
  }

  fill(place: Place): unknown {
    if (place.depth > MAXIMUM_DEPTH) return null
    const found = this.#find(place)
    return found === undefined ? this.#smallest(place) : found
  }

  /** What the text offers for this place, or undefined. */
  #find(place: Place): unknown {
    const schema = this.#resolve(place.schema)
    if ('const' in schema) return schema.const
    const given = this.#material.fields.get(place.name) ?? []
    const { enum: values } = schema
    if (Array.isArray(values)) {
      return (
        given.find((value) => values.includes(value)) ??
        this.#chooseFromEnum(values, schema, place.name)
      )
    }
    const options = optionsOf(schema)
    if (options.length > 0) return this.#findInOptions(schema, options, place)
    const types = typesOf(schema)
    const fitting = given.find((value) => isOfType(value, types) && fits(schema, value))
    if (fitting !== undefined) return fitting
    if (types.includes('object')) return this.#object(schema, place)
    if (types.includes('array')) return this.#array(schema, place)
    if (types.includes('boolean')) return this.#boolean(schema, place.name)
    if (types.includes('number') || types.includes('integer'))
      return numberFrom(schema, place.name, this.#material)
    if (types.includes('string')) return stringFrom(schema, place.name, this.#material)
    return undefined
  }

  /** A value that validates where the text offers none. */
  #smallest(place: Place): unknown {
    const schema = this.#resolve(place.schema)
    const options = optionsOf(schema)
    const types = typesOf(schema)
    if (types.includes('null') || options.some((option) => isNull(this.#resolve(option))))
      return null
    const last = options.at(-1)
    if (last !== undefined) return this.fill({ ...place, schema: last })
    if (types.includes('number') || types.includes('integer')) return numberWithout(schema)
    return stringWithout(schema)
  }

  #chooseFromEnum(values: unknown[], schema: JsonObject, name: string): unknown {
    const about = `${name} ${stringOf(schema.description)}`
    const spoken = values.find((value) => this.#isLanguageOfText(value))
    const areLanguages = values.length > 1 && values.filter(isLanguageName).length > 1
    if (spoken !== undefined && (areLanguages || /language|sprache|lang|locale/i.test(about)))
      return spoken
    return this.#closest(values, (value) => [stringOf(value)])
  }

  #isLanguageOfText(value: unknown): boolean {
    const names = { de: ['de', 'deutsch', 'german'], en: ['en', 'englisch', 'english'] }
    const [first = ''] = plainWords(stringOf(value))
    return names[this.#material.language].includes(first)
  }

  #findInOptions(schema: JsonObject, options: JsonObject[], place: Place): unknown {
    const real = options.map((option) => this.#resolve(option)).filter((option) => !isNull(option))
    const nullable = real.length < options.length
    if (nullable && place.depth >= OPTIONAL_DEPTH) return undefined
    const given = this.#material.fields.get(place.name) ?? []
    const chosen =
      real.find((option) => 'const' in option && given.includes(option.const)) ??
      real.find((option) => isLanguageName(option.const) && this.#isLanguageOfText(option.const)) ??
      this.#closest(real, (option) => [stringOf(option.const), this.#wording(option, 2)])
    if (chosen === undefined) return undefined
    const decisive = 'const' in chosen || typesOf(chosen).includes('object')
    if (nullable && decisive && !this.#isMentioned(chosen, place.name)) return undefined
    const { anyOf: _anyOf, oneOf: _oneOf, ...common } = schema
    return this.#find({
      ...place,
      schema: isObject(common.properties) ? merged(common, chosen) : chosen,
    })
  }

  /** True if the letter shares a word with what the schema says about itself. */
  #isMentioned(schema: JsonObject, name: string): boolean {
    return overlap(meaningfulWords(`${name} ${this.#wording(schema, 2)}`), this.#material.words) > 0
  }

  /**
   * The option that shares most words with the letter; among equals the last, so that a catch-all stands last. A word
   * counts once in each of the wordings, so one that is also the option's value counts twice.
   */
  #closest<Option>(
    options: readonly Option[],
    wordings: (option: Option) => string[],
  ): Option | undefined {
    let best: { option: Option; score: number } | undefined
    for (const option of options) {
      const scores = wordings(option).map((wording) =>
        overlap(meaningfulWords(wording), this.#material.words),
      )
      const score = scores.reduce((sum, each) => sum + each, 0)
      if (best === undefined || score >= best.score) best = { option, score }
    }
    return best?.option
  }

  /** All that an option says about itself: its value, title, description, and those of its properties. */
  #wording(option: JsonObject, depth: number): string {
    const schema = this.#resolve(option)
    const own = [schema.const, schema.title, schema.description, ...listOf(schema.enum)]
    const inner =
      depth > 0 && isObject(schema.properties) ? objectsOf(Object.values(schema.properties)) : []
    const words = [
      ...own.map((value) => stringOf(value)),
      ...inner.map((each) => this.#wording(each, depth - 1)),
    ]
    return words.join(' ')
  }

  #object(schema: JsonObject, { depth }: Place): JsonObject {
    const required = new Set(listOf(schema.required).map((name) => stringOf(name)))
    const properties = isObject(schema.properties) ? schema.properties : {}
    const filled: JsonObject = {}
    for (const name of new Set([...Object.keys(properties), ...required])) {
      const inner = properties[name]
      const place = { schema: isObject(inner) ? inner : {}, name, depth: depth + 1 }
      if (required.has(name)) filled[name] = this.fill(place)
      else if (depth < OPTIONAL_DEPTH) {
        const found = this.#isUnmentionedObject(place) ? undefined : this.#find(place)
        if (found !== undefined) filled[name] = found
      }
    }
    return filled
  }

  #isUnmentionedObject({ schema, name }: Place): boolean {
    const resolved = this.#resolve(schema)
    return typesOf(resolved).includes('object') && !this.#isMentioned(resolved, name)
  }

  #array(schema: JsonObject, { name, depth }: Place): unknown[] {
    const tuple = objectsOf(schema.prefixItems)
    const count = Math.min(numberOf(schema.minItems) ?? tuple.length, 1_000)
    const item = isObject(schema.items) ? schema.items : {}
    let choices = listOf(this.#resolve(item).enum)
    return Array.from({ length: count }, (_, index) => {
      if (tuple[index] === undefined && schema.uniqueItems === true && choices.length > 0) {
        const chosen = this.#closest(choices, (value) => [stringOf(value)])
        choices = choices.filter((value) => value !== chosen)
        return chosen
      }
      return this.fill({ schema: tuple[index] ?? item, name, depth: depth + 1 })
    })
  }

  #boolean(schema: JsonObject, name: string): boolean {
    const about = meaningfulWords(`${name} ${stringOf(schema.description)}`)
    return overlap(about, this.#material.words) > 0
  }

  /** Follows `$ref`, merges `allOf`, and takes limits out of the description. */
  #resolve(schema: JsonObject, hops = 0): JsonObject {
    if (typeof schema.$ref === 'string' && hops < MAXIMUM_HOPS) {
      const { $ref, ...beside } = schema
      return this.#resolve({ ...this.#target(schema.$ref), ...beside }, hops + 1)
    }
    if (hops >= MAXIMUM_HOPS) return {}
    const parts = objectsOf(schema.allOf).map((part) => this.#resolve(part, hops + 1))
    const whole = parts.reduce(
      merged,
      parts.length === 0 ? schema : { ...schema, allOf: undefined },
    )
    return withDescribedLimits(whole)
  }

  #target(reference: string): JsonObject {
    let target: unknown = this.#root
    for (const step of reference.replace(/^#\/?/, '').split('/')) {
      if (step === '') continue
      const key = decodeURIComponent(step).replaceAll('~1', '/').replaceAll('~0', '~')
      target = isObject(target) ? target[key] : undefined
    }
    return isObject(target) ? target : {}
  }
}

function merged(left: JsonObject, right: JsonObject): JsonObject {
  const properties = {
    ...(isObject(left.properties) && left.properties),
    ...(isObject(right.properties) && right.properties),
  }
  const required = [...listOf(left.required), ...listOf(right.required)]
  return { ...left, ...right, properties, required }
}

function optionsOf(schema: JsonObject): JsonObject[] {
  return [...objectsOf(schema.anyOf), ...objectsOf(schema.oneOf)]
}

function typesOf(schema: JsonObject): string[] {
  if (typeof schema.type === 'string') return [schema.type]
  if (Array.isArray(schema.type)) return schema.type.map((type) => stringOf(type))
  if (isObject(schema.properties) || Array.isArray(schema.required)) return ['object']
  return 'items' in schema || 'prefixItems' in schema ? ['array'] : ['string']
}

function isOfType(value: unknown, types: readonly string[]): boolean {
  if (typeof value === 'number')
    return types.includes('number') || (types.includes('integer') && Number.isInteger(value))
  return (typeof value === 'string' || typeof value === 'boolean') && types.includes(typeof value)
}

/** True if a value of the right type also keeps within the limits of the schema. */
function fits(schema: JsonObject, value: unknown): boolean {
  if (typeof value === 'number') return isAllowedNumber(schema, value)
  if (typeof value !== 'string') return true
  const pattern = typeof schema.pattern === 'string' ? compile(schema.pattern) : undefined
  const { minLength = 0, maxLength = MAXIMUM_FIELD } = {
    minLength: numberOf(schema.minLength),
    maxLength: numberOf(schema.maxLength),
  }
  const isFree = schema.format === undefined || pattern !== undefined
  return (
    isFree &&
    pattern?.test(value) !== false &&
    value.length >= minLength &&
    value.length <= maxLength
  )
}

function isNull(schema: JsonObject): boolean {
  return schema.type === 'null' || ('const' in schema && schema.const === null)
}

function isLanguageName(value: unknown): boolean {
  return /^(de|en|fr|es|it|nl|deutsch|englisch|german|english|french)([-_].*)?$/i.test(
    stringOf(value),
  )
}

function listOf(value: unknown): unknown[] {
  return Array.isArray(value) ? value : []
}
