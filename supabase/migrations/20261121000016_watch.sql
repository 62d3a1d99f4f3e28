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
  select t.project_id, t.id, t.status, 'stream asleep' from nightshift.tasks t
    where t.status = 'pending' and not nightshift_private.is_awake(t.stream_id)
  union all
  select t.project_id, t.id, t.status, 'no open child' from nightshift.tasks t
    where t.status = 'awaiting_children' and not exists (select from nightshift.tasks c
      where c.parent_id = t.id and c.status not in ('completed', 'failed', 'cancelled'));
comment on view nightshift.v_stranded is 'Tasks without a future wake-up; must be empty.';

-- accepted = terminal + live, per project and agent.
create view nightshift.v_accounting with (security_invoker = true) as
  select project_id, agent, count(*) as accepted,
    count(*) filter (where status = 'completed') as completed, count(*) filter (where status = 'failed') as failed,
    count(*) filter (where status = 'cancelled') as cancelled,
    count(*) filter (where status not in ('completed', 'failed', 'cancelled')) as live, sum(spent_usd) as spent_usd
  from nightshift.tasks group by project_id, agent;
comment on view nightshift.v_accounting is 'Accepted tasks and what became of them: accepted = completed + failed + cancelled + live.';

-- Hourly throughput per agent.
create view nightshift.v_throughput with (security_invoker = true) as
  select project_id, agent, date_trunc('hour', finished_at) as hour, count(*) filter (where status = 'completed') as completed,
    count(*) filter (where status = 'failed') as failed, count(*) filter (where status = 'cancelled') as cancelled,
    percentile_cont(0.5) within group (order by extract(epoch from finished_at - created_at)) as median_seconds
  from nightshift.tasks where finished_at is not null group by 1, 2, 3;
comment on view nightshift.v_throughput is 'Tasks finished per project, agent and hour, with the median time from acceptance to end in seconds.';

-- Failure classes: how tasks ended, and how attempts ended that were retried.
create view nightshift.v_failures with (security_invoker = true) as
  select project_id, agent, failure_class, count(*) as tasks, max(finished_at) as last_at
  from nightshift.tasks where status = 'failed' group by 1, 2, 3;
comment on view nightshift.v_failures is 'Failed tasks by class: the dead letters, see redrive.';

-- How long the oldest task of each lane has been waiting.
create view nightshift.v_lag with (security_invoker = true) as
  select project_id, queue, lane, count(*) as waiting, min(run_at) as oldest_at,
    extract(epoch from nightshift_private.now() - min(run_at)) as lag_seconds
  from nightshift.tasks where status = 'pending' group by 1, 2, 3;
comment on view nightshift.v_lag is 'Waiting tasks per queue and lane, with the age of the oldest in seconds.';

grant select on nightshift.v_throughput, nightshift.v_failures, nightshift.v_lag to authenticated, service_role;
grant select on nightshift.v_stranded, nightshift.v_accounting to authenticated, service_role;
