import type { Caller } from '../access.ts'
import { quoteIdentifier, quoteLiteral } from './quote.ts'

/** What the database is told about a request before it is served. */
export interface Session {
  caller: Caller
  method: string
  /** Path below /rest/v1, such as `/rpc/add`. */
  path: string
  headers: Record<string, string | string[] | undefined>
  /** The requested schema first, then the extra ones. */
  searchPath: string[]
  /** Settings of the role and of the called function, such as `statement_timeout`. */
  settings: Record<string, string>
  readOnly: boolean
}

/**
 * The settings of one transaction, in the order they must be made: the role comes last, since it
 * takes the right to make some of the others.
 */
export function sessionSettings(session: Session): [name: string, value: string][] {
  const { caller, headers } = session
  return [
    ['search_path', session.searchPath.map(quoteIdentifier).join(', ')],
    ['request.jwt.claims', caller.claims],
    ['request.method', session.method],
    ['request.path', session.path],
    ['request.headers', JSON.stringify(headers)],
    ['request.cookies', JSON.stringify(cookiesOf(headers.cookie))],
    ...Object.entries(session.settings),
    ...(session.readOnly ? [['transaction_read_only', 'on'] satisfies [string, string]] : []),
    ['role', caller.role],
  ]
}

/** One statement that makes these settings for the rest of the transaction. */
export function setLocally(settings: [name: string, value: string][]): string {
  const calls = settings.map(
    ([name, value]) => `set_config(${quoteLiteral(name)}, ${quoteLiteral(value)}, true)`,
  )
  return `select ${calls.join(', ')}`
}

function cookiesOf(header: string | string[] | undefined): Record<string, string> {
  if (typeof header !== 'string') return {}
  return Object.fromEntries(
    header.split(';').map((pair) => {
      const at = pair.indexOf('=')
      return [pair.slice(0, at).trim(), pair.slice(at + 1).trim()]
    }),
  )
}
