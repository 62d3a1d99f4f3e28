import { Problem } from './problem.ts'
import { quoteIdentifier, quoteLiteral } from './quote.ts'

/** How the rows of a function are picked, in SQL; empty parts are left out. */
export interface Shape {
  columns: string
  where: string
  orderBy: string
  limit: number | null
  offset: number
}

/**
 * Reads `select`, `order`, `limit`, `offset` and filters on plain columns. Embedded resources,
 * JSON paths and `and`/`or` trees, which PostgREST knows on functions too, are refused here.
 */
export function readShape(parameters: [name: string, value: string][]): Shape {
  const shape: Shape = { columns: '*', where: '', orderBy: '', limit: null, offset: 0 }
  const conditions: string[] = []
  for (const [name, value] of parameters) {
    if (name === 'select') shape.columns = readSelect(value)
    else if (name === 'order') shape.orderBy = readOrder(value)
    else if (name === 'limit') shape.limit = wholeNumber(value)
    else if (name === 'offset') shape.offset = wholeNumber(value) ?? 0
    else if (name !== 'columns') conditions.push(readFilter(name, value))
  }
  if (conditions.length > 0) shape.where = `where ${conditions.join(' and ')}`
  return shape
}

const comparisons = new Map([
  ['eq', '='],
  ['neq', '<>'],
  ['gt', '>'],
  ['gte', '>='],
  ['lt', '<'],
  ['lte', '<='],
  ['like', 'like'],
  ['ilike', 'ilike'],
  ['match', '~'],
  ['imatch', '~*'],
  ['cs', '@>'],
  ['cd', '<@'],
  ['ov', '&&'],
])

const directions = new Map([
  ['asc', 'asc'],
  ['desc', 'desc'],
  ['nullsfirst', 'nulls first'],
  ['nullslast', 'nulls last'],
])

const filterPattern = /^(not\.)?(\w+)\.(.*)$/s

/** Whether a query value reads as an operator and its operand, such as `eq.5` or `not.is.null`. */
export function isFilter(value: string): boolean {
  const operator = filterPattern.exec(value)?.[2] ?? ''
  return comparisons.has(operator) || operator === 'is' || operator === 'in'
}

function readFilter(name: string, value: string): string {
  const [, negation, operator = '', operand = ''] = filterPattern.exec(value) ?? []
  const column = readColumn(name)
  const condition = readCondition(column, operator, operand)
  if (condition === null) throw unreadable(`failed to parse filter (${value})`)
  return negation ? `not (${condition})` : condition
}

function readCondition(column: string, operator: string, operand: string): string | null {
  if (operator === 'is') {
    const known = /^(null|true|false|unknown|not_null)$/i.test(operand)
    return known ? `${column} is ${operand.replace('_', ' ')}` : null
  }
  if (operator === 'in') {
    const list = /^\((.*)\)$/s.exec(operand)?.[1]
    if (list === undefined) return null
    const values = readList(list).map(quoteLiteral)
    return values.length > 0 ? `${column} in (${values.join(', ')})` : 'false'
  }
  const symbol = comparisons.get(operator)
  if (!symbol) return null
  const text = symbol.endsWith('like') ? operand.replaceAll('*', '%') : operand
  return `${column} ${symbol} ${quoteLiteral(text)}`
}

/** The elements of `a,"b,c"`. */
function readList(list: string): string[] {
  const elements = list.match(/"(?:[^"\\]|\\.)*"|[^,]+/g) ?? []
  return elements.map((element) =>
    element.startsWith('"') ? element.slice(1, -1).replace(/\\(.)/g, '$1') : element,
  )
}

function readSelect(value: string): string {
  if (value === '' || value === '*') return '*'
  return value
    .split(',')
    .map((item) => {
      if (item === '*') return '*'
      const [, alias, column = '', cast] =
        /^(?:([^:]+):(?!:))?([^:]+)(?:::(\w+))?$/.exec(item) ?? []
      const expression = readColumn(column) + (cast ? `::${cast}` : '')
      return `${expression} as ${quoteIdentifier(alias ?? column)}`
    })
    .join(', ')
}

function readOrder(value: string): string {
  const terms = value.split(',').map((term) => {
    const [column = '', ...words] = term.split('.')
    const direction = words.map((word) => directions.get(word))
    if (direction.includes(undefined)) throw unreadable(`failed to parse order (${value})`)
    return [readColumn(column), ...direction].join(' ')
  })
  return `order by ${terms.join(', ')}`
}

function readColumn(name: string): string {
  if (name === '' || /[().>\0]|^(and|or)$/.test(name)) {
    throw unreadable(`"${name}" on a function is not supported by the local stack`)
  }
  return quoteIdentifier(name)
}

function wholeNumber(value: string): number | null {
  return /^\d+$/.test(value) ? Number(value) : null
}

function unreadable(message: string): Problem {
  return new Problem(400, 'PGRST100', { message })
}
