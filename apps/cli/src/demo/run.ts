import { createHash } from 'node:crypto'
import { type NewTask, nightshift } from '@nightshift/client'
import type { SupabaseClient } from '@supabase/supabase-js'
import { agents, tools } from './agents.ts'
import type { Mail } from './mails.ts'

const projectName = 'support-inbox demo'

/** The demo's project, made with its agents at first use; definitions follow the code at each run. */
export async function prepareProject(supabase: SupabaseClient): Promise<string> {
  const db = supabase.schema('nightshift')
  const found = await db
    .from('projects')
    .select('id')
    .eq('name', projectName)
    .order('created_at')
    .limit(1)
  const project: string =
    found.data?.[0]?.id ?? must(await db.rpc('create_project', { name: projectName }))
  for (const [name, definition] of Object.entries(tools)) {
    must(await db.rpc('set_tool', { project, name, definition }))
  }
  for (const [name, definition] of Object.entries(agents)) {
    must(await db.rpc('set_agent', { project, name, definition }))
  }
  return project
}

/** A run of the demo: the root task and whether an earlier, unfinished run was taken up again. */
export interface DemoRun {
  rootId: number
  resumed: boolean
}

/**
 * Hands the mails in as one graph: a root that waits for all, and per mail a triage and a reply that
 * waits for it. An unfinished run over the same mails is continued instead of doubled.
 */
export async function handIn(
  supabase: SupabaseClient,
  project: string,
  mails: Mail[],
): Promise<DemoRun> {
  const digest = createHash('sha256').update(JSON.stringify(mails)).digest('hex').slice(0, 16)
  const unfinished = await supabase
    .schema('nightshift')
    .from('tasks')
    .select('id')
    .eq('project_id', project)
    .eq('agent', 'support-inbox')
    .contains('labels', [`inbox:${digest}`])
    .not('status', 'in', '(completed,failed,cancelled)')
    .limit(1)
  const open = unfinished.data?.[0]
  if (open) return { rootId: open.id, resumed: true }
  const [root] = await nightshift(supabase).enqueue(
    graph({ project, mails, digest, run: crypto.randomUUID() }),
  )
  if (!root) throw new Error('enqueue returned nothing')
  return { rootId: root.id, resumed: false }
}

function graph(setup: { project: string; mails: Mail[]; digest: string; run: string }): NewTask[] {
  const { project, mails, digest, run } = setup
  const key = (name: string): { key: string; idempotency_key: string } => ({
    key: name,
    idempotency_key: `${run}:${name}`,
  })
  return [
    {
      project,
      agent: 'support-inbox',
      ...key('inbox'),
      combinator: 'all_settled',
      labels: [`inbox:${digest}`],
      input: { mails: mails.length },
    },
    ...mails.flatMap((mail, index): NewTask[] => {
      const input = {
        from: `${mail.from.name} <${mail.from.address}>`,
        subject: mail.subject,
        text: mail.text,
      }
      const shared = {
        project,
        input,
        // Mails are data: what looks like a placeholder in them is none.
        template: false,
        parent: 'inbox',
        purpose: 'customer-support',
        subject: mail.from.address,
        labels: [`mail:${mail.file}`],
      }
      return [
        { ...shared, agent: 'mail-triage', lane: 1, ...key(`triage-${index}`) },
        {
          ...shared,
          agent: 'mail-reply',
          lane: 2,
          ...key(`reply-${index}`),
          after: [`triage-${index}`],
        },
      ]
    }),
  ]
}

/** The answer of a call, or its error with code and hint. */
export function must<T>(answer: {
  data: T
  error: { message: string; code?: string; hint?: string | null } | null
  status?: number
}): NonNullable<T> {
  if (answer.error)
    throw Object.assign(new Error(answer.error.message), answer.error, { status: answer.status })
  return answer.data as NonNullable<T>
}
