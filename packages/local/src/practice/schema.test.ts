import fc from 'fast-check'
import { expect, test } from 'vitest'
import { z } from 'zod'
import { amountsIn, firstCode } from './extract.ts'
import type { JsonObject } from './json.ts'
import { readMaterial } from './material.ts'
import { exampleFor } from './pattern.ts'
import { fillSchema } from './schema.ts'

const GERMAN_MAIL = `From: "Jana Weber" <jana.weber@example.org>
Subject: Rückerstattung für Bestellung NW-20417

Guten Tag,

die bestellte Lampe kam am 12.03.2026 defekt an. Ich möchte die 1.249,00 € zurück.
Bestellnummer: NW-20417, zwei Fotos liegen bei.

Viele Grüße
Jana Weber`

const ENGLISH_MAIL = `Hi there,

When will my parcel arrive? I ordered 3 mugs for 49.90 EUR on 2026-03-02.

Thanks, Sam (sam@example.com)`

function fill(schema: z.ZodType, text: string): unknown {
  return schema.parse(fillSchema(z.toJSONSchema(schema), readMaterial(text, [])))
}

const Triage = z.object({
  category: z.union([
    z.literal('refund').describe('money back, Rückerstattung, Geld zurück, defekt'),
    z.literal('delivery').describe('parcel, shipping, arrive, Lieferung, Paket'),
    z.literal('other').describe('anything else'),
  ]),
  language: z.enum(['de', 'en']),
  summary: z.string(),
  order_number: z
    .string()
    .regex(/^NW-\d{5}$/)
    .nullable(),
  amount: z.number().min(0).max(2_000),
  quantity: z.int().min(1).optional(),
  sender_email: z.email(),
  wants_refund: z.boolean().describe('the money is to be paid back: refund, Rückerstattung'),
  reply: z.string().min(20),
  labels: z
    .array(z.enum(['a', 'b', 'c']))
    .min(2)
    .max(2),
})

test('a German letter fills a described schema', () => {
  expect(fill(Triage, GERMAN_MAIL)).toEqual({
    category: 'refund',
    language: 'de',
    summary: 'Rückerstattung für Bestellung NW-20417',
    order_number: 'NW-20417',
    amount: 1249,
    sender_email: 'jana.weber@example.org',
    wants_refund: true,
    reply: expect.stringContaining('„Rückerstattung für Bestellung NW-20417“'),
    labels: ['c', 'c'],
  })
})

test('an English letter fills the same schema, what it does not say stays empty', () => {
  expect(fill(Triage, ENGLISH_MAIL)).toEqual({
    category: 'delivery',
    language: 'en',
    summary: 'When will my parcel arrive?',
    order_number: null,
    amount: 49.9,
    quantity: 3,
    sender_email: 'sam@example.com',
    wants_refund: false,
    reply: expect.stringContaining(
      'thank you for your message about “When will my parcel arrive?”',
    ),
    labels: ['c', 'c'],
  })
})

test('a letter inside a tag or a JSON object is read like a plain one', () => {
  const Summary = z.object({ subject: z.string(), customer_name: z.string() })
  const wanted = { subject: 'Rückerstattung für Bestellung NW-20417', customer_name: 'Jana Weber' }
  expect(
    fill(Summary, `Classify this mail.\n<mail id="7">\n${GERMAN_MAIL}\n</mail>\nBe brief.`),
  ).toEqual(wanted)
  const asJson = {
    mail: {
      from: 'Jana Weber <j@example.org>',
      subject: wanted.subject,
      text: 'Guten Tag,\nbitte antworten Sie.',
    },
  }
  expect(fill(Summary, JSON.stringify(asJson))).toEqual(wanted)
})

test('values that come with the letter under the same name are taken over', () => {
  const Refund = z.object({
    order_number: z.string(),
    amount: z.number().max(500),
    to: z.email(),
    text: z.string(),
  })
  const mail = {
    id: 'a1b2@mx.example',
    from: { name: 'Jana', address: 'jana@example.org' },
    subject: 'Lampe',
    text: 'Sie ist defekt, 3 Fotos.',
  }
  const asked = `<data-1 name="input">\n${JSON.stringify({ mail, amount: 700 }, null, 1)}\n</data-1>`
  const results = `<data-1 name="result">\n${JSON.stringify({ order_number: 'NW-1', amount: 49.9 })}\n</data-1>`
  expect(fill(Refund, `${asked}\n\n${results}`)).toMatchObject({
    order_number: 'NW-1',
    amount: 49.9,
    to: 'jana@example.org',
  })
  expect(fill(Refund, results)).toMatchObject({ order_number: 'NW-1', amount: 49.9 })
})

test('nothing fitting: a catch-all stands last, null where allowed, else the smallest value', () => {
  const nothing = 'xyzzy'
  expect(fill(Triage.omit({ summary: true }), nothing)).toMatchObject({
    category: 'other',
    order_number: null,
    amount: 0,
    sender_email: 'nobody@example.com',
    wants_refund: false,
  })
  const Refund = z.object({
    refund: z.object({ amount: z.number() }).describe('refund to pay').nullable(),
  })
  expect(fill(Refund, 'Where is my parcel, 12 days late?')).toEqual({ refund: null })
  expect(fill(Refund, 'I want a refund of 12 EUR')).toEqual({ refund: { amount: 12 } })
})

test('references, recursion, merged and tuple schemas', () => {
  const schema: JsonObject = {
    type: 'object',
    properties: {
      node: { $ref: '#/$defs/node' },
      pair: { type: 'array', prefixItems: [{ type: 'integer' }, { const: 'x' }], minItems: 2 },
      both: {
        allOf: [
          { properties: { a: { const: 1 } }, required: ['a'] },
          { required: ['b'], properties: { b: { const: 2 } } },
        ],
      },
      set: {
        type: 'array',
        minItems: 2,
        uniqueItems: true,
        items: { enum: ['red', 'blue', 'green'] },
      },
    },
    required: ['node', 'pair', 'both', 'set', 'undeclared'],
    $defs: {
      node: {
        type: 'object',
        properties: {
          label: { const: 'n' },
          next: { anyOf: [{ $ref: '#/$defs/node' }, { type: 'null' }] },
        },
        required: ['label', 'next'],
      },
    },
  }
  expect(fillSchema(schema, readMaterial('a blue wall', []))).toEqual({
    node: { label: 'n', next: null },
    pair: [0, 'x'],
    both: { a: 1, b: 2 },
    set: ['blue', 'green'],
    undeclared: 'a blue wall',
  })
  const endless = {
    $ref: '#/$defs/a',
    $defs: { a: { type: 'object', properties: { a: { $ref: '#/$defs/a' } }, required: ['a'] } },
  }
  expect(JSON.stringify(fillSchema(endless, readMaterial('x', [])))).toContain('null')
})

test('numbers: German and English spelling, no parts of dates, times and codes', () => {
  const values = (text: string) => amountsIn(text).map(({ value }) => value)
  expect(values('49,90 € or 49.90 or 1.249,00 or $1,249.50 or 1.000.')).toEqual([
    49.9, 49.9, 1249, 1249.5, 1000,
  ])
  expect(values('on 12.03.2026 at 14:30, order A-1042, #77, 2026-03-12, v1.2.3, +49-30-1')).toEqual(
    [],
  )
  expect(firstCode('Mail of 2026-03-12: parcel "DHL-0034043" for you@example.com')).toBe(
    'DHL-0034043',
  )
})

test('amounts in minor units where the wording asks for cents', () => {
  const Refund = z.object({ amount_cents: z.int() })
  expect(fill(Refund, 'Order 4711: please pay back 49,90 €')).toEqual({ amount_cents: 4990 })
})

test('limits that a client has moved into the description are kept', () => {
  const schema = {
    type: 'object',
    properties: {
      days: { type: 'integer', description: 'Days to wait\n\n{minimum: 2, maximum: 9}' },
      code: { type: 'string', description: '{pattern: "^[a-z]+-[0-9]{2}$"}' },
    },
    required: ['days', 'code'],
  }
  expect(fillSchema(schema, readMaterial('in 1 or 3 days', []))).toEqual({
    days: 3,
    code: 'a-00',
  })
})

test('an example for a pattern satisfies it', () => {
  for (const pattern of [
    '^NW-\\d{5}$',
    '^[A-Z]{2,3}(?:-|_)[^a]+x?$',
    '^(foo|bar)\\.[\\w.]+@\\p{Lu}+$',
    '[0-9a-f]{8}',
  ]) {
    expect(exampleFor(pattern)).toMatch(new RegExp(pattern, 'u'))
  }
  expect(exampleFor('^(?=a)b')).toBeUndefined()
})

/** Schemas of every kind the filler knows, nested. */
const anySchema = fc.letrec<{ schema: z.ZodType }>((tie) => ({
  schema: fc.oneof(
    { maxDepth: 4 },
    fc.record({ least: fc.nat(30), more: fc.nat(20) }).map(({ least, more }) =>
      z
        .string()
        .min(least)
        .max(least + more),
    ),
    fc
      .record({ least: fc.integer({ min: -99, max: 99 }), more: fc.nat(50) })
      .map(({ least, more }) =>
        z
          .int()
          .min(least)
          .max(least + more),
      ),
    fc.record({ least: fc.integer({ min: -9, max: 9 }) }).map(({ least }) => z.number().gt(least)),
    fc.nat(12).map((step) =>
      z
        .number()
        .multipleOf(step + 1)
        .min(5),
    ),
    fc.constantFrom(
      z.boolean(),
      z.null(),
      z.email(),
      z.uuid(),
      z.iso.date(),
      z.iso.datetime(),
      z.url(),
    ),
    fc.constantFrom(
      ...['^[A-Z]{3}-\\d+$', '^\\+?\\d{4,}$'].map((pattern) =>
        z.string().regex(new RegExp(pattern)),
      ),
    ),
    fc
      .uniqueArray(fc.string({ minLength: 1 }), { minLength: 1, maxLength: 4 })
      .map((values) => z.enum(values)),
    tie('schema').map((inner) => z.nullable(inner)),
    fc.tuple(tie('schema'), fc.nat(3)).map(([inner, least]) => z.array(inner).min(least)),
    fc.array(tie('schema'), { minLength: 1, maxLength: 3 }).map((options) => z.union(options)),
    fc
      .dictionary(
        fc.constantFrom('name', 'order_id', 'amount', 'reply', 'x'),
        fc.tuple(tie('schema'), fc.boolean()),
      )
      .map((shape) =>
        z.object(
          Object.fromEntries(
            Object.entries(shape).map(([key, [inner, must]]) => [
              key,
              must ? inner : inner.optional(),
            ]),
          ),
        ),
      ),
  ),
})).schema

test('whatever the schema and the text, the answer validates and is the same again', () => {
  const texts = fc.oneof(
    fc.string(),
    fc
      .dictionary(fc.constantFrom('name', 'order_id', 'amount', 'reply', 'x'), fc.jsonValue())
      .map((value) => JSON.stringify(value)),
    fc.constantFrom(GERMAN_MAIL, ENGLISH_MAIL, '', '{"a":{"b":"c"}}', '<m>\n\n</m>'),
  )
  fc.assert(
    fc.property(anySchema, texts, (schema, text) => {
      const asJson = z.toJSONSchema(schema)
      const filled = fillSchema(asJson, readMaterial(text, []))
      expect(schema.safeParse(filled).error).toBeUndefined()
      expect(fillSchema(asJson, readMaterial(text, []))).toEqual(filled)
    }),
    { numRuns: 500 },
  )
})
