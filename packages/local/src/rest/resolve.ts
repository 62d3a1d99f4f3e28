import type { Routine, Snapshot } from './catalog.ts'
import { nearest } from './nearest.ts'
import { Problem } from './problem.ts'

/** What a request offers to a function. */
export interface Offer {
  schema: string
  name: string
  /** Argument names in the body or the query string. */
  keys: string[]
  /** Types that a function with a single unnamed parameter may take the whole body as. */
  wholeBody: string[]
}

export interface Choice {
  routine: Routine
  /** The body goes into the single unnamed parameter. */
  takesWholeBody: boolean
}

/**
 * The one overload these arguments fit, by PostgREST's rules: all required parameters are there and
 * nothing unknown is; a function with a single unnamed parameter is the fallback. Throws PGRST202
 * when none fits, PGRST203 when several do.
 */
export function chooseRoutine(snapshot: Snapshot, offer: Offer): Choice {
  const overloads = snapshot.routines.get(`${offer.schema}.${offer.name}`) ?? []
  const isBodyOnly = offer.wholeBody.length > 0 && !offer.wholeBody.includes('json')
  const named = isBodyOnly ? [] : overloads.filter((routine) => accepts(routine, offer.keys))
  const whole = overloads.filter(({ parameters: [first, ...others] }) => {
    return first?.name === '' && others.length === 0 && offer.wholeBody.includes(first.type)
  })
  const candidates = named.length > 0 ? named : whole
  const [routine] = candidates
  if (!routine) throw notFound(snapshot, offer, overloads)
  if (candidates.length > 1) throw ambiguous(candidates)
  return { routine, takesWholeBody: named.length === 0 }
}

function accepts({ parameters }: Routine, keys: string[]): boolean {
  const names = new Set(parameters.map((parameter) => parameter.name))
  const given = new Set(keys)
  return (
    keys.every((key) => names.has(key)) &&
    parameters.every((parameter) => !parameter.isRequired || given.has(parameter.name))
  )
}

function ambiguous(candidates: Routine[]): Problem {
  const signatures = candidates.map(({ schema, name, parameters }) => {
    const list = parameters.map((parameter) => `${parameter.name} => ${parameter.type}`)
    return `${schema}.${name}(${list.join(', ')})`
  })
  return new Problem(300, 'PGRST203', {
    message: `Could not choose the best candidate function between: ${signatures.join(', ')}`,
    hint:
      'Try renaming the parameters or the function itself in the database so function ' +
      'overloading can be resolved',
  })
}

function notFound(snapshot: Snapshot, offer: Offer, overloads: Routine[]): Problem {
  const called = `${offer.schema}.${offer.name}`
  const keys = offer.keys.join(', ')
  const type = offer.wholeBody[0]
  const plural = offer.keys.length > 1 ? 's' : ''
  const withKeys = keys ? ` with parameter${plural} ${keys}` : ' without parameters'
  const isBodyOnly = type !== undefined && type !== 'json'
  const searched = isBodyOnly
    ? ` with a single unnamed ${type} parameter`
    : withKeys + (type ? ' or with a single unnamed json/jsonb parameter' : '')
  const signature = keys ? `(${keys})` : ' without parameters'
  return new Problem(404, 'PGRST202', {
    message: `Could not find the function ${called}${isBodyOnly ? '' : signature} in the schema cache`,
    details: `Searched for the function ${called}${searched}, but no matches were found in the schema cache.`,
    hint: suggestion(snapshot, offer, overloads),
  })
}

function suggestion(snapshot: Snapshot, offer: Offer, overloads: Routine[]): string | null {
  const prefix = `${offer.schema}.`
  const list = (names: string[]): string => `(${names.toSorted().join(', ')})`
  const found =
    overloads.length > 0
      ? nearest(
          list(offer.keys),
          overloads.map(({ parameters }) => list(parameters.map((parameter) => parameter.name))),
        )
      : nearest(
          offer.name,
          [...snapshot.routines.keys()]
            .filter((key) => key.startsWith(prefix))
            .map((key) => key.slice(prefix.length)),
        )
  if (found === null) return null
  const target = overloads.length > 0 ? offer.name + found : found
  return `Perhaps you meant to call the function ${prefix}${target}`
}
