import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import postgres from 'postgres'
import { onNewProject } from './snapshot.ts'

// Writes docs/errors.md from the rows of nightshift_private.errors: node scripts/errors.ts --write

/** Where the list lies that people read. */
export const errorsFile = join(import.meta.dirname, '../docs/errors.md')

/** One row of nightshift_private.errors; `%s` in the texts is filled in when it is raised. */
export interface ErrorRow {
  code: string
  name: string
  status: number
  message: string
  hint: string
}

/** Codes are grouped by their first three characters and one digit: NS02 is NS020 to NS029. */
const groups: Record<string, string> = {
  NS00: 'Requests',
  NS01: 'Projects and roles',
  NS02: 'Enqueueing and definitions',
  NS03: 'Tasks',
  NS04: 'Cards',
  NS05: 'Audit log',
  NS06: 'Templates',
  NS07: 'Rhythms',
}

/** What a caller does about each code. */
const advice: Record<string, string> = {
  NS001: 'Correct the field that the message names. Repeating the call cannot help.',
  NS002: 'Remove the field or correct its spelling; the hint lists the known ones.',
  NS010:
    'Check the project id. A project you are no member of gives the same answer as one that does not exist.',
  NS011: 'Ask an owner for one of the named roles, or let somebody with that role act.',
  NS020: 'Create the agent with `set_agent` before enqueueing for it.',
  NS021:
    "Send input that fits the agent's `input_schema`; for an edited card, arguments that fit the tool's.",
  NS022:
    'Put large content into Storage and pass its path. Inline limits: 256 KB per value, 16 KB per note, 8 KB per error.',
  NS023: 'Flatten the value to at most 64 levels, or pass it as text.',
  NS024: 'Use a new key for new content. The message names the task that holds the key.',
  NS025: 'Name an earlier `key` of the same call, or the id of a task of the same project.',
  NS026: 'Rewrite the schema with supported keywords: what is not enforced is refused.',
  NS027: 'Create the tool with `set_tool` before the agent that names it.',
  NS028: 'Retry the ended task first, or leave it out of `after`.',
  NS029: 'Enqueue without `parent`, or under a task that still runs.',
  NS030:
    'Stop working on the task and write nothing more: it belongs to somebody else now. Never repeat.',
  NS031: 'Do not write `status` yourself; call the function for what you want.',
  NS032: 'Check the task id. Tasks of other projects give the same answer as unknown ones.',
  NS033: 'Wait until the task has ended, or cancel it first.',
  NS034:
    'Load the session again and continue after its last step; the move that was refused is lost.',
  NS035: 'Let the child wait for something outside its group, or take it out of the group.',
  NS040: 'Check the card id. Cards of other projects give the same answer as unknown ones.',
  NS041: 'Nothing to do: the first decision stands. Read the card to see it.',
  NS042: 'Show the card again as it is now and ask for a new decision.',
  NS043: 'Use one of the verbs the card allows; the hint lists them.',
  NS050: 'Leave recorded steps, calls, events and seals as they are.',
  NS060:
    'Correct the placeholder. For text from outside set `"template": false`, or double its braces: `{{{{` is a literal `{{`.',
  NS061:
    'Refer to what the task waits for: a key in `after`, a child of the group, a field that result has. A task that already waits fails instead, with class `dependency`.',
  NS070:
    'Correct the part of the definition that the message names; the table comments describe all.',
  NS071: 'Check the rhythm id. Rhythms of other projects give the same answer as unknown ones.',
  NS072:
    'Write five fields (or six, seconds first) of `*`, numbers, names, ranges `a-b`, steps `*/n` or `a-b/n`, and lists; `L` is the last day of a month.',
  NS073:
    'Write one `select` over the tables of your own project and schema `public`; functions that read settings, run text as SQL, or have effects are refused.',
  NS074: 'Take a name from `nightshift.rhythm_templates`.',
}

/** Errors a caller meets before or outside our functions: [code, HTTP status, when, what to do]. */
const foreign: [string, string, string, string][] = [
  ['22P05', '400', 'JSON with `\\u0000`', 'Remove NUL characters; Postgres cannot store them.'],
  [
    '22P02',
    '400',
    'JSON with a lone surrogate (`\\ud800`), or text where a uuid or number belongs',
    'Send well-formed text; in JavaScript `text.toWellFormed()`.',
  ],
  [
    '54001',
    '500',
    'JSON nested thousands of levels deep',
    'Flatten it; from 65 levels on our own NS023 answers.',
  ],
  [
    '22007, 22008',
    '400',
    'A plain insert with a time that is none',
    'Send ISO 8601. `enqueue` answers NS001 for the same mistake.',
  ],
  [
    '23502, 23514',
    '400',
    'A plain insert without a required column, or with a value out of range',
    'Send the column; the message names the check.',
  ],
  [
    '23503',
    '409',
    'A plain insert with a `parent_id` that is no task of the project',
    'Check the id.',
  ],
  [
    '23505',
    '409',
    'A plain insert with an idempotency key that is taken',
    'Use `enqueue`, which finds the existing task, or insert with `ignoreDuplicates`.',
  ],
  [
    '42501',
    '401 without a session, else 403',
    'A table or column that is not writable, or a worker function without the secret key',
    'Sign in, or call the function for what you want.',
  ],
  ['428C9', '400', 'A plain insert that sets `id`', 'Leave it out; the database numbers tasks.'],
  [
    '57014',
    '500',
    'The statement took longer than the role may (8 s)',
    'Send fewer tasks per call.',
  ],
  [
    '40001, 40P01',
    '500',
    'Two transactions crossed',
    'Repeat the call; with an idempotency key nothing happens twice.',
  ],
  ['53300, PGRST003', '503, 504', 'No database connection free', 'Repeat after a pause.'],
  [
    'PGRST106',
    '406',
    'Schema `nightshift` is not exposed',
    'Add it to the exposed schemas of the project.',
  ],
  [
    'PGRST202',
    '404',
    'No function with these argument names',
    'Compare the names with the reference; they carry no prefix.',
  ],
  [
    'PGRST204, PGRST205',
    '400, 404',
    'No such column or table',
    'Check the spelling and `.schema("nightshift")`.',
  ],
  [
    'PGRST301, PGRST303',
    '401',
    'The token is malformed, unknown or expired',
    'Refresh the session.',
  ],
]

/** All rows, by code. */
export async function readErrors(url: string): Promise<ErrorRow[]> {
  const sql = postgres(url, { max: 1, onnotice: () => {} })
  try {
    return await sql<ErrorRow[]>`select * from nightshift_private.errors order by code`
  } finally {
    await sql.end()
  }
}

/** The page as Markdown. Throws when a code has no advice, no group, or advice has no code. */
export function renderErrors(rows: ErrorRow[]): string {
  const lost = Object.keys(advice).filter((code) => !rows.some((row) => row.code === code))
  if (lost.length > 0) throw new Error(`advice for codes that do not exist: ${lost.join(', ')}`)
  const sections = Object.entries(groups).map(([prefix, title]) => {
    const own = rows.filter((row) => row.code.startsWith(prefix))
    return `## ${prefix}x · ${title}\n\n| code | name | HTTP | says | hint | what to do |\n|---|---|---|---|---|---|\n${own.map(line).join('')}`
  })
  const ungrouped = rows.find((row) => !(row.code.slice(0, 4) in groups))
  if (ungrouped) throw new Error(`no group for code "${ungrouped.code}"`)
  return [introduction, ...sections, foreignSection()].join('\n')
}

const introduction = `# Errors

<!-- Written by \`node scripts/errors.ts --write\` from the database; do not edit. -->

Every refusal of the database has a stable code. Through the Data API it is an error object with the
HTTP status of the table: \`code\`, \`message\` (what happened), \`details\` (the name), \`hint\` (how to
go on). In SQL the code is the SQLSTATE. A refused call has changed nothing. \`…\` stands for what is
filled in.
`

function line({ code, name, status, message, hint }: ErrorRow): string {
  const todo = advice[code]
  if (!todo) throw new Error(`no advice for code "${code}"`)
  const cells = [`**${code}**`, `\`${name}\``, String(status), fill(message), fill(hint), todo]
  return `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |\n`
}

function fill(text: string): string {
  return text.replaceAll('%s', '…')
}

function foreignSection(): string {
  const lines = foreign.map((cells) => `| ${cells.join(' | ')} |\n`).join('')
  return `## From Postgres and PostgREST

What a caller can meet before or outside our functions.

| code | HTTP | when | what to do |
|---|---|---|---|
${lines}`
}

if (import.meta.main) {
  const text = renderErrors(await onNewProject(readErrors))
  if (process.argv.includes('--write')) writeFileSync(errorsFile, text)
  else process.stdout.write(text)
}
