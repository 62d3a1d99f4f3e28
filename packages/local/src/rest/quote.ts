/** An SQL string that holds this text under any `standard_conforming_strings`. It may contain no NUL. */
export function quoteLiteral(text: string): string {
  const doubled = text.includes("'") ? text.replaceAll("'", "''") : text
  return doubled.includes('\\') ? `E'${doubled.replaceAll('\\', '\\\\')}'` : `'${doubled}'`
}

/** An SQL identifier, always in quotes. */
export function quoteIdentifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}
