-- Graphs: tasks that wait for tasks. Dependencies (`after`), groups (parent and combinator), and what
-- follows when a task ends.

create table nightshift.task_dependencies (
  project_id uuid not null,
  task_id bigint not null,
  depends_on bigint not null,
  primary key (task_id, depends_on),
  check (depends_on < task_id),
  foreign key (project_id, task_id) references nightshift.tasks (project_id, id) on delete cascade,
  foreign key (project_id, depends_on) references nightshift.tasks (project_id, id) on delete cascade
);
comment on table nightshift.task_dependencies is 'task_id waits for depends_on. Ids only grow, so the check makes cycles impossible.';
create index task_dependencies_by_target on nightshift.task_dependencies (depends_on);
create index task_dependencies_by_project on nightshift.task_dependencies (project_id);
alter table nightshift.task_dependencies enable row level security;
create policy members_read_dependencies on nightshift.task_dependencies for select to authenticated
  using (project_id = any (array(select nightshift_private.my_projects())));
grant select on nightshift.task_dependencies to authenticated, service_role;

-- ── leaving: finishing and what follows from it ──────────────────────────────────────────────────

-- How one task is to end: status completed | failed (with class and error) | cancelled.
create type nightshift_private.ending as (task_id bigint, status text, output jsonb, failure_class text, error jsonb);

-- Locks, in ascending id order, everything that may change when these tasks end. All who lock several
-- tasks do so in this order or never wait, so deadlock is impossible. p_effect as in `reach`.
-- Without p_wait it gives up when one of them is taken and returns false (the sweep never waits).
create function nightshift_private.lock_reach(p_task_ids bigint[], p_effect text, p_wait boolean default true) returns boolean
language plpgsql set search_path = '' as $$
declare
  v_ids bigint[] := nightshift_private.reach(p_task_ids, p_effect);
  v_locked bigint[];
begin
  loop
    if p_wait then
      perform from nightshift.tasks where id = any (v_ids) order by id for no key update;
    else
      v_locked := array(select id from nightshift.tasks where id = any (v_ids) order by id for no key update skip locked);
      if pg_catalog.cardinality(v_locked) < pg_catalog.cardinality(v_ids) then return false; end if;
    end if;
    -- What became reachable while waiting has been added by others under these locks; new tasks have higher ids.
    v_locked := v_ids;
    v_ids := nightshift_private.reach(p_task_ids, p_effect);
    if v_ids <@ v_locked then return true; end if;
  end loop;
end
$$;

-- The live tasks that may change when these end, following what follows from what:
--   ended (failed, cancelled)  its children and dependents end; so may its parent, unless that takes all outcomes
--   completed                  its dependents are released; its parent may wake, and in race and any its siblings end
--   touched                    it changes itself and nothing follows
create function nightshift_private.reach(p_task_ids bigint[], p_effect text) returns bigint[]
language sql stable set search_path = '' as $$
  with recursive spread (id, effect) as (
    select t.id, p_effect from nightshift.tasks t
      where t.id = any (p_task_ids) and t.status not in ('completed', 'failed', 'cancelled')
    union
    select n.id, n.effect from spread s join nightshift.tasks t on t.id = s.id cross join lateral (
      select c.id, c.status, 'ended' from nightshift.tasks c
        where s.effect = 'ended' and c.project_id = t.project_id and c.parent_id = t.id
      union all
      select d.id, d.status, case when s.effect = 'ended' or d.combinator is not null then 'ended' else 'touched' end
        from nightshift.task_dependencies l join nightshift.tasks d on d.id = l.task_id where l.depends_on = t.id
      union all
      select p.id, p.status, case when p.combinator = 'all_settled' or (p.combinator = 'all' and s.effect = 'completed') then 'touched' else 'ended' end
        from nightshift.tasks p where p.project_id = t.project_id and p.id = t.parent_id and p.combinator is not null
    ) as n (id, status, effect)
    where s.effect <> 'touched' and n.status not in ('completed', 'failed', 'cancelled')
  )
  select array(select distinct id from spread order by id)
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
  v_released bigint[] := nightshift_private.release_dependents(p_ended);
  v_won bigint[];
  v_lost nightshift_private.ending[];
begin
  select pg_catalog.array_agg(g.id) filter (where g.verdict = 'won'),
      pg_catalog.array_agg(row(g.id, 'failed', null, 'dependency', pg_catalog.jsonb_build_object('message', g.message))::nightshift_private.ending)
        filter (where g.verdict = 'lost')
    into v_won, v_lost
    from nightshift_private.group_verdicts(v_released || array(
      select distinct parent_id from nightshift.tasks where id = any (p_ended) and parent_id is not null)) g;
  update nightshift.tasks set status = 'pending' where id = any (v_won);
  return v_lost
    || array(select row(c.id, 'cancelled', null, null, pg_catalog.jsonb_build_object('message', 'Another task of the group was first', 'parent', p.id))::nightshift_private.ending
      from nightshift.tasks p join nightshift.tasks c on c.project_id = p.project_id and c.parent_id = p.id
      where p.id = any (v_won) and c.status not in ('completed', 'failed', 'cancelled'))
    || array(select row(f.*)::nightshift_private.ending from nightshift_private.downfall(p_ended) f);
end
$$;

-- All that ends because these did not complete: children of children, dependents of dependents, in one
-- walk (a chain of 3,000 in 2 waves instead of 3,000, 2 ms each).
create function nightshift_private.downfall(p_ended bigint[]) returns setof nightshift_private.ending
language sql stable set search_path = '' as $$
  with recursive down (id, status, failure_class, error) as (
    select t.id, t.status, null::text, null::jsonb from nightshift.tasks t where t.id = any (p_ended) and t.status <> 'completed'
    union
    select n.* from down d cross join lateral (
      select c.id, 'cancelled', null::text, pg_catalog.jsonb_build_object('message', 'Parent task ended', 'parent', d.id)
        from nightshift.tasks p join nightshift.tasks c on c.project_id = p.project_id and c.parent_id = p.id
        where p.id = d.id and c.status not in ('completed', 'failed', 'cancelled')
      union all
      select w.id, 'failed', 'dependency', pg_catalog.jsonb_build_object(
          'message', pg_catalog.format('Dependency %s is %s', d.id, d.status), 'dependency', d.id)
        from nightshift.task_dependencies l join nightshift.tasks w on w.id = l.task_id
        where l.depends_on = d.id and w.status = 'blocked'
    ) as n
  )
  select id, status, null::jsonb, failure_class, error from down where id <> all (p_ended)
$$;

-- Counts down the dependents of the completed ones and lets those go that wait for nothing more.
-- Returns the groups among the released: their children may have settled already.
create function nightshift_private.release_dependents(p_ended bigint[]) returns bigint[]
language sql set search_path = '' as $$
  with fewer as (
    select d.task_id, pg_catalog.count(*) as n from nightshift.task_dependencies d join nightshift.tasks e on e.id = d.depends_on
    where d.depends_on = any (p_ended) and e.status = 'completed' group by d.task_id
  ), counted as (
    update nightshift.tasks t set open_dependencies = t.open_dependencies - f.n,
        status = case when t.open_dependencies > f.n then t.status
                      when t.combinator is not null then 'awaiting_children'
                      when not nightshift_private.is_due(t.run_at) then 'scheduled' else 'pending' end
      from fewer f where t.id = f.task_id and t.status = 'blocked'
      returning t.id, t.status
  )
  select array(select id from counted where status = 'awaiting_children')
$$;

-- Which of these waiting parents are decided by the children that have settled.
create function nightshift_private.group_verdicts(p_parents bigint[]) returns table (id bigint, verdict text, message text)
language sql stable set search_path = '' as $$
  select p.id, case
      when p.combinator = 'all_settled' then case when c.open = 0 then 'won' end
      when p.combinator in ('all', 'race') and c.failed > 0 then 'lost'
      when p.combinator = 'all' then case when c.open = 0 then 'won' end
      when c.completed > 0 then 'won'
      when c.open = 0 then 'lost' end,
    pg_catalog.format('Group %s: %s of %s tasks failed', p.combinator, c.failed, c.open + c.completed + c.failed)
  from nightshift.tasks p cross join lateral (
    select pg_catalog.count(*) filter (where status not in ('completed', 'failed', 'cancelled')) as open,
      pg_catalog.count(*) filter (where status = 'completed') as completed,
      pg_catalog.count(*) filter (where status in ('failed', 'cancelled')) as failed
    from nightshift.tasks where project_id = p.project_id and parent_id = p.id) c
  where p.id = any (p_parents) and p.status = 'awaiting_children'
$$;

-- Refuses groups that nothing could ever wake: every new parent needs a child in the same call.
create function nightshift_private.check_groups(p_task_ids bigint[]) returns void
language plpgsql stable set search_path = '' as $$
declare
  v_id bigint;
begin
  select t.id into v_id from nightshift.tasks t
    where t.id = any (p_task_ids) and t.combinator is not null
      and not exists (select from nightshift.tasks c where c.project_id = t.project_id and c.parent_id = t.id)
    limit 1;
  if v_id is not null then
    perform nightshift_private.fault('NS001', 'A task with a combinator needs children in the same call');
  end if;
end
$$;

-- Refuses tasks that would wait for themselves: a group waits for its children, and so no child may wait
-- for the group, however far around. Every new circle leads from a group to one of its new children.
create function nightshift_private.check_waits(p_task_ids bigint[]) returns void
language plpgsql stable set search_path = '' as $$
declare
  v_id bigint;
begin
  if not exists (select from nightshift.task_dependencies where task_id = any (p_task_ids)) then return; end if;
  with recursive waits (origin, id) as (
    select g.id, c.id from nightshift.tasks c join nightshift.tasks g on g.project_id = c.project_id and g.id = c.parent_id
      where c.id = any (p_task_ids) and g.combinator is not null
    union
    select w.origin, n.id from waits w cross join lateral (
      select d.depends_on as id from nightshift.task_dependencies d where d.task_id = w.id
      union all
      select c.id from nightshift.tasks g join nightshift.tasks c on c.project_id = g.project_id and c.parent_id = g.id
        where g.id = w.id and g.combinator is not null
    ) as n where w.id <> w.origin
  )
  select origin into v_id from waits where id = origin limit 1;
  if v_id is not null then perform nightshift_private.fault('NS035', v_id::text); end if;
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
