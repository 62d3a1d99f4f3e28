/** Reads Postgres's text form of an array, such as `{1,NULL,"a \"b\""}` or `{{1},{2}}`. */
export function parseArray(text: string, parseElement: (text: string) => unknown): unknown[] {
  // Arrays that do not begin at 1 carry their bounds: `[0:1]={1,2}`.
  const start = text.indexOf('{')
  let at = start + 1

  function list(): unknown[] {
    const items: unknown[] = []
    while (text[at] !== '}') {
      if (text[at] === '{') {
        at += 1
        items.push(list())
      } else items.push(text[at] === '"' ? parseElement(quoted()) : plain())
      if (text[at] === ',') at += 1
    }
    at += 1
    return items
  }

  function quoted(): string {
    let value = ''
    for (at += 1; text[at] !== '"'; at += 1) {
      if (text[at] === '\\') at += 1
      value += text[at]
    }
    at += 1
    return value
  }

  function plain(): unknown {
    const from = at
    while (text[at] !== ',' && text[at] !== '}') at += 1
    const value = text.slice(from, at)
    return value === 'NULL' ? null : parseElement(value)
  }

  return start < 0 ? [] : list()
}

/** Postgres's text form of a JSON array. */
export function arrayLiteral(items: unknown[]): string {
  const elements = items.map((item) => {
    if (item === null || item === undefined) return 'NULL'
    if (Array.isArray(item)) return arrayLiteral(item)
    const text = typeof item === 'object' ? JSON.stringify(item) : String(item)
    return `"${text.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`
  })
  return `{${elements.join(',')}}`
}
