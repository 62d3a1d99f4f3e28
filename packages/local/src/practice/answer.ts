import { isObject, stringOf } from './json.ts'
import { type Material, readMaterial, taggedBlocks } from './material.ts'
import type { OfferedTool, Question, Turn } from './question.ts'
import { fillSchema } from './schema.ts'
import { meaningfulWords, overlap } from './words.ts'

/** A tool is called unforced only from this score on: a word of its name or of the subject, or two others. */
const CLEAR_OVERLAP = 2
/** In a question of so few words, one shared word is clear enough. */
const SHORT_QUESTION = 4

/** What the practice model would say: a text, or a tool call with filled arguments. */
export interface Thought {
  text: string
  calls: readonly { name: string; arguments: string }[]
}

/** The unscripted answer: a tool where one fits, else the output schema filled, else a sentence. */
export function think(question: Question): Thought {
  const { asked, results } = readConversation(question)
  const material = readMaterial(asked, results)
  const tool = results.length === 0 ? chooseTool(question, material) : undefined
  if (tool !== undefined) {
    const filled = JSON.stringify(fillSchema(tool.schema, material))
    return { text: '', calls: [{ name: tool.name, arguments: filled }] }
  }
  if (question.outputSchema !== null) {
    return { text: JSON.stringify(fillSchema(question.outputSchema, material)), calls: [] }
  }
  return { text: sentence(material.letter, results), calls: [] }
}

/**
 * What is to be answered, and the tool results since. Material in a tagged block is what the whole conversation is
 * about; without such a block the last user message counts.
 */
function readConversation({ turns }: Question): { asked: string; results: string[] } {
  const isAsked = (turn: Turn) => turn.role === 'user' && turn.text.trim() !== ''
  const tagged = turns.findLastIndex((turn) => isAsked(turn) && taggedBlocks(turn.text).length > 0)
  const index = tagged < 0 ? turns.findLastIndex(isAsked) : tagged
  const since = turns.slice(index + 1).filter((turn) => turn.role === 'tool')
  return { asked: turns[index]?.text ?? '', results: since.map((turn) => turn.text) }
}

function chooseTool({ tools, toolChoice }: Question, material: Material): OfferedTool | undefined {
  if (toolChoice.kind === 'none') return undefined
  if (toolChoice.kind === 'named') return tools.find((tool) => tool.name === toolChoice.name)
  let best: { tool: OfferedTool; score: number } | undefined
  for (const tool of tools) {
    const score = scoreOf(tool, material)
    if (best === undefined || score > best.score) best = { tool, score }
  }
  const needed = material.words.size <= SHORT_QUESTION ? 1 : CLEAR_OVERLAP
  return toolChoice.kind === 'any' || (best?.score ?? 0) >= needed ? best?.tool : undefined
}

/** Words shared with the letter: those of the tool's name count twice, those of its properties half. */
function scoreOf(tool: OfferedTool, { words }: Material): number {
  const properties = isObject(tool.schema.properties) ? Object.values(tool.schema.properties) : []
  const described = properties.map((property) =>
    isObject(property) ? stringOf(property.description) : '',
  )
  const own = meaningfulWords(`${tool.name} ${tool.description}`)
  const further = [...meaningfulWords(described.join(' '))].filter(
    (word) => words.has(word) && !own.has(word),
  )
  return overlap(own, words) + overlap(meaningfulWords(tool.name), words) + further.length / 2
}

function sentence(asked: string, results: readonly string[]): string {
  const last = results.at(-1)
  if (last !== undefined) return `This is a practice answer; the tool returned “${excerpt(last)}”.`
  return `This is a practice answer, no model was asked: “${excerpt(asked)}”.`
}

function excerpt(text: string): string {
  return [...text.replace(/\s+/g, ' ').trim()].slice(0, 80).join('')
}
