import { Refused } from './dialect.ts'
import type { JsonObject } from './json.ts'
import { missing, requireModel } from './openai.ts'
import { tokensOf } from './usage.ts'
import { meaningfulWords } from './words.ts'

const DIMENSIONS = 1536
/** Directions a word points in; enough that two words hardly ever share most of them. */
const DIRECTIONS_PER_WORD = 8

/** What an embeddings request asks for. */
export interface EmbeddingRequest {
  model: string
  inputs: readonly string[]
  dimensions: number
  base64: boolean
}

/** Reads an OpenAI embeddings request; token arrays are taken as texts of numbers. Throws Refused. */
export function readEmbeddingRequest(body: JsonObject): EmbeddingRequest {
  const model = requireModel(body)
  const { input, dimensions } = body
  if (input === undefined || input === null) throw missing('input')
  const inputs = listsOfTexts(input)
  if (inputs.length === 0)
    throw new Refused(400, "Invalid 'input': it must not be empty.", { param: 'input' })
  const size = dimensions ?? DIMENSIONS
  if (typeof size !== 'number' || !Number.isInteger(size) || size < 1 || size > 8_192) {
    throw new Refused(400, "Invalid 'dimensions': a whole number from 1 to 8192.", {
      param: 'dimensions',
    })
  }
  return { model, inputs, dimensions: size, base64: body.encoding_format === 'base64' }
}

function listsOfTexts(input: unknown): string[] {
  if (!Array.isArray(input)) return [String(input)]
  const texts: unknown[] = input.every((each) => typeof each === 'number') ? [input] : input
  return texts.map((each) => (Array.isArray(each) ? each.join(' ') : String(each)))
}

/** The answer to an embeddings request. */
export function embeddingsAnswer(request: EmbeddingRequest): JsonObject {
  const data = request.inputs.map((text, index) => {
    const vector = embed(text, request.dimensions)
    const written = request.base64 ? Buffer.from(vector.buffer).toString('base64') : [...vector]
    return { object: 'embedding', index, embedding: written }
  })
  const tokens = request.inputs.reduce((sum, text) => sum + tokensOf(text), 0)
  return {
    object: 'list',
    data,
    model: request.model,
    usage: { prompt_tokens: tokens, total_tokens: tokens },
  }
}

/** A unit vector from hashed words: texts that share words are near each other, the order of words is lost. */
export function embed(text: string, dimensions = DIMENSIONS): Float32Array {
  const vector = new Float32Array(dimensions)
  for (const word of meaningfulWords(text)) {
    let state = hashOf(word)
    for (let direction = 0; direction < DIRECTIONS_PER_WORD; direction += 1) {
      state = scramble(state)
      const at = state % dimensions
      vector[at] = (vector[at] ?? 0) + (state & 0x10000 ? 1 : -1)
    }
  }
  const length = Math.hypot(...vector)
  if (length === 0) vector[0] = 1
  return length === 0 ? vector : vector.map((value) => value / length)
}

/** FNV-1a, 32 bits, over UTF-16 code units. */
function hashOf(word: string): number {
  let hash = 0x811c9dc5
  for (let index = 0; index < word.length; index += 1) {
    hash = Math.imul(hash ^ word.charCodeAt(index), 0x01000193)
  }
  return hash >>> 0
}

/** One step of a 32-bit mix (constants of MurmurHash3's finaliser). */
function scramble(state: number): number {
  let mixed = (state + 0x9e3779b9) >>> 0
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b)
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35)
  return (mixed ^ (mixed >>> 16)) >>> 0
}
