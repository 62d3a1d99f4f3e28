/** Data goes to stdout, talk to stderr, so that output can be piped. */
export const print = {
  data(text: string): void {
    process.stdout.write(`${text}\n`)
  },
  json(value: unknown): void {
    process.stdout.write(`${JSON.stringify(value)}\n`)
  },
  talk(text = ''): void {
    process.stderr.write(`${text}\n`)
  },
}

/** Control characters of text from outside could drive the terminal (colours, cursor, title): shown as �. */
export function safe(text: unknown): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this removes
  return String(text).replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, '\ufffd')
}
