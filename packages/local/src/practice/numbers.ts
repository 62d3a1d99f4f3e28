import { type Amount, amountsIn } from './extract.ts'
import { type JsonObject, numberOf, stringOf } from './json.ts'
import type { Material } from './material.ts'
import { plainWords } from './words.ts'

const MONEY = /\b(amount|price|cost|total|sum|refund|budget|betrag|preis|summe|erstattung)/i

/**
 * The first number of the text that validates. Where the wording speaks of money only sums of money count, written
 * with a currency or with decimals; else a number takes money first, a whole number takes none. Cents are counted
 * where the wording asks for them.
 */
export function numberFrom(
  schema: JsonObject,
  name: string,
  material: Material,
): number | undefined {
  const about = `${plainWords(name).join(' ')} ${stringOf(schema.description)}`
  const cents = /\bcents?\b/i.test(about)
  const values = inOrder(amountsIn(material.everything), {
    whole: isWhole(schema),
    money: cents || MONEY.test(about),
  }).map(({ value }) => (cents ? Math.round(value * 100) : value))
  return values.find((value) => isAllowedNumber(schema, value))
}

function inOrder(amounts: readonly Amount[], wanted: { whole: boolean; money: boolean }): Amount[] {
  const money = amounts.filter((amount) => amount.money)
  const others = amounts.filter((amount) => !amount.money)
  if (wanted.money) return [...money, ...others.filter((amount) => amount.decimals)]
  return wanted.whole ? others : [...money, ...others]
}

/** The smallest number that validates, zero where there is no lower limit. */
export function numberWithout(schema: JsonObject): number {
  const step = numberOf(schema.multipleOf) ?? (isWhole(schema) ? 1 : 0.5)
  const least = numberOf(schema.minimum)
  const above = numberOf(schema.exclusiveMinimum)
  const candidates = [
    least,
    above === undefined ? undefined : (Math.floor(above / step) + 1) * step,
    0,
    numberOf(schema.maximum),
    Math.ceil((least ?? 0) / step) * step,
  ]
  return candidates.find((value) => value !== undefined && isAllowedNumber(schema, value)) ?? 0
}

/** True if the number keeps within the limits of the schema. */
export function isAllowedNumber(schema: JsonObject, value: number): boolean {
  const step = numberOf(schema.multipleOf)
  return (
    (!isWhole(schema) || Number.isInteger(value)) &&
    value >= (numberOf(schema.minimum) ?? Number.NEGATIVE_INFINITY) &&
    value <= (numberOf(schema.maximum) ?? Number.POSITIVE_INFINITY) &&
    value > (numberOf(schema.exclusiveMinimum) ?? Number.NEGATIVE_INFINITY) &&
    value < (numberOf(schema.exclusiveMaximum) ?? Number.POSITIVE_INFINITY) &&
    (step === undefined || Math.abs(value / step - Math.round(value / step)) < 1e-9)
  )
}

function isWhole(schema: JsonObject): boolean {
  return (
    schema.type === 'integer' || (Array.isArray(schema.type) && !schema.type.includes('number'))
  )
}
