import { isObject, type JsonObject, parseJson, stringOf } from './json.ts'

/**
 * Anthropic refuses some limits in a schema, so its SDK and clients like it move them into the description, as
 * `{minimum: 0, pattern: "^x$"}` at its end. A practice model keeps to them there, as a real one does.
 */
export function withDescribedLimits(schema: JsonObject): JsonObject {
  const match = /\{(\w+: [\s\S]*)\}$/.exec(stringOf(schema.description))
  if (match === null) return schema
  const limits = parseJson(`{${(match[1] ?? '').replace(/(^|, )(\w+): /g, '$1"$2": ')}}`)
  if (!isObject(limits)) return schema
  return { ...limits, ...schema, description: stringOf(schema.description).slice(0, match.index) }
}
