import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Json, openShop, refusal, type Shop } from './actors.ts'
import { createTenant, type Tenant } from './tenant.ts'

let shop: Shop
let tenant: Tenant
beforeAll(async () => {
  shop = await openShop()
  tenant = await createTenant(shop)
})
afterAll(() => shop.close())

/** [schema, value, what is wrong or null]. */
type Case = [schema: Json, value: Json, violation: string | null]

const cases: Record<string, Case[]> = {
  type: [
    [{ type: 'string' }, 'a', null],
    [{ type: 'string' }, 1, '$ is number, wanted string'],
    [{ type: 'integer' }, 1, null],
    [{ type: 'integer' }, 1.5, '$ is number, wanted integer'],
    [{ type: 'integer' }, '1', '$ is string, wanted integer'],
    [{ type: 'number' }, 1.5, null],
    [{ type: 'boolean' }, false, null],
    [{ type: 'boolean' }, null, '$ is null, wanted boolean'],
    [{ type: 'null' }, null, null],
    [{ type: 'object' }, [], '$ is array, wanted object'],
    [{ type: 'array' }, {}, '$ is object, wanted array'],
    [{ type: ['string', 'null'] }, null, null],
    [{ type: ['string', 'null'] }, 1, '$ is number, wanted ["string", "null"]'],
  ],
  'true and false': [
    [true, { any: 'thing' }, null],
    [false, 1, '$ is not allowed'],
    [{}, [1, 'a', null], null],
  ],
  const: [
    [{ const: { a: 1 } }, { a: 1 }, null],
    [{ const: { a: 1 } }, { a: 1, b: 2 }, '$ must be {"a": 1}'],
    [{ const: null }, 0, '$ must be null'],
  ],
  enum: [
    [{ enum: ['a', 1, null] }, null, null],
    [{ enum: ['a', 1] }, 'b', '$ must be one of ["a", 1]'],
    [{ enum: [{ a: 1, b: 2 }] }, { a: 1 }, '$ must be one of [{"a": 1, "b": 2}]'],
    [{ enum: [[1, 2]] }, [1], '$ must be one of [[1, 2]]'],
  ],
  required: [
    [{ required: ['a'] }, { a: null }, null],
    [{ required: ['a', 'b'] }, { a: 1 }, '$.b is missing'],
    [{ required: ['a'] }, 'not an object', null],
  ],
  properties: [
    [{ properties: { a: { type: 'string' } } }, { a: 'x', b: 1 }, null],
    [{ properties: { a: { type: 'string' } } }, { a: 1 }, '$.a is number, wanted string'],
    [
      { properties: { a: { properties: { b: { type: 'null' } } } } },
      { a: { b: 1 } },
      '$.a.b is number, wanted null',
    ],
    [{ properties: { a: false } }, { a: 1 }, '$.a is not allowed'],
  ],
  additionalProperties: [
    [{ properties: { a: true }, additionalProperties: false }, { a: 1 }, null],
    [
      { properties: { a: true }, additionalProperties: false },
      { a: 1, b: 1 },
      '$.b is not allowed',
    ],
    [{ additionalProperties: { type: 'number' } }, { b: 'x' }, '$.b is string, wanted number'],
  ],
  items: [
    [{ items: { type: 'number' } }, [1, 2], null],
    [{ items: { type: 'number' } }, [1, 'x'], '$[1] is string, wanted number'],
    [{ items: { items: { const: 1 } } }, [[1], [1, 2]], '$[1][1] must be 1'],
  ],
  'minItems, maxItems': [
    [{ minItems: 1 }, [], '$ has 0 items, wanted at least 1'],
    [{ minItems: 1, maxItems: 2 }, [1, 2], null],
    [{ maxItems: 2 }, [1, 2, 3], '$ has 3 items, wanted at most 2'],
  ],
  'minLength, maxLength': [
    [{ minLength: 2 }, 'a', '$ has 1 characters, wanted at least 2'],
    [{ maxLength: 2 }, 'äß', null],
    [{ maxLength: 1 }, '👍', null],
    [{ maxLength: 2 }, 'abc', '$ has 3 characters, wanted at most 2'],
  ],
  pattern: [
    [{ pattern: '^[a-z]+$' }, 'abc', null],
    [{ pattern: '^[a-z]+$' }, 'ab1', '$ does not match the pattern ^[a-z]+$'],
    [{ pattern: 'b' }, 'abc', null],
  ],
  'minimum, maximum': [
    [{ minimum: 1, maximum: 2 }, 1, null],
    [{ minimum: 1 }, 0.5, '$ is 0.5, wanted at least 1'],
    [{ maximum: 2 }, 2.1, '$ is 2.1, wanted at most 2'],
  ],
  'exclusiveMinimum, exclusiveMaximum': [
    [{ exclusiveMinimum: 1 }, 1.01, null],
    [{ exclusiveMinimum: 1 }, 1, '$ is 1, wanted more than 1'],
    [{ exclusiveMaximum: 2 }, 2, '$ is 2, wanted less than 2'],
  ],
  anyOf: [
    [{ anyOf: [{ type: 'string' }, { minimum: 5 }] }, 7, null],
    [{ anyOf: [{ type: 'string' }, { type: 'null' }] }, 7, '$ fits none of the allowed shapes'],
  ],
  oneOf: [
    [{ oneOf: [{ type: 'string' }, { type: 'number' }] }, 7, null],
    [{ oneOf: [{ type: 'string' }] }, 7, '$ fits none of the allowed shapes'],
    [{ oneOf: [{ minimum: 1 }, { minimum: 2 }] }, 7, '$ fits more than one of the allowed shapes'],
    [
      { oneOf: [{ type: 'number' }], anyOf: [{ type: 'string' }] },
      7,
      '$ fits none of the allowed shapes',
    ],
  ],
  allOf: [
    [{ allOf: [{ minimum: 1 }, { maximum: 9 }] }, 7, null],
    [{ allOf: [{ minimum: 1 }, { maximum: 5 }] }, 7, '$ is 7, wanted at most 5'],
  ],
  annotations: [
    [
      { title: 't', description: 'd', default: 1, examples: [1], format: 'email', $id: 'x' },
      'no email',
      null,
    ],
  ],
}

describe.each(Object.entries(cases))('%s', (_keyword, rows) => {
  test.each(rows)('%j accepts or refuses %j', async (schema, value, violation) => {
    // As text: the driver would make SQL's null of a bare JSON null.
    const [row] = await shop.owner`
      select nightshift_private.schema_violation(s::jsonb, v::jsonb) as found, nightshift_private.schema_problem(s::jsonb) as problem
      from (values (${JSON.stringify(schema)}, ${JSON.stringify(value)})) as c (s, v)`
    expect(row).toEqual({ found: violation, problem: null })
  })
})

test.each<[Json, string]>([
  [{ $ref: '#/x' }, 'keyword "$ref" is not supported'],
  [{ properties: { a: { not: {} } } }, 'keyword "not" is not supported'],
  [{ items: { if: {} } }, 'keyword "if" is not supported'],
  [
    { additionalProperties: { patternProperties: {} } },
    'keyword "patternProperties" is not supported',
  ],
  [{ oneOf: [{}, { dependentRequired: {} }] }, 'keyword "dependentRequired" is not supported'],
  [{ type: 'strng' }, 'type "strng" is unknown'],
  [{ type: ['string', 'int'] }, 'type "int" is unknown'],
  [{ type: {} }, 'type {} is unknown'],
  [{ properties: [] }, '"properties" must be an object'],
  [{ anyOf: {} }, '"anyOf" must be an array'],
  [{ minLength: '3' }, '"minLength" must be of type number'],
  [{ required: 'a' }, '"required" must be of type array'],
  [{ pattern: '[' }, 'pattern "[" is not a regular expression'],
  [{ pattern: 1 }, '"pattern" must be a string'],
  ['string', 'a schema must be an object or a boolean'],
  [{ properties: { a: 'string' } }, 'a schema must be an object or a boolean'],
])('a schema that cannot be enforced is refused: %j', async (schema, problem) => {
  const refused = await refusal(
    shop.asUser(
      tenant.owner,
      (sql) => sql`
        select nightshift.set_agent(${tenant.project}, 'strict', ${sql.json({ instructions: 'x', input_schema: schema })})`,
    ),
  )
  expect(refused).toMatchObject({ code: 'NS026', status: 422, details: 'schema_unsupported' })
  expect(refused.message).toBe(`Schema of "strict" cannot be enforced: ${problem}`)
})
