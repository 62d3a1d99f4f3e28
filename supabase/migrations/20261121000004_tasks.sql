-- Tasks: the state machine. Everything that runs is a row here; every change is one function.
--
--            ┌───────────► scheduled ──┐
--   insert ──┼─► blocked ──────────────┼─► pending ──claim──► running ──► completed | failed
--            └─► awaiting_children ────┘      ▲                 │
--                                             └── awaiting_tool | awaiting_approval | awaiting_children
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
  ('awaiting_children', array['pending', 'failed', 'cancelled']),
  ('failed', array['pending']),
  ('cancelled', array['pending'])
) as v(f, ts), unnest(ts) as t;

create sequence nightshift_private.fence as bigint;

create table nightshift.tasks (
  id bigint generated always as identity primary key,
  project_id uuid not null references nightshift.projects (id) on delete cascade,
  agent text not null,
  agent_version int not null,
  queue text not null default 'default',
  status text not null check (status in ('blocked', 'scheduled', 'pending', 'running', 'awaiting_tool',
    'awaiting_approval', 'awaiting_children', 'completed', 'failed', 'cancelled')),
  lane smallint not null default 2 check (lane between 0 and 5),
  input jsonb not null default '{}',
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
  subject text,
  purpose text not null default 'operations',
  labels text[] not null default '{}',
  parent_id bigint,
  combinator text check (combinator in ('all', 'race', 'any', 'all_settled')),
  open_dependencies int not null default 0,
  step_count int not null default 0,
  budget_usd numeric(14, 6) check (budget_usd >= 0),
  spent_usd numeric(14, 6) not null default 0,
  worker text,
  fence bigint,
  lease_until timestamptz,
  attempt_open boolean not null default false,
  version bigint not null default 1,
  created_by uuid default auth.uid(),
  created_at timestamptz not null default nightshift_private.now(),
  started_at timestamptz,
  progress_at timestamptz,
  finished_at timestamptz,
  unique (project_id, id),
  constraint tasks_idempotency unique (project_id, idempotency_key),
  foreign key (project_id, parent_id) references nightshift.tasks (project_id, id) on delete cascade,
  foreign key (project_id, agent, agent_version) references nightshift.agents (project_id, name, version),
  -- Impossible rows are impossible.
  check ((status = 'running') = (lease_until is not null)),
  check ((status in ('completed', 'failed', 'cancelled')) = (finished_at is not null)),
  check ((status = 'failed') = (failure_class is not null)),
  check (status <> 'completed' or output is not null),
  check (status <> 'blocked' or open_dependencies > 0)
) with (fillfactor = 80);
comment on table nightshift.tasks is 'One row per promised piece of work. Insert your own columns; everything else changes through functions.';
comment on column nightshift.tasks.lane is 'Priority lane: 0 (urgent) to 5 (background).';
comment on column nightshift.tasks.attempt is 'Executions that count against max_attempts; rescues and waits do not.';
comment on column nightshift.tasks.fence is 'Number of the latest claim; a worker that holds an older one is refused.';
comment on column nightshift.tasks.open_dependencies is 'Tasks this one still waits for; it is blocked until 0.';
comment on column nightshift.tasks.version is 'Grows with every change; the newer version wins for a reader that sees events out of order.';

create index tasks_claimable on nightshift.tasks (queue, lane, run_at, id) where status = 'pending';
create index tasks_scheduled on nightshift.tasks (run_at) where status = 'scheduled';
create index tasks_leased on nightshift.tasks (lease_until) where status = 'running';
create index tasks_deadline on nightshift.tasks (deadline_at)
  where deadline_at is not null and status not in ('completed', 'failed', 'cancelled');
create index tasks_by_project on nightshift.tasks (project_id, id desc);
create index tasks_by_parent on nightshift.tasks (project_id, parent_id) where parent_id is not null;
create index tasks_by_agent on nightshift.tasks (project_id, agent, agent_version);

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
grant insert (project_id, agent, queue, lane, input, run_at, deadline_at, idempotency_key, subject, purpose, labels, parent_id, budget_usd)
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
  if v_agent.name is null then
    perform nightshift_private.fault('NS020', coalesce(new.agent, 'null'), new.project_id::text);
  end if;
  perform nightshift_private.check_payload('input', new.input);
  v_violation := nightshift_private.schema_violation(v_agent.input_schema, new.input);
  if v_violation is not null then perform nightshift_private.fault('NS021', new.agent, v_violation); end if;
  new.agent_version := v_agent.version;
  new.queue := coalesce(nullif(new.queue, 'default'), v_agent.queue);
  new.max_attempts := v_agent.max_attempts;
  new.budget_usd := coalesce(new.budget_usd, v_agent.budget_usd);
  new.run_at := coalesce(new.run_at, nightshift_private.now());
  new.request_digest := nightshift_private.request_digest(new);
  new.status := case
    when new.open_dependencies > 0 then 'blocked'
    when new.combinator is not null then 'awaiting_children'
    when new.run_at > nightshift_private.now() then 'scheduled'
    else 'pending' end;
  return new;
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
language plpgsql immutable set search_path = '' as $$
declare
  v_violation text;
begin
  if pg_catalog.jsonb_typeof(p_request) is distinct from 'object' then
    perform nightshift_private.fault('NS001', pg_catalog.format('Task %s must be a JSON object', p_name));
  end if;
  perform nightshift_private.check_keys(p_request, p_name, 'project', 'agent', 'input', 'key', 'lane', 'queue', 'run_at', 'after',
    'parent', 'combinator', 'idempotency_key', 'subject', 'purpose', 'budget_usd', 'deadline_at', 'labels');
  v_violation := nightshift_private.schema_violation('{
    "required": ["project", "agent"],
    "properties": {
      "project": {"type": "string", "pattern": "^[0-9a-fA-F-]{36}$"},
      "agent": {"type": "string"}, "key": {"type": "string", "minLength": 1, "maxLength": 255},
      "lane": {"type": "integer", "minimum": 0, "maximum": 5}, "queue": {"type": "string", "minLength": 1, "maxLength": 63},
      "run_at": {"type": "string"}, "deadline_at": {"type": "string"},
      "after": {"type": "array", "items": {"type": ["string", "integer"]}, "maxItems": 10000},
      "parent": {"type": ["string", "integer"]},
      "combinator": {"enum": ["all", "race", "any", "all_settled"]},
      "idempotency_key": {"type": "string", "minLength": 1, "maxLength": 255},
      "subject": {"type": "string"}, "purpose": {"type": "string"},
      "budget_usd": {"type": "number", "minimum": 0},
      "labels": {"type": "array", "items": {"type": "string"}, "maxItems": 20}}}', p_request, 'task ' || p_name);
  if v_violation is not null then perform nightshift_private.fault('NS001', v_violation); end if;
end
$$;

-- The task a request refers to: a key of the same call, or the id of a task of the same project.
create function nightshift_private.resolve_reference(p_reference jsonb, p_project uuid, p_keys jsonb, p_name text)
returns bigint language plpgsql stable set search_path = '' as $$
declare
  v_id bigint := (p_keys ->> (p_reference #>> '{}'))::bigint;
begin
  if v_id is null and p_reference #>> '{}' ~ '^[0-9]{1,18}$' then
    select id into v_id from nightshift.tasks where id = (p_reference #>> '{}')::bigint and project_id = p_project;
  end if;
  if v_id is null then
    perform nightshift_private.fault('NS025', coalesce(p_reference #>> '{}', 'null'), p_name);
  end if;
  return v_id;
end
$$;

-- Share-locks, in ascending order, the existing tasks that requests refer to, so that none of them
-- can finish between being looked at and being linked.
create function nightshift_private.lock_references(p_requests jsonb) returns void
language sql set search_path = '' as $$
  select null from nightshift.tasks where id in (
    select (r #>> '{}')::bigint from pg_catalog.jsonb_array_elements(p_requests) q,
      lateral (select q -> 'parent' union all
        select a from pg_catalog.jsonb_array_elements(case when pg_catalog.jsonb_typeof(q -> 'after') = 'array' then q -> 'after' else '[]' end) a) as x(r)
    where r #>> '{}' ~ '^[0-9]{1,18}$') order by id for share
$$;

-- Inserts one request, or finds the task that the same idempotency key already made.
create function nightshift_private.enqueue_one(p_request jsonb, p_keys jsonb, p_name text, out o_task nightshift.tasks, out o_created boolean)
language plpgsql set search_path = '' as $$
declare
  v_project uuid := (p_request ->> 'project')::uuid;
  v_parent bigint;
  v_dependencies bigint[];
  v_open int;
begin
  if p_request ? 'parent' then
    v_parent := nightshift_private.resolve_reference(p_request -> 'parent', v_project, p_keys, p_name);
    if exists (select from nightshift.tasks where id = v_parent and status in ('completed', 'failed', 'cancelled')) then
      perform nightshift_private.fault('NS031', v_parent::text, 'finished', 'parent of a new task');
    end if;
  end if;
  select pg_catalog.array_agg(distinct nightshift_private.resolve_reference(value, v_project, p_keys, p_name)) into v_dependencies
    from pg_catalog.jsonb_array_elements(coalesce(p_request -> 'after', '[]'));
  select pg_catalog.count(*) into v_open from nightshift.tasks where id = any (v_dependencies) and status <> 'completed';
  insert into nightshift.tasks (project_id, agent, agent_version, status, queue, lane, input, run_at, deadline_at, idempotency_key,
      subject, purpose, labels, parent_id, combinator, open_dependencies, budget_usd)
  values (v_project, p_request ->> 'agent', 0, 'pending', coalesce(p_request ->> 'queue', 'default'), coalesce((p_request ->> 'lane')::smallint, 2),
    coalesce(p_request -> 'input', '{}'), (p_request ->> 'run_at')::timestamptz, (p_request ->> 'deadline_at')::timestamptz,
    p_request ->> 'idempotency_key', p_request ->> 'subject', coalesce(p_request ->> 'purpose', 'operations'),
    array(select pg_catalog.jsonb_array_elements_text(coalesce(p_request -> 'labels', '[]'))),
    v_parent, p_request ->> 'combinator', v_open, (p_request ->> 'budget_usd')::numeric)
  on conflict on constraint tasks_idempotency do nothing
  returning * into o_task;
  o_created := o_task.id is not null;
  if o_created then
    insert into nightshift.task_dependencies (project_id, task_id, depends_on)
      select v_project, o_task.id, d from pg_catalog.unnest(v_dependencies) d;
  else
    o_task := nightshift_private.find_duplicate(p_request, v_parent);
  end if;
end
$$;

-- The task that holds this idempotency key; refused when it was made from other content.
create function nightshift_private.find_duplicate(p_request jsonb, p_parent bigint) returns nightshift.tasks
language plpgsql set search_path = '' as $$
declare
  v_task nightshift.tasks;
  v_asked nightshift.tasks;
begin
  select * into strict v_task from nightshift.tasks
    where project_id = (p_request ->> 'project')::uuid and idempotency_key = p_request ->> 'idempotency_key';
  v_asked := v_task;
  v_asked.agent := p_request ->> 'agent';
  v_asked.input := coalesce(p_request -> 'input', '{}');
  v_asked.lane := coalesce((p_request ->> 'lane')::smallint, 2);
  v_asked.subject := p_request ->> 'subject';
  v_asked.purpose := coalesce(p_request ->> 'purpose', 'operations');
  v_asked.budget_usd := coalesce((p_request ->> 'budget_usd')::numeric, v_task.budget_usd);
  v_asked.parent_id := p_parent;
  if nightshift_private.request_digest(v_asked) <> v_task.request_digest then
    perform nightshift_private.fault('NS024', v_task.idempotency_key, v_task.id::text);
  end if;
  return v_task;
end
$$;

-- Hands in tasks: all or none. Each element {project, agent, input, key?, lane?, queue?, run_at?,
-- after?: [key or id], parent?, combinator?, idempotency_key?, subject?, purpose?, budget_usd?,
-- deadline_at?, labels?}. References name earlier elements, so a call cannot contain a cycle.
create function nightshift.enqueue(tasks jsonb)
returns table (id bigint, key text, status text, created boolean)
language plpgsql security definer set search_path = '' as $$
declare
  v_request jsonb;
  v_index int := 0;
  v_name text;
  v_keys jsonb := '{}';
  v_one record;
  v_project text;
begin
  if pg_catalog.jsonb_typeof(tasks) = 'object' then tasks := pg_catalog.jsonb_build_array(tasks); end if;
  if pg_catalog.jsonb_typeof(tasks) is distinct from 'array' or pg_catalog.jsonb_array_length(tasks) not between 1 and 10000 then
    perform nightshift_private.fault('NS001', 'Argument "tasks" must be an array of 1 to 10000 task objects');
  end if;
  perform nightshift_private.lock_references(tasks);
  for v_request in select value from pg_catalog.jsonb_array_elements(tasks) loop
    v_index := v_index + 1;
    v_name := case when v_request ? 'key' then pg_catalog.quote_ident(v_request ->> 'key') else '#' || v_index end;
    perform nightshift_private.check_request(v_request, v_name);
    if v_project is distinct from v_request ->> 'project' then
      v_project := v_request ->> 'project';
      perform nightshift_private.require_role(v_project::uuid, 'enqueue tasks', 'owner', 'operator');
    end if;
    if v_keys ? (v_request ->> 'key') then
      perform nightshift_private.fault('NS001', pg_catalog.format('Key "%s" is used twice in one call', v_request ->> 'key'));
    end if;
    select * into v_one from nightshift_private.enqueue_one(v_request, v_keys, v_name);
    if v_request ? 'combinator' and not v_request ? 'key' then
      perform nightshift_private.fault('NS001', pg_catalog.format('Task %s has a combinator and needs a "key" for its children', v_name));
    end if;
    if v_request ? 'key' then
      v_keys := v_keys || pg_catalog.jsonb_build_object(v_request ->> 'key', (v_one.o_task).id);
    end if;
    id := (v_one.o_task).id;
    key := v_request ->> 'key';
    status := (v_one.o_task).status;
    created := v_one.o_created;
    return next;
  end loop;
  perform nightshift_private.check_groups(array(select value::bigint from pg_catalog.jsonb_each_text(v_keys)));
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
  delays interval[] not null default '{2 minutes,10 minutes,30 minutes}'
);
comment on table nightshift.failure_policies is 'Per failure class: whether a task is retried, when, and whether that counts against max_attempts.';
insert into nightshift.failure_policies (failure_class, retry, burns_attempt, delays) values
  ('context_loss', true, true, '{0}'), ('rate_limit', true, false, '{2 minutes,10 minutes,30 minutes}'),
  ('optimistic_completion', true, true, '{0}'), ('stuck', true, true, '{2 minutes,10 minutes,30 minutes}'),
  ('malformed_output', true, true, '{10 seconds,2 minutes,10 minutes}'), ('dependency', false, true, '{0}'),
  ('external', true, true, '{2 minutes,10 minutes,30 minutes}'), ('permission', false, true, '{0}'),
  ('budget', false, true, '{0}'), ('expired', false, true, '{0}'),
  ('internal', true, true, '{2 minutes,10 minutes,30 minutes}');
alter table nightshift.failure_policies enable row level security;
create policy everyone_reads_failure_policies on nightshift.failure_policies for select to authenticated using (true);
grant select on nightshift.failure_policies to authenticated, service_role;

-- Ends an attempt by class: back to the queue later, or failed for good. error may carry
-- retry_after_ms, which wins over the policy's delay. The task is held.
create function nightshift_private.end_attempt(p_task nightshift.tasks, p_class text, p_error jsonb) returns void
language plpgsql set search_path = '' as $$
declare
  v_policy nightshift.failure_policies;
  v_delay interval;
begin
  select * into v_policy from nightshift.failure_policies where failure_class = p_class;
  if v_policy.failure_class is null then
    perform nightshift_private.fault('NS001', pg_catalog.format('Unknown failure class "%s"', p_class));
  end if;
  if not v_policy.retry or (v_policy.burns_attempt and p_task.attempt >= p_task.max_attempts) then
    perform nightshift_private.finish(p_task.id, 'failed', null, p_class, p_error);
    return;
  end if;
  v_delay := coalesce(pg_catalog.make_interval(secs => (p_error ->> 'retry_after_ms')::numeric / 1000.0),
    v_policy.delays[least(greatest(p_task.attempt, 1), pg_catalog.cardinality(v_policy.delays))]);
  update nightshift.tasks set status = 'scheduled', run_at = nightshift_private.now() + v_delay, error = p_error,
      attempt_open = not v_policy.burns_attempt
    where id = p_task.id;
end
$$;

-- ── worker calls (service role only) ─────────────────────────────────────────────────────────────

-- Takes up to max_tasks pending tasks of the queues, most urgent lane first, oldest first; each gets a
-- new fence and a lease. Rejected: one statement with a window over lanes (sorts the whole backlog).
create function nightshift.claim(worker text, queues text[] default '{default}', max_tasks int default 1, lease_seconds int default 90)
returns table (task_id bigint, fence bigint, project_id uuid, agent text, agent_version int, attempt smallint, lane smallint, lease_until timestamptz)
language plpgsql security definer set search_path = '' as $$
begin
  if max_tasks not between 1 and 1000 or lease_seconds not between 5 and 3600 or coalesce(worker, '') = '' then
    perform nightshift_private.fault('NS001', 'Claim needs a worker name, 1 to 1000 tasks and a lease of 5 to 3600 s');
  end if;
  return query
  with due as (
    select t.id from nightshift.tasks t
    where t.status = 'pending' and t.queue = any (queues)
    order by t.lane, t.run_at, t.id
    limit max_tasks
    for update skip locked
  )
  update nightshift.tasks t
    set status = 'running', worker = claim.worker, fence = pg_catalog.nextval('nightshift_private.fence'),
        lease_until = nightshift_private.now() + pg_catalog.make_interval(secs => lease_seconds),
        attempt = t.attempt + case when t.attempt_open then 0 else 1 end, attempt_open = true,
        started_at = coalesce(t.started_at, nightshift_private.now()), progress_at = nightshift_private.now()
    from due where t.id = due.id
    returning t.id, t.fence, t.project_id, t.agent, t.agent_version, t.attempt, t.lane, t.lease_until;
end
$$;

-- Extends leases. leases: [{task_id, fence}]. Returns those still held; a missing one is lost.
create function nightshift.heartbeat(leases jsonb, lease_seconds int default 90)
returns table (task_id bigint, fence bigint, lease_until timestamptz)
language sql security definer set search_path = '' as $$
  update nightshift.tasks t
    set lease_until = nightshift_private.now() + pg_catalog.make_interval(secs => lease_seconds)
    from pg_catalog.jsonb_to_recordset(leases) as l(task_id bigint, fence bigint)
    where t.id = l.task_id and t.fence = l.fence and t.status = 'running'
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

-- Reports a failed attempt. Answering the same report again is harmless.
create function nightshift.fail(task_id bigint, fence bigint, failure_class text, error jsonb default '{}') returns text
language plpgsql security definer set search_path = '' as $$
declare
  v_task nightshift.tasks;
begin
  perform nightshift_private.lock_family(fail.task_id);
  v_task := nightshift_private.hold(fail.task_id, fail.fence);
  perform nightshift_private.check_payload('error', fail.error, 8192);
  perform nightshift_private.end_attempt(v_task, fail.failure_class, fail.error);
  return (select t.status from nightshift.tasks t where t.id = fail.task_id);
end
$$;

-- Completes tasks that keep no steps, in one call. results: [{task_id, fence, output}]. Returns one row
-- per element; outcome `completed`, or `stale` when another worker has taken over.
create function nightshift.complete(results jsonb)
returns table (task_id bigint, outcome text)
language plpgsql security definer set search_path = '' as $$
declare
  v_result record;
begin
  for v_result in select * from pg_catalog.jsonb_to_recordset(results) as r(task_id bigint, fence bigint, output jsonb) order by 1 loop
    perform nightshift_private.check_payload('output', v_result.output);
    perform nightshift_private.lock_family(v_result.task_id);
    task_id := v_result.task_id;
    select case when t.status = 'running' and t.fence = v_result.fence then 'held'
                when t.status = 'completed' and t.fence = v_result.fence then 'completed' else 'stale' end
      into outcome from nightshift.tasks t where t.id = v_result.task_id;
    outcome := coalesce(outcome, 'stale');
    if outcome = 'held' then
      perform nightshift_private.finish(v_result.task_id, 'completed', coalesce(v_result.output, 'null'), null, null);
      outcome := 'completed';
    end if;
    return next;
  end loop;
end
$$;

-- ── people ───────────────────────────────────────────────────────────────────────────────────────

-- Cancels a task and all that hangs on it. Terminal tasks stay as they are; returns the status.
create function nightshift.cancel(task_id bigint, reason text default '') returns text
language plpgsql security definer set search_path = '' as $$
declare
  v_project uuid;
begin
  select t.project_id into v_project from nightshift.tasks t where t.id = cancel.task_id;
  perform nightshift_private.require_task_role(cancel.task_id, v_project, 'cancel tasks');
  perform nightshift_private.lock_family(cancel.task_id);
  perform nightshift_private.finish(cancel.task_id, 'cancelled', null, null,
    pg_catalog.jsonb_build_object('message', 'Cancelled by a person', 'reason', reason, 'by', auth.uid()));
  return (select t.status from nightshift.tasks t where t.id = cancel.task_id);
end
$$;

-- Starts a failed or cancelled task again from its last recorded step, with fresh attempts.
create function nightshift.retry(task_id bigint) returns text
language plpgsql security definer set search_path = '' as $$
declare
  v_task nightshift.tasks;
begin
  select * into v_task from nightshift.tasks t where t.id = retry.task_id for no key update;
  perform nightshift_private.require_task_role(retry.task_id, v_task.project_id, 'retry tasks');
  if v_task.status not in ('failed', 'cancelled') then
    perform nightshift_private.fault('NS033', retry.task_id::text, v_task.status);
  end if;
  update nightshift.tasks t set status = 'pending', failure_class = null, attempt = 0, rescues = 0,
      attempt_open = false, run_at = nightshift_private.now(), open_dependencies = 0
    where t.id = retry.task_id;
  return 'pending';
end
$$;

-- Unknown and invisible tasks get the same answer.
create function nightshift_private.require_task_role(p_task_id bigint, p_project uuid, p_action text) returns void
language plpgsql stable set search_path = '' as $$
begin
  if p_project is null or not (nightshift_private.is_service() or p_project in (select nightshift_private.my_projects())) then
    perform nightshift_private.fault('NS032', coalesce(p_task_id::text, 'null'));
  end if;
  perform nightshift_private.require_role(p_project, p_action, 'owner', 'operator');
end
$$;

grant execute on function nightshift.cancel(bigint, text), nightshift.retry(bigint) to authenticated, service_role;
grant execute on function nightshift.claim(text, text[], int, int), nightshift.heartbeat(jsonb, int), nightshift.release(bigint, bigint),
  nightshift.fail(bigint, bigint, text, jsonb), nightshift.complete(jsonb) to service_role;

revoke execute on all functions in schema nightshift, nightshift_private from public;
