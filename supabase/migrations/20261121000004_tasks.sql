-- Tasks: the state machine. Everything that runs is a row here; every change is one function.
--
--            ┌───────────► scheduled ──┐
--   insert ──┼─► blocked ──────────────┼─► pending ──claim──► running ──► completed | failed
--            └─► awaiting_children ────┘      ▲                 │
--                       │                     └── awaiting_tool | awaiting_approval | awaiting_children
--                       └──► completed: a group without agent is done when its children are
--   cancelled is reachable from every state that is not terminal; terminal is terminal, except that a
--   person may retry a failed or cancelled task.
--
-- Fence: each claim hands out a new number and every write of a worker carries it. A worker that
-- slept through its lease holds an old number and is refused (NS030), whatever it tries to write.

create table nightshift.task_transitions (
  from_status text not null,
  to_status text not null,
  primary key (from_status, to_status)
);
comment on table nightshift.task_transitions is 'The legal state changes; one trigger enforces them.';
insert into nightshift.task_transitions (from_status, to_status)
select f, t from (values
  ('blocked', array['pending', 'scheduled', 'awaiting_children', 'failed', 'cancelled']),
  ('scheduled', array['pending', 'failed', 'cancelled']),
  ('pending', array['running', 'scheduled', 'failed', 'cancelled']),
  ('running', array['pending', 'scheduled', 'awaiting_tool', 'awaiting_approval', 'awaiting_children', 'completed', 'failed', 'cancelled']),
  ('awaiting_tool', array['pending', 'failed', 'cancelled']),
  ('awaiting_approval', array['pending', 'failed', 'cancelled']),
  ('awaiting_children', array['pending', 'completed', 'failed', 'cancelled']),
  ('failed', array['pending', 'blocked', 'awaiting_children']),
  ('cancelled', array['pending', 'blocked', 'awaiting_children'])
) as v(f, ts), unnest(ts) as t;

create sequence nightshift_private.fence as bigint;

create table nightshift.tasks (
  id bigint generated always as identity primary key,
  project_id uuid not null references nightshift.projects (id) on delete cascade,
  agent text,
  agent_version int,
  key text check (length(key) between 1 and 255),
  stream_id bigint not null,
  concurrency_key text check (length(concurrency_key) between 1 and 255),
  queue text not null default 'default' check (queue ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
  status text not null check (status in ('blocked', 'scheduled', 'pending', 'running', 'awaiting_tool',
    'awaiting_approval', 'awaiting_children', 'completed', 'failed', 'cancelled')),
  lane smallint not null default 2 check (lane between 0 and 5),
  input jsonb not null default '{}',
  template boolean not null default false,
  index int check (index >= 0),
  output jsonb,
  failure_class text check (failure_class in ('context_loss', 'rate_limit', 'optimistic_completion', 'stuck',
    'malformed_output', 'dependency', 'external', 'permission', 'budget', 'expired', 'internal')),
  error jsonb,
  attempt smallint not null default 0,
  max_attempts smallint not null default 4 check (max_attempts between 1 and 20),
  rescues smallint not null default 0,
  run_at timestamptz not null default nightshift_private.now(),
  deadline_at timestamptz,
  idempotency_key text check (length(idempotency_key) between 1 and 255),
  request_digest text,
  subject text check (length(subject) <= 255),
  purpose text not null default 'operations' check (length(purpose) <= 255),
  labels text[] not null default '{}' check (cardinality(labels) <= 20 and length(labels::text) <= 2000),
  parent_id bigint,
  combinator text check (combinator in ('all', 'race', 'any', 'all_settled')),
  quorum int check (quorum > 0),
  open_dependencies int not null default 0,
  step_count int not null default 0,
  budget_usd numeric(14, 6) check (budget_usd >= 0),
  spent_usd numeric(14, 6) not null default 0,
  worker text,
  fence bigint,
  lease_until timestamptz,
  attempt_open boolean not null default false,
  avoid_worker text,
  healed_at timestamptz,
  version bigint not null default 1,
  created_by uuid default auth.uid(),
  created_at timestamptz not null default nightshift_private.now(),
  started_at timestamptz,
  progress_at timestamptz,
  finished_at timestamptz,
  unique (project_id, id),
  constraint tasks_idempotency unique (idempotency_key, project_id),
  foreign key (project_id, parent_id) references nightshift.tasks (project_id, id) on delete cascade,
  foreign key (project_id, agent, agent_version) references nightshift.agents (project_id, name, version),
  -- Impossible rows are impossible.
  check ((status = 'running') = (lease_until is not null)),
  check ((status in ('completed', 'failed', 'cancelled')) = (finished_at is not null)),
  check ((status = 'failed') = (failure_class is not null)),
  check (status <> 'completed' or output is not null),
  check (status <> 'blocked' or open_dependencies > 0),
  check ((agent is null) = (agent_version is null)),
  check (agent is not null or (combinator is not null and status in ('blocked', 'awaiting_children', 'completed', 'failed', 'cancelled'))),
  check (quorum is null or combinator in ('any', 'all_settled'))
) with (fillfactor = 80);
comment on table nightshift.tasks is 'One row per promised piece of work. Insert your own columns; everything else changes through functions.';
comment on column nightshift.tasks.agent is 'Who does the work; null for a group that only waits for its children.';
comment on column nightshift.tasks.key is 'Its key in the call that made it; what {{results.<key>}} of a dependent names.';
comment on column nightshift.tasks.template is 'The input still holds placeholders; it is rendered once, when the last dependency or child has settled.';
comment on column nightshift.tasks.index is 'Position among the children of its parent, from 0; what {{index}} says.';
comment on column nightshift.tasks.quorum is 'Completed children that are enough for its combinator.';
comment on column nightshift.tasks.lane is 'Priority lane: 0 (urgent) to 5 (background).';
comment on column nightshift.tasks.attempt is 'Executions that count against max_attempts; rescues and waits do not.';
comment on column nightshift.tasks.fence is 'Number of the latest claim, null after a rescue; a worker that holds another one is refused.';
comment on column nightshift.tasks.open_dependencies is 'Tasks this one still waits for; it is blocked until 0.';
comment on column nightshift.tasks.avoid_worker is 'Worker under which the task got stuck; others are preferred for five minutes.';
comment on column nightshift.tasks.healed_at is 'When the one last attempt with a stronger model was granted.';
comment on column nightshift.tasks.version is 'Grows with every change; the newer version wins for a reader that sees events out of order.';

create index tasks_claimable on nightshift.tasks (stream_id, run_at, id) where status = 'pending';
create index tasks_running on nightshift.tasks (project_id, agent) where status = 'running';
create index tasks_scheduled on nightshift.tasks (run_at) where status = 'scheduled';
create index tasks_leased on nightshift.tasks (lease_until) where status = 'running';
create index tasks_deadline on nightshift.tasks (deadline_at)
  where deadline_at is not null and status not in ('completed', 'failed', 'cancelled');
-- Only unique (project_id, id) starts with project_id. A plan made while the table was small may take any
-- index that starts with a column it has, and is kept: foreign keys and group look-ups then walk the whole
-- project for each of 10,000 children (20 s instead of 3).
create index tasks_by_parent on nightshift.tasks (parent_id, status) where parent_id is not null;

create table nightshift.steps (
  project_id uuid not null,
  task_id bigint not null,
  seq int not null check (seq > 0),
  kind text not null check (kind in ('model_call', 'tool_call', 'ask', 'decision', 'checkpoint', 'error')),
  action text not null,
  input jsonb not null default '{}',
  output jsonb,
  error jsonb,
  attempt smallint not null,
  fence bigint,
  duration_ms int,
  created_at timestamptz not null default nightshift_private.now(),
  primary key (task_id, seq),
  foreign key (project_id, task_id) references nightshift.tasks (project_id, id) on delete cascade
);
comment on table nightshift.steps is 'Append-only history of a task; a recorded step never runs again.';
create index steps_by_project on nightshift.steps (project_id, task_id);

alter table nightshift.task_transitions enable row level security;
alter table nightshift.tasks enable row level security;
alter table nightshift.steps enable row level security;
create policy everyone_reads_transitions on nightshift.task_transitions for select to authenticated using (true);
create policy members_read_tasks on nightshift.tasks for select to authenticated
  using (project_id = any (array(select nightshift_private.my_projects())));
create policy operators_insert_tasks on nightshift.tasks for insert to authenticated
  with check (project_id = any (array(select nightshift_private.my_projects('{owner,operator}'))));
create policy members_read_steps on nightshift.steps for select to authenticated
  using (project_id = any (array(select nightshift_private.my_projects())));
grant select on nightshift.task_transitions, nightshift.tasks, nightshift.steps to authenticated, service_role;
grant insert (project_id, agent, queue, concurrency_key, lane, input, run_at, deadline_at, idempotency_key, subject, purpose, labels, parent_id, budget_usd)
  on nightshift.tasks to authenticated, service_role;

-- ── coming in ────────────────────────────────────────────────────────────────────────────────────

-- Fills and checks a new task, whichever way it comes in: pins the agent version, validates the
-- input, chooses the first state. Runs as definer because the caller may not read all it needs.
create function nightshift_private.prepare_task() returns trigger
language plpgsql security definer set search_path = '' as $$
declare
  v_agent nightshift.agents;
  v_violation text;
begin
  -- First of all: a foreign project answers like an unknown one, whatever else is wrong (no oracle).
  perform nightshift_private.require_role(new.project_id, 'enqueue tasks', 'owner', 'operator');
  select * into v_agent from nightshift.agents
    where project_id = new.project_id and name = new.agent and active;
  if v_agent.name is null and (new.agent is not null or new.combinator is null) then
    perform nightshift_private.fault('NS020', coalesce(pg_catalog.left(new.agent, 80), 'null'), new.project_id::text);
  end if;
  perform nightshift_private.check_payload('input', new.input);
  -- What a template becomes is checked when it is rendered.
  v_violation := case when not new.template then nightshift_private.schema_violation(v_agent.input_schema, new.input) end;
  if v_violation is not null then perform nightshift_private.fault('NS021', new.agent, v_violation); end if;
  -- Only direct inserts leave the version open; enqueue has looked at all its parents at once.
  if new.agent_version is null then perform nightshift_private.check_parent(new); end if;
  new.agent_version := v_agent.version;
  new.queue := coalesce(nullif(new.queue, 'default'), v_agent.queue, 'default');
  new.max_attempts := coalesce(v_agent.max_attempts, 1);
  new.budget_usd := coalesce(new.budget_usd, v_agent.budget_usd);
  new.run_at := coalesce(new.run_at, nightshift_private.now());
  new.request_digest := nightshift_private.request_digest(new);
  new.stream_id := nightshift_private.stream_id(new.queue, new.lane, new.project_id, new.agent, new.concurrency_key);
  new.status := case
    when new.open_dependencies > 0 then 'blocked'
    when new.combinator is not null then 'awaiting_children'
    when not nightshift_private.is_due(new.run_at) then 'scheduled'
    else 'pending' end;
  return new;
end
$$;

-- Refuses children of tasks that have ended: nothing would cancel or await them.
create function nightshift_private.check_parent(p_task nightshift.tasks) returns void
language plpgsql stable set search_path = '' as $$
declare
  v_status text;
begin
  if p_task.parent_id is null then return; end if;
  select status into v_status from nightshift.tasks where project_id = p_task.project_id and id = p_task.parent_id;
  if v_status in ('completed', 'failed', 'cancelled') then
    perform nightshift_private.fault('NS029', p_task.parent_id::text, v_status);
  end if;
end
$$;

-- What makes two requests with one idempotency key the same request.
create function nightshift_private.request_digest(p_task nightshift.tasks) returns text
language sql immutable set search_path = '' as $$
  select nightshift_private.sha256_hex(pg_catalog.jsonb_build_array(
    p_task.agent, p_task.input, p_task.lane, p_task.subject, p_task.purpose, p_task.budget_usd, p_task.parent_id)::text)
$$;

create trigger prepare before insert on nightshift.tasks
  for each row execute function nightshift_private.prepare_task();

-- Refuses what is not a task request: unknown fields, wrong types. p_name is how messages call it.
create function nightshift_private.check_request(p_request jsonb, p_name text) returns void
language plpgsql stable set search_path = '' as $$
begin
  perform nightshift_private.check_object(p_name, p_request, '{
    "required": ["project"],
    "properties": {
      "project": {"type": "string", "pattern": "^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$"},
      "agent": {"type": "string", "maxLength": 63}, "input": true, "template": {"type": "boolean"},
      "key": {"type": "string", "minLength": 1, "maxLength": 255},
      "lane": {"type": "integer", "minimum": 0, "maximum": 5},
      "queue": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]{0,62}$"},
      "concurrency_key": {"type": "string", "minLength": 1, "maxLength": 255},
      "run_at": {"type": "string"}, "deadline_at": {"type": "string"},
      "after": {"type": "array", "maxItems": 10000, "items": {"type": ["string", "integer", "object"],
        "required": ["task"], "additionalProperties": false,
        "properties": {"task": {"type": ["string", "integer"]}, "on_failure": {"enum": ["fail", "skip", "continue"]}}}},
      "parent": {"type": ["string", "integer"]}, "index": {"type": "integer", "minimum": 0, "maximum": 2000000000},
      "combinator": {"enum": ["all", "race", "any", "all_settled"]}, "quorum": {"type": "integer", "minimum": 1, "maximum": 10000},
      "idempotency_key": {"type": "string", "minLength": 1, "maxLength": 255},
      "subject": {"type": "string", "maxLength": 255}, "purpose": {"type": "string", "maxLength": 255},
      "budget_usd": {"type": "number", "minimum": 0, "maximum": 99999999},
      "labels": {"type": "array", "items": {"type": "string", "maxLength": 80}, "maxItems": 20}}}');
  if p_request ?| array['run_at', 'deadline_at'] then
    perform nightshift_private.check_time(p_request ->> 'run_at', p_name || '.run_at');
    perform nightshift_private.check_time(p_request ->> 'deadline_at', p_name || '.deadline_at');
  end if;
  if p_request ? 'combinator' and not p_request ? 'key' then
    perform nightshift_private.fault('NS001', p_name || ' has a combinator and needs a "key" for its children');
  end if;
  if not p_request ?| array['agent', 'combinator'] then
    perform nightshift_private.fault('NS001', p_name || '.agent is missing');
  end if;
  if p_request ? 'quorum' and coalesce(p_request ->> 'combinator', '') not in ('any', 'all_settled') then
    perform nightshift_private.fault('NS001', p_name || ' has a quorum and needs the combinator "any" or "all_settled"');
  end if;
end
$$;

-- Refuses what is not an ISO 8601 time; absent is fine.
create function nightshift_private.check_time(p_text text, p_name text) returns void
language plpgsql stable set search_path = '' as $$
declare
  v_time timestamptz;
begin
  if p_text ~ '^\d{4}-\d\d-\d\d' then v_time := p_text; end if;
  if v_time is not null or p_text is null then return; end if;
  raise invalid_datetime_format;
exception when datetime_field_overflow or invalid_datetime_format or invalid_parameter_value then
  perform nightshift_private.fault('NS001', pg_catalog.format('%s is "%s", wanted an ISO 8601 time', p_name, pg_catalog.left(p_text, 80)));
end
$$;

-- Refuses the whole call if one element is no task request, a key is used twice, or the caller may
-- not enqueue in one of the projects. A single object counts as an array of one.
create function nightshift_private.check_requests(p_tasks jsonb) returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  v_tasks jsonb := case when pg_catalog.jsonb_typeof(p_tasks) = 'object' then pg_catalog.jsonb_build_array(p_tasks) else p_tasks end;
  v_key text;
begin
  if pg_catalog.jsonb_typeof(v_tasks) is distinct from 'array' or pg_catalog.jsonb_array_length(v_tasks) not between 1 and 10000 then
    perform nightshift_private.fault('NS001', 'Argument "tasks" must be an array of 1 to 10000 task objects');
  end if;
  perform nightshift_private.check_request(value, 'task ' || coalesce(pg_catalog.quote_ident(pg_catalog.left(value ->> 'key', 80)), '#' || place))
    from pg_catalog.jsonb_array_elements(v_tasks) with ordinality as r(value, place);
  perform nightshift_private.require_role(project::uuid, 'enqueue tasks', 'owner', 'operator')
    from (select distinct value ->> 'project' from pg_catalog.jsonb_array_elements(v_tasks)) as p(project);
  select value ->> 'key' into v_key from pg_catalog.jsonb_array_elements(v_tasks)
    where value ? 'key' group by 1 having pg_catalog.count(*) > 1 limit 1;
  if v_key is not null then
    perform nightshift_private.fault('NS001', pg_catalog.format('Key "%s" is used twice in one call', v_key));
  end if;
  return v_tasks;
end
$$;

-- The id of each request, in order: of the task that its idempotency key already made, else a new one.
-- Two requests of one call with the same idempotency key are one task.
create function nightshift_private.assign_ids(p_tasks jsonb) returns bigint[]
language sql set search_path = '' as $$
  with request as materialized (
    select r.place, t.id as existing, case when r.value ? 'idempotency_key'
      then (r.value ->> 'project')::uuid || ' ' || (r.value ->> 'idempotency_key') else r.place::text end as identity
    from pg_catalog.jsonb_array_elements(p_tasks) with ordinality as r(value, place)
    left join nightshift.tasks t
      on t.project_id = (r.value ->> 'project')::uuid and t.idempotency_key = r.value ->> 'idempotency_key'
  ), numbered as materialized (
    select identity, coalesce(existing, pg_catalog.nextval('nightshift.tasks_id_seq')) as id
    from (select identity, pg_catalog.min(existing) as existing from request group by identity order by pg_catalog.min(place)) as one
  )
  select pg_catalog.array_agg(n.id order by r.place) from request r join numbered n using (identity)
$$;

-- What requests refer to: `parent` and `after` name an earlier key of the call or a task of the project.
-- id is null where there is no such task; status is null for tasks that are not inserted yet; position is
-- the place in `after`.
create function nightshift_private.references_of(p_tasks jsonb, p_ids bigint[])
returns table (place bigint, kind text, name text, id bigint, status text, "position" int, on_failure text)
language sql stable set search_path = '' as $$
  with request as materialized (
    select r.place, r.value, (r.value ->> 'project')::uuid as project_id, r.value ->> 'key' as key
    from pg_catalog.jsonb_array_elements(p_tasks) with ordinality as r(value, place)
  ), reference as (
    select place, project_id, 'parent' as kind, value ->> 'parent' as name, 1 as position, null as on_failure from request where value ? 'parent'
    union all
    select r.place, r.project_id, 'after', coalesce(a.value ->> 'task', a.value #>> '{}'), a.position::int, coalesce(a.value ->> 'on_failure', 'fail')
    from request r cross join pg_catalog.jsonb_array_elements(r.value -> 'after') with ordinality as a (value, position)
  ), resolved as (
    select f.*, k.place is not null as is_key,
      coalesce(p_ids[k.place], case when f.name ~ '^[0-9]{1,18}$' then f.name::bigint end) as id
    from reference f left join request k on k.key = f.name and k.place < f.place and k.project_id = f.project_id
  )
  select r.place, r.kind, r.name, case when r.is_key or t.id is not null then r.id end, t.status, r.position, r.on_failure
  from resolved r left join nightshift.tasks t on t.id = r.id and t.project_id = r.project_id
$$;

-- Locks, in ascending order, the existing tasks that requests refer to, so that none of them can end
-- between being looked at and being linked. Calls that could close a circle (see check_waits) together
-- with another one take turns first.
create function nightshift_private.lock_references(p_tasks jsonb) returns void
language plpgsql set search_path = '' as $$
begin
  if pg_catalog.jsonb_path_exists(p_tasks, '$[*].after[0]') and pg_catalog.jsonb_path_exists(p_tasks, '$[*].parent') then
    perform pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('nightshift.waits ' || p.id, 0))
      from (select distinct pg_catalog.lower(q ->> 'project') from pg_catalog.jsonb_array_elements(p_tasks) q
            where q ->> 'parent' ~ '^[0-9]{1,18}$' order by 1) as p (id);
  end if;
  perform from nightshift.tasks t
    where t.id in (select (r #>> '{}')::bigint
                   from (select pg_catalog.jsonb_path_query(p_tasks, '$[*].parent') union all select pg_catalog.jsonb_path_query(p_tasks, '$[*].after[*]')
                     union all select pg_catalog.jsonb_path_query(p_tasks, '$[*].after[*].task')) as x (r)
                   where r #>> '{}' ~ '^[0-9]{1,18}$')
      and t.project_id in (select (q ->> 'project')::uuid from pg_catalog.jsonb_array_elements(p_tasks) q)
    order by t.id for share;
end
$$;

-- Refuses references to nothing, to parents that have ended, and to tasks that can no longer be waited for.
create function nightshift_private.check_references(p_tasks jsonb, p_ids bigint[], p_new bigint[]) returns void
language plpgsql stable set search_path = '' as $$
declare
  v_bad record;
begin
  select f.place, f.kind, f.name, f.id, f.status into v_bad from nightshift_private.references_of(p_tasks, p_ids) f
    left join pg_catalog.unnest(p_new) n (id) on n.id = p_ids[f.place]
    where f.id is null or (n.id is not null and case f.kind when 'parent' then f.status in ('completed', 'failed', 'cancelled')
      else f.on_failure <> 'continue' and f.status in ('failed', 'cancelled') end)
    order by f.place limit 1;
  if v_bad.place is null then return; end if;
  if v_bad.id is not null and v_bad.kind = 'parent' then perform nightshift_private.fault('NS029', v_bad.id::text, v_bad.status); end if;
  if v_bad.id is not null then perform nightshift_private.fault('NS028', v_bad.id::text, v_bad.status); end if;
  perform nightshift_private.fault('NS025', pg_catalog.left(v_bad.name, 80),
    coalesce(p_tasks -> (v_bad.place::int - 1) ->> 'key', '#' || v_bad.place));
end
$$;

-- Inserts the requests that are not tasks yet, in one statement; returns their ids. Hash joins only: a plan
-- made for small calls is kept, and nested loops over 10,000 requests take minutes.
create function nightshift_private.insert_requests(p_tasks jsonb, p_ids bigint[]) returns bigint[]
language plpgsql set search_path = '' set enable_nestloop = off as $$
declare
  v_new bigint[] := array(select i from pg_catalog.unnest(p_ids) i except select t.id from nightshift.tasks t where t.id = any (p_ids));
begin
  perform nightshift_private.check_references(p_tasks, p_ids, v_new);
  insert into nightshift.tasks (id, project_id, agent, agent_version, key, status, stream_id, queue, concurrency_key, lane, input, template, index,
      run_at, deadline_at, idempotency_key, subject, purpose, labels, parent_id, combinator, quorum, open_dependencies, budget_usd)
    overriding system value
  select n.id, (v ->> 'project')::uuid, v ->> 'agent', 0, v ->> 'key', 'pending', 0, coalesce(v ->> 'queue', 'default'), v ->> 'concurrency_key',
    coalesce((v ->> 'lane')::numeric, 2), coalesce(v -> 'input', '{}'),
    coalesce((v ->> 'template')::boolean, false), (v ->> 'index')::numeric, (v ->> 'run_at')::timestamptz, (v ->> 'deadline_at')::timestamptz,
    v ->> 'idempotency_key', v ->> 'subject', coalesce(v ->> 'purpose', 'operations'),
    array(select pg_catalog.jsonb_array_elements_text(v -> 'labels')), l.parent, v ->> 'combinator',
    (v ->> 'quorum')::numeric, coalesce(l.open, 0), (v ->> 'budget_usd')::numeric
  from pg_catalog.unnest(v_new) n (id)
  join (select p_ids[place] as id, place, v, pg_catalog.row_number() over (partition by p_ids[place] order by place) as turn
        from pg_catalog.jsonb_array_elements(p_tasks) with ordinality as e(v, place)) r on r.id = n.id and r.turn = 1
  left join (select f.place, pg_catalog.max(f.id) filter (where f.kind = 'parent') as parent,
        pg_catalog.count(distinct f.id) filter (where f.kind = 'after' and coalesce(f.status, 'new') not in ('completed', 'failed', 'cancelled')) as open
      from nightshift_private.references_of(p_tasks, p_ids) f group by f.place) l on l.place = r.place
  -- Calls with the same keys wait for each other: in one order, or they would deadlock.
  order by v ->> 'idempotency_key' nulls first, n.id;
  insert into nightshift.task_dependencies (project_id, task_id, depends_on, position, on_failure)
  select distinct on (t.id, f.id) t.project_id, t.id, f.id, f.position, f.on_failure from nightshift_private.references_of(p_tasks, p_ids) f
    join pg_catalog.unnest(v_new) n (id) on n.id = p_ids[f.place] join nightshift.tasks t on t.id = n.id
    where f.kind = 'after' order by t.id, f.id, f.position;
  return v_new;
end
$$;

-- Refuses requests whose idempotency key belongs to a task made from other content.
create function nightshift_private.check_repeats(p_tasks jsonb, p_ids bigint[], p_new bigint[]) returns void
language plpgsql stable set search_path = '' as $$
declare
  v_request record;
  v_task nightshift.tasks;
  v_asked nightshift.tasks;
begin
  for v_request in
    select r.v, r.id, f.id as parent
    from (select v, place, p_ids[place] as id, pg_catalog.row_number() over (partition by p_ids[place] order by place) as turn
          from pg_catalog.jsonb_array_elements(p_tasks) with ordinality as e(v, place)) r
    left join pg_catalog.unnest(p_new) n (id) on n.id = r.id
    left join nightshift_private.references_of(p_tasks, p_ids) f on f.place = r.place and f.kind = 'parent'
    where n.id is null or r.turn > 1
  loop
    select * into strict v_task from nightshift.tasks where id = v_request.id;
    v_asked := v_task;
    v_asked.agent := v_request.v ->> 'agent';
    v_asked.input := coalesce(v_request.v -> 'input', '{}');
    v_asked.lane := coalesce((v_request.v ->> 'lane')::numeric, 2);
    v_asked.subject := v_request.v ->> 'subject';
    v_asked.purpose := coalesce(v_request.v ->> 'purpose', 'operations');
    v_asked.budget_usd := coalesce((v_request.v ->> 'budget_usd')::numeric, v_task.budget_usd);
    v_asked.parent_id := v_request.parent;
    if nightshift_private.request_digest(v_asked) <> v_task.request_digest then
      perform nightshift_private.fault('NS024', v_task.idempotency_key, v_task.id::text);
    end if;
  end loop;
end
$$;

-- Hands in tasks: all or none. Each element {project, agent, input, key?, lane?, queue?, run_at?,
-- concurrency_key?, after?, parent?, combinator?, quorum?, index?, template?, idempotency_key?, subject?,
-- purpose?, budget_usd?, deadline_at?, labels?}. References (`after`, `parent`) name the key of an earlier
-- element or the id of a task.
--   after       [key | id | {task: key | id, on_failure}]: waits for these tasks. When one of them fails or is
--               cancelled, on_failure says what becomes of this task: `fail` (default) it fails with it,
--               `skip` it is cancelled, `continue` it goes on and sees null as the result
--   combinator  when the children of this task are enough: `all` completed, `race` the first to end, `any`
--               (the first, or `quorum` of them, to complete), `all_settled` (all have ended, or `quorum`
--               have completed, or deadline_at has come); the others are cancelled. Without `agent` the
--               group completes with the results of its children (group_output)
--   template    whether the input may hold placeholders (see …_templates.sql); default: yes for elements with
--               after, parent or combinator, no for others. Say false where the input is text from outside
--   index       what {{index}} says; default: the position among the elements with the same parent
create function nightshift.enqueue(tasks jsonb)
returns table (id bigint, key text, status text, created boolean)
language plpgsql security definer set search_path = '' as $$
declare
  v_tasks jsonb := nightshift_private.check_requests(tasks);
  v_ids bigint[];
  v_new bigint[];
begin
  if v_tasks @? '$[*].parent' or pg_catalog.strpos(v_tasks::text, '{{') > 0 then v_tasks := nightshift_private.fill_requests(v_tasks); end if;
  perform nightshift_private.lock_references(v_tasks);
  for v_try in 1 .. 5 loop
    begin
      v_ids := nightshift_private.assign_ids(v_tasks);
      v_new := nightshift_private.insert_requests(v_tasks, v_ids);
      exit;
    exception when unique_violation then
      -- Another call was first with the same idempotency key: look again and find its task.
      if v_try = 5 then raise; end if;
    end;
  end loop;
  perform nightshift_private.check_repeats(v_tasks, v_ids, v_new);
  if v_tasks @? '$[*].parent' or v_tasks @? '$[*].combinator' then
    perform nightshift_private.check_groups(v_new);
    perform nightshift_private.check_waits(v_new);
  end if;
  if v_tasks @? '$[*] ? (@.template == true)' then perform nightshift_private.render_new(v_new); end if;
  return query
    select t.id, r.v ->> 'key', t.status, n.id is not null and r.place = pg_catalog.min(r.place) over (partition by t.id)
    from pg_catalog.jsonb_array_elements(v_tasks) with ordinality as r(v, place)
    join nightshift.tasks t on t.id = v_ids[r.place]
    left join pg_catalog.unnest(v_new) n (id) on n.id = t.id
    order by r.place;
end
$$;
grant execute on function nightshift.enqueue(jsonb) to authenticated, service_role;

-- ── every change ─────────────────────────────────────────────────────────────────────────────────

-- Guards each update: legal transition, growing version, lease fields that fit the state.
create function nightshift_private.guard_task() returns trigger
language plpgsql set search_path = '' as $$
begin
  if new.status <> old.status then
    if not exists (select from nightshift.task_transitions where from_status = old.status and to_status = new.status) then
      perform nightshift_private.fault('NS031', old.id::text, old.status, new.status);
    end if;
    if new.status <> 'running' then
      new.lease_until := null;
      new.worker := null;
    end if;
    new.finished_at := case when new.status in ('completed', 'failed', 'cancelled') then nightshift_private.now() end;
  end if;
  new.version := old.version + 1;
  return new;
end
$$;
create trigger guard before update on nightshift.tasks
  for each row execute function nightshift_private.guard_task();

-- Locks a task for its worker, or refuses: NS032 unknown, NS030 no longer held with this fence.
create function nightshift_private.hold(p_task_id bigint, p_fence bigint) returns nightshift.tasks
language plpgsql set search_path = '' as $$
declare
  v_task nightshift.tasks;
begin
  select * into v_task from nightshift.tasks where id = p_task_id for no key update;
  if v_task.id is null then perform nightshift_private.fault('NS032', coalesce(p_task_id::text, 'null')); end if;
  if v_task.status <> 'running' or v_task.fence is distinct from p_fence then
    perform nightshift_private.fault('NS030', p_task_id::text, coalesce(p_fence::text, 'null'));
  end if;
  return v_task;
end
$$;

-- ── failure ──────────────────────────────────────────────────────────────────────────────────────

-- How each failure class is met. Delays in order of retry; the last one repeats.
create table nightshift.failure_policies (
  failure_class text primary key,
  retry boolean not null,
  burns_attempt boolean not null,
  heal boolean not null default false,
  delays interval[] not null default '{2 minutes,10 minutes,30 minutes}'
);
comment on table nightshift.failure_policies is 'Per failure class: whether a task is retried, when, whether that counts against max_attempts, and whether it gets one last attempt with a stronger model.';
insert into nightshift.failure_policies (failure_class, retry, burns_attempt, heal, delays) values
  ('context_loss', true, true, true, '{0}'), ('rate_limit', true, false, false, '{2 minutes,10 minutes,30 minutes}'),
  ('optimistic_completion', true, true, true, '{0}'), ('stuck', true, true, true, '{2 minutes,10 minutes,30 minutes}'),
  ('malformed_output', true, true, true, '{10 seconds,2 minutes,10 minutes}'), ('dependency', false, true, false, '{0}'),
  ('external', true, true, false, '{2 minutes,10 minutes,30 minutes}'), ('permission', false, true, false, '{0}'),
  ('budget', false, true, false, '{0}'), ('expired', false, true, false, '{0}'),
  ('internal', true, true, false, '{2 minutes,10 minutes,30 minutes}');
alter table nightshift.failure_policies enable row level security;
create policy everyone_reads_failure_policies on nightshift.failure_policies for select to authenticated using (true);
grant select on nightshift.failure_policies to authenticated, service_role;

-- Ends an attempt by class: back to the queue, at once or later, or failed for good. error may carry
-- retry_after_ms, which wins over the policy's delay (at most a week). The task is held and its reach locked.
create function nightshift_private.end_attempt(p_task nightshift.tasks, p_class text, p_error jsonb) returns void
language plpgsql set search_path = '' as $$
declare
  v_policy nightshift.failure_policies;
  v_heal boolean;
  v_delay interval;
begin
  select * into v_policy from nightshift.failure_policies where failure_class = p_class;
  if v_policy.failure_class is null then
    perform nightshift_private.fault('NS001', pg_catalog.format('Unknown failure class "%s"', p_class));
  end if;
  v_heal := v_policy.burns_attempt and p_task.attempt >= p_task.max_attempts;
  if not v_policy.retry or (v_heal and (not v_policy.heal or p_task.healed_at is not null)) then
    perform nightshift_private.finish(array[row(p_task.id, 'failed', null, p_class, p_error)::nightshift_private.ending]);
    return;
  end if;
  v_delay := case when pg_catalog.jsonb_typeof(p_error -> 'retry_after_ms') = 'number'
    then pg_catalog.make_interval(secs => least((p_error ->> 'retry_after_ms')::numeric, 604800000) / 1000.0)
    else v_policy.delays[least(greatest(p_task.attempt, 1), pg_catalog.cardinality(v_policy.delays))] end;
  update nightshift.tasks set status = case when v_delay > interval '0' then 'scheduled' else 'pending' end,
      run_at = nightshift_private.now() + v_delay, error = p_error, attempt_open = not v_policy.burns_attempt,
      avoid_worker = case when p_class = 'stuck' then p_task.worker end,
      healed_at = case when v_heal then nightshift_private.now() else healed_at end
    where id = p_task.id;
end
$$;

-- ── worker calls (service role only) ─────────────────────────────────────────────────────────────

-- Extends leases. leases: [{task_id, fence}]. Returns those still held; a missing one is lost.
create function nightshift.heartbeat(leases jsonb, lease_seconds int default 90)
returns table (task_id bigint, fence bigint, lease_until timestamptz)
language sql security definer set search_path = '' as $$
  with held as materialized (
    select t.id from nightshift.tasks t join pg_catalog.jsonb_to_recordset(leases) as l(task_id bigint, fence bigint)
      on t.id = l.task_id and t.fence = l.fence
    where t.status = 'running' order by t.id for no key update of t
  )
  update nightshift.tasks t
    set lease_until = nightshift_private.now() + pg_catalog.make_interval(secs => lease_seconds)
    from held where t.id = held.id
    returning t.id, t.fence, t.lease_until
$$;

-- Gives a task back untouched; burns no attempt.
create function nightshift.release(task_id bigint, fence bigint) returns void
language plpgsql security definer set search_path = '' as $$
begin
  perform nightshift_private.hold(release.task_id, release.fence);
  update nightshift.tasks set status = 'pending' where id = release.task_id;
end
$$;

-- Reports a failed attempt; returns where the task went. A second report is refused with NS030.
create function nightshift.fail(task_id bigint, fence bigint, failure_class text, error jsonb default '{}') returns text
language plpgsql security definer set search_path = '' as $$
declare
  v_task nightshift.tasks;
begin
  perform nightshift_private.check_payload('error', fail.error, 8192);
  perform nightshift_private.lock_reach(array[fail.task_id], 'ended');
  v_task := nightshift_private.hold(fail.task_id, fail.fence);
  perform nightshift_private.end_attempt(v_task, fail.failure_class, fail.error);
  return (select t.status from nightshift.tasks t where t.id = fail.task_id);
end
$$;

-- Completes held tasks that nothing waits for; they are locked. A running task has no open card, so there
-- is none to close. No nested loops: the plan is kept whatever the number of results.
create function nightshift_private.complete_alone(p_results jsonb) returns table (task_id bigint, outcome text)
language plpgsql set search_path = '' set enable_nestloop = off as $$
begin
  return query
  with result as materialized (
    select (r ->> 'task_id')::bigint as id, (r ->> 'fence')::bigint as fence, coalesce(r -> 'output', 'null') as output, place
    from pg_catalog.jsonb_array_elements(p_results) with ordinality as e (r, place)
  ), before as materialized (
    select t.id, t.fence, t.status from nightshift.tasks t where t.id = any (array(select r.id from result r))
  ), one as materialized (
    select distinct on (r.id) r.id, r.output from result r join before b on b.id = r.id and b.fence = r.fence
    where b.status = 'running' order by r.id, r.place
  ), ended as (
    update nightshift.tasks t set status = 'completed', output = o.output, error = null, attempt_open = false
      from one o where t.id = any (array(select o.id from one o)) and t.id = o.id
  )
  select r.id, case when b.status in ('running', 'completed') then 'completed' else 'stale' end
    from result r left join before b on b.id = r.id and b.fence = r.fence order by 1;
end
$$;

-- Completes tasks that keep no steps, in one call. results: [{task_id, fence, output}]. Returns one row
-- per element; outcome `completed`, or `stale` when another worker has taken over.
create function nightshift.complete(results jsonb)
returns table (task_id bigint, outcome text)
language plpgsql security definer set search_path = '' as $$
begin
  perform nightshift_private.check_payload('output', r -> 'output') from pg_catalog.jsonb_array_elements(results) r;
  if nightshift_private.lock_alone(array(select (r ->> 'task_id')::bigint from pg_catalog.jsonb_array_elements(results) r)) then
    return query select * from nightshift_private.complete_alone(results);
    return;
  end if;
  perform nightshift_private.finish(array(
    select row(t.id, 'completed', coalesce(r.output, 'null'), null, null)::nightshift_private.ending
    from pg_catalog.jsonb_to_recordset(results) as r(task_id bigint, fence bigint, output jsonb)
    join nightshift.tasks t on t.id = r.task_id and t.fence = r.fence and t.status = 'running'));
  return query
    select r.task_id, case when t.status = 'completed' then 'completed' else 'stale' end
    from pg_catalog.jsonb_to_recordset(results) as r(task_id bigint, fence bigint)
    left join nightshift.tasks t on t.id = r.task_id and t.fence = r.fence order by 1;
end
$$;

-- ── people ───────────────────────────────────────────────────────────────────────────────────────

-- Cancels a task and all that hangs on it. Terminal tasks stay as they are; returns the status.
create function nightshift.cancel(task_id bigint, reason text default '') returns text
language plpgsql security definer set search_path = '' as $$
begin
  perform nightshift_private.require_task_role(cancel.task_id, 'cancel tasks');
  perform nightshift_private.check_payload('reason', pg_catalog.to_jsonb(reason), 8192);
  perform nightshift_private.lock_reach(array[cancel.task_id], 'ended');
  perform nightshift_private.finish(array[row(cancel.task_id, 'cancelled', null, null, pg_catalog.jsonb_build_object(
    'message', 'Cancelled by a person', 'reason', reason, 'by', auth.uid()))::nightshift_private.ending]);
  return (select t.status from nightshift.tasks t where t.id = cancel.task_id);
end
$$;

-- Starts a failed or cancelled task again from its last recorded step, with fresh attempts and without a
-- deadline it has missed. It waits for dependencies and children that are live (again), and only for
-- these. Returns the new status.
create function nightshift.retry(task_id bigint) returns text
language plpgsql security definer set search_path = '' as $$
declare
  v_task nightshift.tasks;
  v_open int;
begin
  perform nightshift_private.require_task_role(retry.task_id, 'retry tasks');
  perform nightshift_private.lock_neighbours(array[retry.task_id]);
  select * into v_task from nightshift.tasks t where t.id = retry.task_id;
  if v_task.status not in ('failed', 'cancelled') then
    perform nightshift_private.fault('NS033', retry.task_id::text, v_task.status);
  end if;
  select pg_catalog.count(*) into v_open from nightshift.task_dependencies d join nightshift.tasks t on t.id = d.depends_on
    where d.task_id = retry.task_id and t.status not in ('completed', 'failed', 'cancelled');
  update nightshift.tasks t set failure_class = null, attempt = 0, rescues = 0, attempt_open = false, healed_at = null, avoid_worker = null,
      run_at = nightshift_private.now(), open_dependencies = v_open,
      deadline_at = case when t.deadline_at > nightshift_private.now() then t.deadline_at end,
      status = case when v_open > 0 then 'blocked'
        when t.agent is null or (t.combinator is not null and nightshift_private.has_open_children(t.id)) then 'awaiting_children'
        else 'pending' end
    where t.id = retry.task_id returning * into v_task;
  update nightshift.tasks t set open_dependencies = t.open_dependencies + 1
    where t.status = 'blocked' and t.id in (select d.task_id from nightshift.task_dependencies d where d.depends_on = retry.task_id);
  if v_task.status = 'pending' and v_task.template then perform nightshift_private.render_new(array[v_task.id]); end if;
  if v_task.status = 'awaiting_children' and v_task.agent is null and not nightshift_private.has_open_children(v_task.id) then
    perform nightshift_private.finish(nightshift_private.decide_groups(array[v_task.id]));
  end if;
  return (select t.status from nightshift.tasks t where t.id = retry.task_id);
end
$$;

-- Unknown and invisible tasks get the same answer.
create function nightshift_private.require_task_role(p_task_id bigint, p_action text) returns void
language plpgsql stable set search_path = '' as $$
declare
  v_project uuid;
begin
  select project_id into v_project from nightshift.tasks where id = p_task_id;
  if v_project is null or not (nightshift_private.is_service() or v_project in (select nightshift_private.my_projects())) then
    perform nightshift_private.fault('NS032', coalesce(p_task_id::text, 'null'));
  end if;
  perform nightshift_private.require_role(v_project, p_action, 'owner', 'operator');
end
$$;

grant execute on function nightshift.cancel(bigint, text), nightshift.retry(bigint) to authenticated, service_role;
grant execute on function nightshift.heartbeat(jsonb, int), nightshift.release(bigint, bigint),
  nightshift.fail(bigint, bigint, text, jsonb), nightshift.complete(jsonb) to service_role;

revoke execute on all functions in schema nightshift, nightshift_private from public;
