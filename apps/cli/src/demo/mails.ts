/**
 * Reads a folder of mails for the support inbox: any `.eml` (RFC 822 with MIME), `.txt` or
 * `.md`. A file that cannot be read is named with its reason and never stops the others.
 */
import { createHash } from 'node:crypto'
import { readdir, readFile, stat } from 'node:fs/promises'
import { extname, join } from 'node:path'
import PostalMime, { type Address, type Email } from 'postal-mime'
import { type CleanText, cleanText, storable } from './mail-text.ts'

/** A mailbox; both fields may be empty, as anyone may send anything. */
export interface Mailbox {
  name: string
  address: string
}

/** A mail as data: every string is storable in PostgreSQL (no NUL, no lone surrogate). */
export interface Mail {
  /** File name inside the folder */
  file: string
  /** Message-ID without angle brackets, else `sha256:` and the hex digest of the file */
  id: string
  from: Mailbox
  to: Mailbox[]
  subject: string
  /** ISO 8601 in UTC; null if the mail has no readable date */
  date: string | null
  /** The sender's own words as plain text, see `cleanText` */
  text: string
  /** What was left out of `text`, one line for each cut */
  trimmed: string[]
  /** `type` is the MIME type, `bytes` the decoded size; the content stays in the file */
  attachments: { name: string; type: string; bytes: number }[]
}

export interface SkippedFile {
  file: string
  /** For a person, no final period */
  reason: string
}

export interface Inbox {
  mails: Mail[]
  skipped: SkippedFile[]
}

/** Larger files are skipped, in bytes: some senders mail whole photo albums. */
export const maxFileBytes = 5_000_000

/**
 * Longest HTML body converted, in characters without its style sheets. Measured: a body of
 * 200,000 made of unclosed links takes the converter 3.7 s, one of 400,000 20 s.
 */
const maxHtmlLength = 200_000

/** Longest header text handed on, in characters: a subject may fill megabytes. */
const maxHeaderLength = 500

/**
 * Reads all mails of a folder, sorted by file name; hidden files are ignored. A message that
 * lies there twice is read once, so that nobody is answered or paid twice.
 *
 * Throws if the folder itself cannot be read.
 */
export async function readInbox(folder: string): Promise<Inbox> {
  const inbox: Inbox = { mails: [], skipped: [] }
  const seen = new Map<string, string>()
  for (const file of await listFiles(folder)) {
    const read = await readMail(folder, file)
    if ('reason' in read) {
      inbox.skipped.push(read)
      continue
    }
    const first = seen.get(read.id)
    if (first !== undefined) {
      inbox.skipped.push({ file, reason: `same message as "${first}"` })
      continue
    }
    seen.set(read.id, file)
    inbox.mails.push(read)
  }
  return inbox
}

async function listFiles(folder: string): Promise<string[]> {
  try {
    const names = await readdir(folder)
    return names.filter((name) => !name.startsWith('.')).sort()
  } catch (error) {
    throw new Error(`Cannot read the inbox folder "${folder}": ${describe(error)}`, {
      cause: error,
    })
  }
}

async function readMail(folder: string, file: string): Promise<Mail | SkippedFile> {
  const extension = extname(file).toLowerCase()
  const path = join(folder, file)
  try {
    const entry = await stat(path)
    if (entry.isDirectory()) return { file, reason: 'is a folder; only the top folder is read' }
    if (!['.eml', '.txt', '.md'].includes(extension)) {
      return { file, reason: 'is not a mail: wanted .eml, .txt or .md' }
    }
    // A pipe or a device would block the read.
    if (!entry.isFile()) return { file, reason: 'is not a regular file' }
    if (entry.size > maxFileBytes) {
      return { file, reason: `is too large: ${megabytes(entry.size)} -> at most 5 MB` }
    }
    const bytes = await readFile(path)
    return extension === '.eml' ? await parseMail(file, bytes) : parseNote(file, bytes)
  } catch (error) {
    return { file, reason: `cannot be read: ${describe(error)}` }
  }
}

async function parseMail(file: string, bytes: Uint8Array): Promise<Mail> {
  const email = await PostalMime.parse(bytes)
  const attachments = email.attachments.map(({ filename, mimeType, content }) => ({
    name: headerText(filename ?? 'unnamed'),
    type: headerText(mimeType),
    bytes: typeof content === 'string' ? Buffer.byteLength(content) : content.byteLength,
  }))
  return {
    file,
    id: headerText(email.messageId ?? '').replace(/^<|>$/g, '') || digest(bytes),
    from: mailboxes(email.from)[0] ?? { name: '', address: '' },
    to: (email.to ?? []).flatMap(mailboxes),
    subject: headerText(email.subject ?? ''),
    date: isoDate(email.date),
    ...(await plainText(email)),
    attachments,
  }
}

/** A note has no headers: its first line is the subject and stays part of the text. */
function parseNote(file: string, bytes: Uint8Array): Mail {
  const text = decode(bytes)
  const firstLine = text.trimStart().split(/\r?\n/, 1)[0] ?? ''
  return {
    file,
    id: digest(bytes),
    from: { name: '', address: '' },
    to: [],
    subject: headerText(firstLine.replace(/^#+ /, '')),
    date: null,
    ...cleanText(text),
    attachments: [],
  }
}

/**
 * The body a person would read. postal-mime turns HTML into text only inside a mail that has
 * plain text as well, so the HTML of a mail without is parsed once more beside an empty text
 * part: it knows every entity and most oddities. Markup made to be slow is why it is capped.
 */
async function plainText(email: Email): Promise<CleanText> {
  const text = email.text ?? ''
  if (text.trim() !== '' || email.html === undefined) return cleanText(text)
  const html = withoutStyles(email.html)
  const wrapped = await PostalMime.parse(
    [
      'Content-Type: multipart/mixed; boundary="b"\n',
      '--b\n\n', // the empty text part
      '--b\nContent-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: base64\n',
      Buffer.from(html.slice(0, maxHtmlLength)).toString('base64'),
      '--b--',
    ].join('\n'),
  )
  const clean = cleanText(wrapped.text ?? '')
  const left = html.length - maxHtmlLength
  if (left > 0) clean.trimmed.push(`end of a long HTML body: ${left} characters`)
  return clean
}

/** Drops style sheets, which that converter shows as text; linear for any markup. */
function withoutStyles(html: string): string {
  const [start = '', ...parts] = html.split(/<style\b/i)
  return start + parts.map((part) => part.replace(/^[\s\S]*?<\/style\s*>/i, '')).join('')
}

/** UTF-8, else Windows-1252: the two encodings a German text file may have. */
function decode(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    return new TextDecoder('windows-1252').decode(bytes)
  }
}

function mailboxes(address: Address | undefined): Mailbox[] {
  if (address === undefined) return []
  return (address.group ?? [address]).map((mailbox) => ({
    name: headerText(mailbox.name),
    address: headerText(mailbox.address),
  }))
}

function headerText(value: string): string {
  return storable(value.slice(0, maxHeaderLength)).trim()
}

function isoDate(value: string | undefined): string | null {
  const time = Date.parse(value ?? '')
  return Number.isNaN(time) ? null : new Date(time).toISOString()
}

function digest(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`
}

function megabytes(bytes: number): string {
  return `${(bytes / 1_000_000).toFixed(1)} MB`
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
