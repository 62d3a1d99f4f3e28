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

-- Locks, in ascending id order, every task that finishing this one may touch: its ancestors, itself,
-- and all that depends on or descends from these. Fan-in is the one place where several rows change
-- together; one order for all makes deadlock impossible.
create function nightshift_private.lock_family(p_task_id bigint) returns void
language plpgsql set search_path = '' as $$
declare
  v_ids bigint[];
  v_again bigint[];
begin
  loop
    v_ids := nightshift_private.family(p_task_id);
    perform from nightshift.tasks where id = any (v_ids) order by id for no key update;
    v_again := nightshift_private.family(p_task_id);
    exit when v_again <@ v_ids;
  end loop;
end
$$;

create function nightshift_private.family(p_task_id bigint) returns bigint[]
language sql stable set search_path = '' as $$
  with recursive ancestors as (
    select id, parent_id from nightshift.tasks where id = p_task_id
    union
    select t.id, t.parent_id from nightshift.tasks t join ancestors a on t.id = a.parent_id
  ), below as (
    select id from nightshift.tasks where id = p_task_id
    union
    select next.id from below b cross join lateral (
      select d.task_id as id from nightshift.task_dependencies d where d.depends_on = b.id
      union all
      select t.id from nightshift.tasks t
        where t.parent_id = b.id and t.project_id = (select project_id from nightshift.tasks where id = p_task_id)
    ) next
  )
  select array(select id from ancestors union select id from below)
$$;

-- Brings a task to a terminal state and lets everything that waits for it know. The family is locked.
create function nightshift_private.finish(p_task_id bigint, p_status text, p_output jsonb, p_class text, p_error jsonb)
returns void language plpgsql set search_path = '' as $$
declare
  v_parent bigint;
  v_child bigint;
begin
  update nightshift.tasks set status = p_status, failure_class = case when p_status = 'failed' then p_class end,
      output = coalesce(p_output, output), error = p_error, attempt_open = false
    where id = p_task_id and status not in ('completed', 'failed', 'cancelled')
    returning parent_id into v_parent;
  if not found then return; end if;
  if p_status <> 'completed' then
    for v_child in select id from nightshift.tasks
        where parent_id = p_task_id and status not in ('completed', 'failed', 'cancelled') order by id loop
      perform nightshift_private.finish(v_child, 'cancelled', null, null,
        pg_catalog.jsonb_build_object('message', 'Parent task ended', 'parent', p_task_id));
    end loop;
  end if;
  perform nightshift_private.close_cards(p_task_id);
  perform nightshift_private.settle_dependents(p_task_id, p_status);
  if v_parent is not null then perform nightshift_private.settle_parent(v_parent); end if;
end
$$;

-- Unblocks tasks whose last dependency completed; fails those whose dependency did not.
create function nightshift_private.settle_dependents(p_task_id bigint, p_status text) returns void
language plpgsql set search_path = '' as $$
declare
  v_dependent bigint;
begin
  for v_dependent in select d.task_id from nightshift.task_dependencies d where d.depends_on = p_task_id order by 1 loop
    if p_status = 'completed' then
      update nightshift.tasks set open_dependencies = open_dependencies - 1,
          status = case when open_dependencies > 1 then status
                        when combinator is not null then 'awaiting_children'
                        when run_at > nightshift_private.now() then 'scheduled' else 'pending' end
        where id = v_dependent and status = 'blocked';
      perform nightshift_private.settle_parent(v_dependent);
    else
      perform nightshift_private.finish(v_dependent, 'failed', null, 'dependency',
        pg_catalog.jsonb_build_object('message', pg_catalog.format('Dependency %s is %s', p_task_id, p_status), 'dependency', p_task_id));
    end if;
  end loop;
end
$$;

-- Applies a parent's combinator to the children that have settled: all | race | any | all_settled.
create function nightshift_private.settle_parent(p_parent_id bigint) returns void
language plpgsql set search_path = '' as $$
declare
  v_parent nightshift.tasks;
  v_open int;
  v_completed int;
  v_failed int;
  v_won boolean;
  v_lost boolean;
  v_child bigint;
begin
  select * into v_parent from nightshift.tasks where id = p_parent_id;
  if v_parent.status <> 'awaiting_children' then return; end if;
  select count(*) filter (where status not in ('completed', 'failed', 'cancelled')),
         count(*) filter (where status = 'completed'), count(*) filter (where status in ('failed', 'cancelled'))
    into v_open, v_completed, v_failed
    from nightshift.tasks where project_id = v_parent.project_id and parent_id = p_parent_id;
  v_won := case v_parent.combinator when 'all' then v_failed = 0 and v_open = 0
    when 'race' then v_completed > 0 and v_failed = 0 when 'any' then v_completed > 0 else v_open = 0 end;
  v_lost := case v_parent.combinator when 'all' then v_failed > 0 when 'race' then v_failed > 0
    when 'any' then v_open = 0 else false end;
  if v_won then
    update nightshift.tasks set status = 'pending' where id = p_parent_id;
    for v_child in select id from nightshift.tasks where project_id = v_parent.project_id and parent_id = p_parent_id
        and status not in ('completed', 'failed', 'cancelled') order by id loop
      perform nightshift_private.finish(v_child, 'cancelled', null, null,
        pg_catalog.jsonb_build_object('message', 'Another task of the group was first', 'parent', p_parent_id));
    end loop;
  elsif v_lost then
    perform nightshift_private.finish(p_parent_id, 'failed', null, 'dependency',
      pg_catalog.jsonb_build_object('message', pg_catalog.format('Group %s: %s of %s tasks failed', v_parent.combinator, v_failed, v_open + v_completed + v_failed)));
  end if;
end
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
