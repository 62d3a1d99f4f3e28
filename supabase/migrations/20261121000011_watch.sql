-- Watch: views that must be empty or that say how the shop runs.

-- Tasks that nothing will ever wake. Must be empty, always.
create view nightshift.v_stranded with (security_invoker = true) as
  select t.project_id, t.id, t.status, 'no open card' as reason from nightshift.tasks t
    where t.status = 'awaiting_approval' and not exists (select from nightshift.cards c where c.task_id = t.id and c.status = 'open')
  union all
  select t.project_id, t.id, t.status, 'no open dependency' from nightshift.tasks t
    where t.status = 'blocked' and not exists (select from nightshift.task_dependencies d join nightshift.tasks o on o.id = d.depends_on
      where d.task_id = t.id and o.status not in ('completed', 'failed', 'cancelled'))
  union all
  select t.project_id, t.id, t.status, 'no open child' from nightshift.tasks t
    where t.status = 'awaiting_children' and not exists (select from nightshift.tasks c
      where c.project_id = t.project_id and c.parent_id = t.id and c.status not in ('completed', 'failed', 'cancelled'));
comment on view nightshift.v_stranded is 'Tasks without a future wake-up; must be empty.';

-- accepted = terminal + live, per project and agent.
create view nightshift.v_accounting with (security_invoker = true) as
  select project_id, agent, count(*) as accepted,
    count(*) filter (where status = 'completed') as completed, count(*) filter (where status = 'failed') as failed,
    count(*) filter (where status = 'cancelled') as cancelled,
    count(*) filter (where status not in ('completed', 'failed', 'cancelled')) as live, sum(spent_usd) as spent_usd
  from nightshift.tasks group by project_id, agent;
comment on view nightshift.v_accounting is 'Accepted tasks and what became of them: accepted = completed + failed + cancelled + live.';

grant select on nightshift.v_stranded, nightshift.v_accounting to authenticated, service_role;
