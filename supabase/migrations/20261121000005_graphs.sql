-- Graphs: tasks that wait for tasks. Dependencies (`after`), groups (parent and combinator), and what
-- follows when a task ends.

create table nightshift.task_dependencies (
  project_id uuid not null,
  task_id bigint not null,
  depends_on bigint not null,
  position int not null,
  on_failure text not null default 'fail' check (on_failure in ('fail', 'skip', 'continue')),
  primary key (task_id, depends_on),
  check (depends_on < task_id),
  foreign key (project_id, task_id) references nightshift.tasks (project_id, id) on delete cascade,
  foreign key (project_id, depends_on) references nightshift.tasks (project_id, id) on delete cascade
);
comment on table nightshift.task_dependencies is 'task_id waits for depends_on. Ids only grow, so these rows alone cannot form a cycle; check_waits sees to groups.';
comment on column nightshift.task_dependencies.position is 'Place in the `after` of the request, from 1: the order of {{all_results}}.';
comment on column nightshift.task_dependencies.on_failure is 'What becomes of task_id when depends_on fails or is cancelled: it fails, is skipped (cancelled), or continues without the result.';
create index task_dependencies_by_target on nightshift.task_dependencies (depends_on);
create index task_dependencies_by_project on nightshift.task_dependencies (project_id);
alter table nightshift.task_dependencies enable row level security;
create policy members_read_dependencies on nightshift.task_dependencies for select to authenticated
  using (project_id = any (array(select nightshift_private.my_projects())));
grant select on nightshift.task_dependencies to authenticated, service_role;

-- ── leaving: finishing and what follows from it ──────────────────────────────────────────────────

-- How one task is to end: status completed | failed (with class and error) | cancelled.
create type nightshift_private.ending as (task_id bigint, status text, output jsonb, failure_class text, error jsonb);

-- Locks, in ascending id order, everything that may change when these tasks end, and p_with. All who lock
-- several tasks do so in this order or never wait, so deadlock is impossible. p_effect as in `reach`.
-- Without p_wait it gives up when one of them is taken and returns false (the sweep never waits).
create function nightshift_private.lock_reach(p_task_ids bigint[], p_effect text, p_wait boolean default true, p_with bigint[] default '{}')
returns boolean language plpgsql set search_path = '' as $$
declare
  v_ids bigint[] := p_with || nightshift_private.reach(p_task_ids, p_effect);
  v_now bigint[];
begin
  loop
    begin
      if p_wait then
        perform from nightshift.tasks where id = any (v_ids) order by id for no key update;
      else
        v_now := array(select id from nightshift.tasks where id = any (v_ids) order by id for no key update skip locked);
        if pg_catalog.cardinality(v_now) < pg_catalog.cardinality(v_ids) then return false; end if;
      end if;
      v_now := p_with || nightshift_private.reach(p_task_ids, p_effect);
      if v_now = v_ids or v_now <@ v_ids then return true; end if;
      raise exception using errcode = 'NSGRO', message = 'More became reachable while waiting';
    exception when sqlstate 'NSGRO' then
      -- The locks are given back with this block: what was added may have to be locked before them.
      v_ids := array(select distinct i from pg_catalog.unnest(v_ids || v_now) i order by i);
    end;
  end loop;
end
$$;

-- The live tasks that may change when these end, following what follows from what:
--   ended      it fails, is cancelled, or it is open how it ends: its children, dependents and parent may end
--   completed  its dependents are released; its parent may wake, and in race and any its siblings end
--   touched    it changes itself and nothing follows
-- What only counts down is touched. What may come to its last open dependency or child is ended where it may
-- fail or complete by that: a group, a template. Without this care each of 10,000 children would lock all
-- that follows in the pipeline.
create function nightshift_private.reach(p_task_ids bigint[], p_effect text) returns bigint[]
language plpgsql stable set search_path = '' set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
begin
  return (with recursive direct as materialized (
    select l.task_id, pg_catalog.count(*) as n from nightshift.task_dependencies l where l.depends_on = any (p_task_ids) group by l.task_id
  ), last as materialized (
    select p.id from nightshift.tasks p
    where p.id in (select t.parent_id from nightshift.tasks t where t.id = any (p_task_ids)) and p.combinator is not null
      and (p.quorum is not null or not exists (select from nightshift.tasks c where c.parent_id = p.id
        and c.status = any ('{blocked,scheduled,pending,running,awaiting_tool,awaiting_approval,awaiting_children}') and c.id <> all (p_task_ids)))
  ), spread (id, effect, given) as (
    select t.id, p_effect, true from nightshift.tasks t where t.id = any (p_task_ids)
    union
    select n.id, n.effect, false from spread s join nightshift.tasks t on t.id = s.id cross join lateral (
      select c.id, c.status, 'ended' from nightshift.tasks c
        where s.effect = 'ended' and c.parent_id = t.id
      union all
      select d.id, d.status, case
          when s.effect = 'ended' and l.on_failure <> 'continue' then 'ended'
          when (d.combinator is not null or d.template) and not (s.given and d.open_dependencies > o.n) then 'ended'
          else 'touched' end
        from nightshift.task_dependencies l join nightshift.tasks d on d.id = l.task_id left join direct o on o.task_id = d.id
        where l.depends_on = t.id
      union all
      select p.id, p.status, case
          when p.combinator in ('race', 'any') or (p.combinator = 'all' and s.effect = 'ended') then 'ended'
          when (p.agent is null or p.template or p.quorum is not null) and not (s.given and p.id not in (select l.id from last l)) then 'ended'
          else 'touched' end
        from nightshift.tasks p where p.id = t.parent_id and p.combinator is not null
    ) as n (id, status, effect)
    where s.effect <> 'touched' and n.status not in ('completed', 'failed', 'cancelled')
  )
  select array(select distinct id from spread order by id));
end
$$;

-- Locks tasks that come back with what they wait for, what waits for them, and what may end if they fail again.
create function nightshift_private.lock_neighbours(p_task_ids bigint[]) returns void
language plpgsql set search_path = '' as $$
begin
  perform nightshift_private.lock_reach(p_task_ids, 'ended', p_with => array(
    select d.depends_on from nightshift.task_dependencies d where d.task_id = any (p_task_ids)
    union select d.task_id from nightshift.task_dependencies d where d.depends_on = any (p_task_ids)
    union select c.id from nightshift.tasks c where c.parent_id = any (p_task_ids)));
end
$$;

-- Brings tasks to their end, and in waves everything that follows from it. The reach is locked.
-- Rejected: recursion, one call per task; a long chain overflows the stack.
create function nightshift_private.finish(p_endings nightshift_private.ending[]) returns void
language plpgsql set search_path = '' as $$
declare
  v_wave nightshift_private.ending[] := p_endings;
  v_ended bigint[];
begin
  while pg_catalog.cardinality(v_wave) > 0 loop
    with ended as (
      update nightshift.tasks t set status = w.status, failure_class = w.failure_class, output = coalesce(w.output, t.output),
          error = w.error, attempt_open = false
        from (select distinct on (task_id) * from pg_catalog.unnest(v_wave) order by task_id, status) w
        where t.id = w.task_id and t.status not in ('completed', 'failed', 'cancelled')
        returning t.id)
    select pg_catalog.array_agg(id) into v_ended from ended;
    exit when v_ended is null;
    perform nightshift_private.close_cards(v_ended);
    v_wave := nightshift_private.settle(v_ended);
  end loop;
end
$$;

-- Applies what follows from tasks that just ended: releases dependents, decides groups. Returns who ends next.
create function nightshift_private.settle(p_ended bigint[]) returns nightshift_private.ending[]
language plpgsql set search_path = '' as $$
declare
  v_released record;
begin
  select * into v_released from nightshift_private.release_dependents(p_ended);
  return v_released.failed
    || nightshift_private.decide_groups(v_released.groups || array(
      select distinct parent_id from nightshift.tasks where id = any (p_ended) and parent_id is not null))
    || array(select row(f.*)::nightshift_private.ending from nightshift_private.downfall(p_ended) f);
end
$$;

-- All that ends because these did not complete: children of children, dependents of dependents, in one
-- walk (a chain of 3,000 in 2 waves instead of 3,000, 2 ms each).
create function nightshift_private.downfall(p_ended bigint[]) returns setof nightshift_private.ending
language plpgsql stable set search_path = '' set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
begin
  return query with recursive down (id, status, failure_class, error) as (
    select t.id, t.status, null::text, null::jsonb from nightshift.tasks t where t.id = any (p_ended) and t.status <> 'completed'
    union
    select n.* from down d cross join lateral (
      select c.id, 'cancelled', null::text, pg_catalog.jsonb_build_object('message', 'Parent task ended', 'parent', d.id)
        from nightshift.tasks p join nightshift.tasks c on c.parent_id = p.id
        where p.id = d.id and c.status not in ('completed', 'failed', 'cancelled')
      union all
      select w.id, case l.on_failure when 'skip' then 'cancelled' else 'failed' end, case l.on_failure when 'skip' then null else 'dependency' end,
          pg_catalog.jsonb_build_object('dependency', d.id, 'message', pg_catalog.format(
            case l.on_failure when 'skip' then 'Skipped: dependency %s is %s' else 'Dependency %s is %s' end, d.id, d.status))
        from nightshift.task_dependencies l join nightshift.tasks w on w.id = l.task_id
        where l.depends_on = d.id and l.on_failure <> 'continue' and w.status = 'blocked'
    ) as n
  )
  select d.id, d.status, null::jsonb, d.failure_class, d.error from down d where d.id <> all (p_ended);
end
$$;

-- Counts down the dependents of the settled ones and lets those go that wait for nothing more, their
-- templates rendered. groups: the groups among them, whose children may have settled already. failed:
-- those whose template cannot be rendered.
create function nightshift_private.release_dependents(p_ended bigint[], out groups bigint[], out failed nightshift_private.ending[])
language plpgsql set search_path = '' as $$
begin
  with fewer as (
    select d.task_id, pg_catalog.count(*)::int as n from nightshift.task_dependencies d join nightshift.tasks e on e.id = d.depends_on
    where d.depends_on = any (p_ended) and (e.status = 'completed' or d.on_failure = 'continue') group by d.task_id
  ), waiting as materialized (
    select t.id, t.open_dependencies - f.n as open, r.input, r.problem
    from fewer f join nightshift.tasks t on t.id = f.task_id
      left join lateral (select * from nightshift_private.render(t) where t.template and t.combinator is null and t.open_dependencies = f.n) r on true
    where t.status = 'blocked'
  ), counted as (
    update nightshift.tasks t set open_dependencies = w.open, input = coalesce(w.input, t.input), template = t.template and w.input is null,
        status = case when w.open > 0 then t.status
                      when t.combinator is not null then 'awaiting_children'
                      when not nightshift_private.is_due(t.run_at) then 'scheduled' else 'pending' end
      from waiting w where t.id = w.id and w.problem is null
      returning t.id, t.status
  )
  select array(select id from counted where status = 'awaiting_children'),
      array(select row(w.id, 'failed', null, 'dependency', w.problem)::nightshift_private.ending from waiting w where w.problem is not null)
    into groups, failed;
end
$$;

-- ── groups ───────────────────────────────────────────────────────────────────────────────────────

-- Which of these waiting parents are decided by the children that have settled, or by their deadline.
-- Existence is looked up by status in the index: counting the children at each end made 10,000 of them cost n².
create function nightshift_private.group_verdicts(p_parents bigint[], p_overdue boolean) returns table (id bigint, verdict text)
language plpgsql stable set search_path = '' set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
begin
  return query select p.id, case
      when p.combinator = 'all_settled' then case when p_overdue or c.open = 0 or c.completed >= p.quorum then 'won' end
      when p.combinator in ('all', 'race') and c.failed then 'lost'
      when p.combinator = 'all' then case when c.open = 0 then 'won' end
      when c.completed >= coalesce(p.quorum, 1) then 'won'
      when c.completed + c.open < coalesce(p.quorum, 1) then 'lost' end
  from nightshift.tasks p cross join lateral (select
      (select pg_catalog.count(*) from (select from nightshift.tasks o where o.parent_id = p.id
        and o.status = any ('{blocked,scheduled,pending,running,awaiting_tool,awaiting_approval,awaiting_children}') limit coalesce(p.quorum, 1)) x) as open,
      (select pg_catalog.count(*) from (select from nightshift.tasks o where o.parent_id = p.id
        and o.status = 'completed' limit coalesce(p.quorum, 1)) x) as completed,
      exists (select from nightshift.tasks o where o.parent_id = p.id and o.status = any ('{failed,cancelled}')) as failed) c
  where p.id = any (p_parents) and p.status = 'awaiting_children';
end
$$;

create function nightshift_private.has_open_children(p_task_id bigint) returns boolean
language sql stable set search_path = '' as $$
  select exists (select from nightshift.tasks c where c.parent_id = p_task_id and c.status not in ('completed', 'failed', 'cancelled'))
$$;

-- Decides waiting groups: the won ones wake or complete and their open children are cancelled, the lost
-- ones fail. p_overdue: the deadline of these all_settled groups has come. Returns who ends next.
create function nightshift_private.decide_groups(p_parents bigint[], p_overdue boolean default false) returns nightshift_private.ending[]
language plpgsql set search_path = '' as $$
declare
  v_won bigint[];
  v_lost bigint[];
begin
  select pg_catalog.array_agg(g.id) filter (where g.verdict = 'won'), pg_catalog.array_agg(g.id) filter (where g.verdict = 'lost')
    into v_won, v_lost from nightshift_private.group_verdicts(p_parents, p_overdue) g;
  return array(
      select row(p.id, 'failed', null, 'dependency', pg_catalog.jsonb_build_object('message',
          pg_catalog.format('Group %s: %s of %s tasks failed', p.combinator, pg_catalog.count(*) filter (where c.status in ('failed', 'cancelled')), pg_catalog.count(*))))::nightshift_private.ending
      from nightshift.tasks p join nightshift.tasks c on c.parent_id = p.id
      where p.id = any (v_lost) group by p.id)
    || case when v_won is not null then nightshift_private.wake_groups(v_won) end
    || array(
      select row(c.id, 'cancelled', null, null, pg_catalog.jsonb_build_object('parent', p.id, 'message', case
          when p_overdue then 'The deadline of the group has come' else 'Another task of the group was first' end))::nightshift_private.ending
      from nightshift.tasks p join nightshift.tasks c on c.parent_id = p.id
      where p.id = any (v_won) and c.status not in ('completed', 'failed', 'cancelled'));
end
$$;

-- Lets won groups go on: those with an agent become pending, the others complete. A deadline of
-- all_settled was for the children; the work of the parent starts now. Returns who ends next.
create function nightshift_private.wake_groups(p_groups bigint[]) returns nightshift_private.ending[]
language plpgsql set search_path = '' as $$
declare
  v_ending nightshift_private.ending[];
begin
  with won as materialized (
    select t.id, r.input, r.problem from nightshift.tasks t
      left join lateral (select * from nightshift_private.render(t) where t.template) r on true
    where t.id = any (p_groups) and t.agent is not null
  ), woken as (
    update nightshift.tasks t set status = 'pending', input = coalesce(w.input, t.input), template = false,
        deadline_at = case when t.combinator = 'all_settled' then null else t.deadline_at end
      from won w where t.id = w.id and w.problem is null
  )
  select pg_catalog.array_agg(row(w.id, 'failed', null, 'dependency', w.problem)::nightshift_private.ending) into v_ending
    from won w where w.problem is not null;
  return coalesce(v_ending, '{}') || array(
    select case when o.problem is null then row(t.id, 'completed', o.output, null, null)::nightshift_private.ending
      else row(t.id, 'failed', null, 'dependency', o.problem)::nightshift_private.ending end
    from nightshift.tasks t cross join lateral nightshift_private.group_output(t) o where t.id = any (p_groups) and t.agent is null);
end
$$;

-- Refuses groups that nothing could ever wake: every new parent needs children in the same call, as many
-- as its quorum.
create function nightshift_private.check_groups(p_task_ids bigint[]) returns void
language plpgsql stable set search_path = '' as $$
declare
  v_group record;
begin
  select t.key, t.quorum, c.n into v_group from nightshift.tasks t cross join lateral (
      select pg_catalog.count(*) as n from nightshift.tasks c where c.parent_id = t.id) c
    where t.id = any (p_task_ids) and t.combinator is not null and c.n < coalesce(t.quorum, 1) limit 1;
  if v_group.n = 0 then
    perform nightshift_private.fault('NS001', 'A task with a combinator needs children in the same call');
  elsif v_group.n > 0 then
    perform nightshift_private.fault('NS001', pg_catalog.format('Group "%s" has %s children, its quorum is %s', v_group.key, v_group.n, v_group.quorum));
  end if;
end
$$;

-- The groups that wait for a task, outermost first, and the task itself.
create function nightshift_private.line_of(p_task_id bigint) returns bigint[]
language sql stable set search_path = '' as $$
  with recursive line (id, parent_id, depth) as (
    select t.id, t.parent_id, 0 from nightshift.tasks t where t.id = p_task_id
    union all
    select p.id, p.parent_id, l.depth + 1 from line l join nightshift.tasks p on p.id = l.parent_id and p.combinator is not null
  )
  select array(select id from line order by depth desc)
$$;

-- Refuses new tasks that would wait for themselves: a task waits for its dependencies, a group for its
-- children. Dependencies alone cannot form a cycle (ids only grow). If moreover each points to an earlier
-- line of groups (array comparison), then finishing children before parents, else by id, is an order that
-- works; only the others, and children added to groups that were there before, are searched.
create function nightshift_private.check_waits(p_new bigint[]) returns void
language plpgsql stable set search_path = '' as $$
declare
  v_task bigint;
begin
  with recursive link as materialized (
    select l.task_id, l.depends_on from nightshift.task_dependencies l where l.task_id = any (p_new)
  ), line as materialized (
    select id, nightshift_private.line_of(id) as ids from (select task_id from link union select depends_on from link) as t (id)
  ), suspect (target, id) as (
    select l.task_id, l.depends_on from link l join line t on t.id = l.task_id join line d on d.id = l.depends_on
      where d.ids >= t.ids or l.depends_on = any (t.ids)
    union
    select p.id, t.id from nightshift.tasks t join nightshift.tasks p on p.id = t.parent_id
      where t.id = any (p_new) and p.id <> all (p_new) and p.combinator is not null and exists (select from link)
  ), walk (target, id) as (
    select target, id from suspect
    union
    select w.target, n.id from walk w cross join lateral (
      select l.depends_on from nightshift.task_dependencies l where l.task_id = w.id
      union all
      select c.id from nightshift.tasks p join nightshift.tasks c on c.parent_id = p.id
        where p.id = w.id and p.combinator is not null
    ) as n (id) join nightshift.tasks t on t.id = n.id
    where w.id <> w.target and t.status not in ('completed', 'failed', 'cancelled')
  )
  select target into v_task from walk where id = target limit 1;
  if v_task is not null then
    perform nightshift_private.fault('NS035', coalesce((select key from nightshift.tasks where id = v_task), v_task::text));
  end if;
end
$$;

-- Whether anything may follow when these tasks complete: they have a parent, or tasks wait for them.
create function nightshift_private.has_family(p_task_ids bigint[]) returns boolean
language plpgsql set search_path = '' as $$
begin
  return exists (select from nightshift.task_dependencies where depends_on = any (p_task_ids))
    or exists (select from nightshift.tasks where id = any (p_task_ids) and parent_id is not null);
end
$$;

-- Locks what may change when these complete; true when that is only they themselves. Looked at before the
-- locks, so that a family is locked in ascending order, and again under them: whoever adds a dependent
-- holds a share lock on what it waits for, and its tasks have higher ids.
create function nightshift_private.lock_alone(p_task_ids bigint[]) returns boolean
language plpgsql set search_path = '' as $$
begin
  if not nightshift_private.has_family(p_task_ids) then
    perform from nightshift.tasks where id = any (p_task_ids) order by id for no key update;
    if not nightshift_private.has_family(p_task_ids) then return true; end if;
  end if;
  perform nightshift_private.lock_reach(p_task_ids, 'completed');
  return false;
end
$$;

-- A task with everything below it, depth first.
create function nightshift.task_tree(task_id bigint)
returns table (id bigint, parent_id bigint, depth int, agent text, status text, failure_class text, spent_usd numeric)
language sql stable security invoker set search_path = '' as $$
  with recursive tree as (
    select t.id, t.parent_id, t.project_id, 0 as depth, array[t.id] as path from nightshift.tasks t where t.id = task_tree.task_id
    union all
    select t.id, t.parent_id, t.project_id, tree.depth + 1, tree.path || t.id
      from nightshift.tasks t join tree on t.project_id = tree.project_id and t.parent_id = tree.id
  )
  select tree.id, tree.parent_id, tree.depth, t.agent, t.status, t.failure_class, t.spent_usd
    from tree join nightshift.tasks t using (id) order by tree.path
$$;

grant execute on function nightshift.task_tree(bigint) to authenticated, service_role;

revoke execute on all functions in schema nightshift, nightshift_private from public;
