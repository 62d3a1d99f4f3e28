import { nightshift } from '@nightshift/client'
import { readSettings } from '@nightshift/shared/env.ts'
import { homeDir, personClient, requireConnection } from '../connection.ts'
import { must } from '../demo/run.ts'
import { exitCode } from '../exit.ts'
import { print } from '../print.ts'

/** Verifies the audit log of one project, or of all that the person sees. Exits 1 on any finding. */
export async function verifyAudit(options: { project?: string; output: string }): Promise<number> {
  const supabase = await personClient(requireConnection(), homeDir(readSettings(process.env)))
  const projects = options.project
    ? [{ id: options.project, name: options.project }]
    : must(
        await supabase.schema('nightshift').from('projects').select('id,name').order('created_at'),
      )
  if (projects.length === 0) print.talk('no projects yet')
  let ok = true
  for (const project of projects) {
    const result = await nightshift(supabase).verify(project.id)
    ok &&= result.ok
    if (options.output === 'json') print.json({ project: project.id, ...result })
    else {
      print.data(
        `${result.ok ? 'ok ' : 'BAD'} ${project.name}: ${result.events} events, ${result.calls} calls, ${result.seals} seals, ${result.unsealed} not sealed yet`,
      )
      for (const finding of result.findings)
        print.data(`    ${finding.check}: ${finding.object}, ${finding.detail}`)
    }
  }
  return ok ? exitCode.ok : exitCode.failed
}
