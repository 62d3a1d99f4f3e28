-- Audit: who, when, which prompt, which output. `llm_calls` holds one row per model call,
-- `audit_events` one row per state change, decision and configuration change, written in the
-- transaction it describes. Both only grow. Events are sealed in batches into a Merkle tree per
-- project (RFC 6962 hashing), each seal chained to the one before; nothing on the hot path locks.

create table nightshift.llm_calls (
  id bigint generated always as identity primary key,
  project_id uuid not null,
  task_id bigint not null,
  step_seq int not null,
  agent text not null,
  agent_version int not null,
  created_by uuid,
  subject text,
  purpose text not null,
  model text not null,
  provider text not null,
  region text not null,
  processor text not null,
  prompt jsonb not null,
  output jsonb,
  error jsonb,
  latency_ms int not null check (latency_ms >= 0),
  input_tokens int not null default 0,
  output_tokens int not null default 0,
  cache_read_tokens int not null default 0,
  cache_write_tokens int not null default 0,
  usage_estimated boolean not null default false,
  cost_usd numeric(14, 6) not null default 0,
  request_id text,
  content_digest text not null,
  started_at timestamptz not null,
  created_at timestamptz not null default nightshift_private.now(),
  foreign key (project_id, task_id) references nightshift.tasks (project_id, id) on delete restrict,
  check ((output is null) <> (error is null))
);
comment on table nightshift.llm_calls is 'One row per model call: who, when, prompt, output, latency, tokens, cost, purpose, region.';
create index llm_calls_by_task on nightshift.llm_calls (project_id, task_id, step_seq);

create table nightshift.audit_events (
  id bigint generated always as identity primary key,
  project_id uuid not null,
  at timestamptz not null default nightshift_private.now(),
  xid xid8 not null default pg_current_xact_id(),
  actor_kind text not null check (actor_kind in ('person', 'worker', 'system')),
  actor text,
  action text not null,
  object_type text not null,
  object_id text not null,
  task_id bigint,
  meta jsonb not null default '{}',
  leaf bytea not null
);
comment on table nightshift.audit_events is 'Append-only trail: metadata only, never prompt or output text. leaf = SHA-256 of the canonical row.';
create index audit_events_by_project on nightshift.audit_events (project_id, id);
create index audit_events_by_task on nightshift.audit_events (task_id, id) where task_id is not null;
create index audit_events_by_xid on nightshift.audit_events (xid, project_id);

create table nightshift.audit_seals (
  project_id uuid not null,
  number bigint not null check (number > 0),
  from_xid xid8 not null,
  to_xid xid8 not null,
  events int not null check (events > 0),
  root bytea not null,
  previous bytea,
  head bytea not null,
  sealed_at timestamptz not null default nightshift_private.now(),
  primary key (project_id, number),
  check ((number = 1) = (previous is null))
);
comment on table nightshift.audit_seals is 'Merkle root over the events of transactions [from_xid, to_xid); head chains it to the seal before.';

create table nightshift_private.audit_horizon (
  single boolean primary key default true check (single),
  xid xid8 not null
);
insert into nightshift_private.audit_horizon (xid) values (pg_snapshot_xmin(pg_current_snapshot()));

alter table nightshift.llm_calls enable row level security;
alter table nightshift.audit_events enable row level security;
alter table nightshift.audit_seals enable row level security;
create policy members_read_llm_calls on nightshift.llm_calls for select to authenticated
  using (project_id = any (array(select nightshift_private.my_projects('{owner,operator,reviewer,auditor}'))));
create policy members_read_audit_events on nightshift.audit_events for select to authenticated
  using (project_id = any (array(select nightshift_private.my_projects('{owner,operator,reviewer,auditor}'))));
create policy members_read_audit_seals on nightshift.audit_seals for select to authenticated
  using (project_id = any (array(select nightshift_private.my_projects())));
grant select on nightshift.llm_calls, nightshift.audit_events, nightshift.audit_seals to authenticated, service_role;

-- The bytes a leaf commits to: a JSON array of all columns, times as microseconds since 1970, so that
-- no session setting can change it. Names are bound at creation (begin atomic): it needs no search_path
-- and is inlined, which is what makes a batch of events cheap.
create function nightshift_private.leaf_of(p_id bigint, p_project uuid, p_at timestamptz, p_xid xid8, p_actor_kind text, p_actor text,
  p_action text, p_object_type text, p_object_id text, p_task_id bigint, p_meta jsonb) returns bytea
language sql stable
begin atomic
  select pg_catalog.sha256('\x00'::bytea || pg_catalog.convert_to(pg_catalog.jsonb_build_array(
    p_id, p_project, (extract(epoch from p_at) * 1000000)::bigint, p_xid::text, p_actor_kind, p_actor, p_action,
    p_object_type, p_object_id, p_task_id, p_meta)::text, 'UTF8'));
end;

create function nightshift_private.audit_leaf(e nightshift.audit_events) returns bytea
language sql stable set search_path = '' as $$
  select nightshift_private.leaf_of(e.id, e.project_id, e.at, e.xid, e.actor_kind, e.actor, e.action, e.object_type, e.object_id, e.task_id, e.meta)
$$;

create function nightshift_private.seal_event() returns trigger
language plpgsql set search_path = '' as $$
begin
  new.leaf := nightshift_private.audit_leaf(new);
  return new;
end
$$;
-- Statements that write many events hand in the leaf themselves; audit_verify recomputes every one.
create trigger leaf before insert on nightshift.audit_events
  for each row when (new.leaf is null) execute function nightshift_private.seal_event();

-- Refuses every change of what is written, for every role and for TRUNCATE.
create function nightshift_private.refuse_change() returns trigger
language plpgsql set search_path = '' as $$
begin
  perform nightshift_private.fault('NS050', tg_table_schema || '.' || tg_table_name);
  return null;
end
$$;
create trigger append_only before update or delete on nightshift.audit_events for each row execute function nightshift_private.refuse_change();
create trigger append_only before update or delete on nightshift.audit_seals for each row execute function nightshift_private.refuse_change();
create trigger append_only before update or delete on nightshift.llm_calls for each row execute function nightshift_private.refuse_change();
create trigger append_only before update or delete on nightshift.steps for each row execute function nightshift_private.refuse_change();
create trigger no_truncate before truncate on nightshift.audit_events for each statement execute function nightshift_private.refuse_change();
create trigger no_truncate before truncate on nightshift.audit_seals for each statement execute function nightshift_private.refuse_change();
create trigger no_truncate before truncate on nightshift.llm_calls for each statement execute function nightshift_private.refuse_change();
create trigger no_truncate before truncate on nightshift.steps for each statement execute function nightshift_private.refuse_change();

-- Writes one event in the current transaction. The actor is the signed-in person, else p_worker, else the system.
create function nightshift_private.record_event(p_project uuid, p_action text, p_object_type text, p_object_id text,
  p_task_id bigint default null, p_meta jsonb default '{}', p_worker text default null) returns void
language sql set search_path = '' as $$
  insert into nightshift.audit_events (project_id, actor_kind, actor, action, object_type, object_id, task_id, meta)
  values (p_project,
    case when auth.uid() is not null then 'person' when p_worker is not null then 'worker' else 'system' end,
    coalesce(auth.uid()::text, p_worker), p_action, p_object_type, p_object_id, p_task_id, p_meta)
$$;

-- One event per new task, in one statement however many came in at once.
create function nightshift_private.audit_new_tasks() returns trigger
language plpgsql security definer set search_path = '' as $$
declare
  v_person text := auth.uid();
  v_kind text := case when v_person is null then 'system' else 'person' end;
  v_now timestamptz := nightshift_private.now();
  v_xid xid8 := pg_catalog.pg_current_xact_id();
begin
  insert into nightshift.audit_events (id, project_id, at, xid, actor_kind, actor, action, object_type, object_id, task_id, meta, leaf)
    overriding system value
  select e.id, e.project_id, v_now, v_xid, v_kind, v_person, 'task.enqueued', 'task', e.task_id::text, e.task_id, e.meta,
    nightshift_private.leaf_of(e.id, e.project_id, v_now, v_xid, v_kind, v_person, 'task.enqueued', 'task', e.task_id::text, e.task_id, e.meta)
  from (select pg_catalog.nextval('nightshift.audit_events_id_seq') as id, t.project_id, t.id as task_id,
      pg_catalog.jsonb_build_object('agent', t.agent, 'agent_version', t.agent_version, 'status', t.status, 'lane', t.lane,
        'purpose', t.purpose, 'input_digest', pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(t.input::text, 'UTF8')), 'hex')) as meta
    from (select * from added order by id) t offset 0) e;
  return null;
end
$$;
create trigger audit_new after insert on nightshift.tasks referencing new table as added
  for each statement execute function nightshift_private.audit_new_tasks();

-- One event per state change, likewise. No nested loops: the plan is kept from a small first statement.
create function nightshift_private.audit_changed_tasks() returns trigger
language plpgsql security definer set search_path = '' set enable_nestloop = off as $$
declare
  v_person text := auth.uid();
  v_now timestamptz := nightshift_private.now();
  v_xid xid8 := pg_catalog.pg_current_xact_id();
begin
  insert into nightshift.audit_events (id, project_id, at, xid, actor_kind, actor, action, object_type, object_id, task_id, meta, leaf)
    overriding system value
  select e.id, e.project_id, v_now, v_xid, e.kind, e.actor, e.action, 'task', e.task_id::text, e.task_id, e.meta,
    nightshift_private.leaf_of(e.id, e.project_id, v_now, v_xid, e.kind, e.actor, e.action, 'task', e.task_id::text, e.task_id, e.meta)
  from (select pg_catalog.nextval('nightshift.audit_events_id_seq') as id, c.*,
      case when v_person is not null then 'person' when c.worker is not null then 'worker' else 'system' end as kind,
      coalesce(v_person, c.worker) as actor
    from (select n.id as task_id, n.project_id, 'task.' || n.status as action, coalesce(n.worker, o.worker) as worker,
        pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object('from', o.status, 'attempt', n.attempt, 'fence', n.fence, 'failure_class', n.failure_class,
          'output_digest', case when n.status = 'completed' then pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(n.output::text, 'UTF8')), 'hex') end)) as meta
      from new_rows n join old_rows o on o.id = n.id where o.status <> n.status order by n.id) c offset 0) e;
  return null;
end
$$;
create trigger audit after update on nightshift.tasks referencing old table as old_rows new table as new_rows
  for each statement execute function nightshift_private.audit_changed_tasks();

-- What a call's digest commits to.
create function nightshift_private.call_digest(p_prompt jsonb, p_output jsonb, p_error jsonb) returns text
language sql immutable set search_path = '' as $$
  select nightshift_private.sha256_hex(pg_catalog.jsonb_build_array(p_prompt, p_output, p_error)::text)
$$;

create function nightshift_private.audit_call() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  perform nightshift_private.record_event(new.project_id, 'model.called', 'llm_call', new.id::text, new.task_id,
    pg_catalog.jsonb_build_object('model', new.model, 'provider', new.provider, 'region', new.region, 'agent', new.agent,
      'agent_version', new.agent_version, 'purpose', new.purpose, 'step', new.step_seq, 'cost_usd', new.cost_usd,
      'failed', new.error is not null, 'content_digest', new.content_digest),
    'task ' || new.task_id);
  return null;
end
$$;
create trigger audit after insert on nightshift.llm_calls
  for each row execute function nightshift_private.audit_call();

-- One event per change of a definition or membership: the old and new row by digest and the key in clear.
create function nightshift_private.audit_definition() returns trigger
language plpgsql security definer set search_path = '' as $$
declare
  v_row jsonb := pg_catalog.to_jsonb(case when tg_op = 'DELETE' then old else new end);
begin
  if not exists (select from nightshift.projects where id = (v_row ->> 'project_id')::uuid) then return null; end if;
  perform nightshift_private.record_event((v_row ->> 'project_id')::uuid, tg_table_name || '.' || pg_catalog.lower(tg_op),
    tg_table_name, coalesce(v_row ->> 'name', v_row ->> 'user_id'), null,
    pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object('version', v_row -> 'version', 'role', v_row -> 'role',
      'digest', nightshift_private.sha256_hex(v_row::text))));
  return null;
end
$$;
create trigger audit after insert or update or delete on nightshift.members for each row execute function nightshift_private.audit_definition();
create trigger audit after insert or update or delete on nightshift.agents for each row execute function nightshift_private.audit_definition();
create trigger audit after insert or update or delete on nightshift.tools for each row execute function nightshift_private.audit_definition();
-- Not when it fires: that is told by the run's own event.
create trigger audit after insert or delete or update of description, schedule, time_zone, jitter_seconds, overlap, catch_up, gather, decide, act, active, created_by
  on nightshift.rhythms for each row execute function nightshift_private.audit_definition();

-- RFC 6962 tree hash of leaves: neighbours are paired, an odd last node moves up unchanged.
create function nightshift_private.merkle_root(p_leaves bytea[]) returns bytea
language plpgsql immutable set search_path = '' as $$
declare
  v_level bytea[] := p_leaves;
  v_next bytea[];
  v_size int;
begin
  loop
    v_size := pg_catalog.cardinality(v_level);
    if v_size <= 1 then return v_level[1]; end if;
    select pg_catalog.array_agg(case when i < v_size then pg_catalog.sha256('\x01'::bytea || v_level[i] || v_level[i + 1]) else v_level[i] end order by i)
      into v_next from pg_catalog.generate_series(1, v_size, 2) i;
    v_level := v_next;
  end loop;
end
$$;

create function nightshift_private.seal_head(p_previous bytea, p_number bigint, p_from xid8, p_to xid8, p_events int, p_root bytea)
returns bytea language sql immutable set search_path = '' as $$
  select pg_catalog.sha256('\x02'::bytea || coalesce(p_previous, ''::bytea) || p_root ||
    pg_catalog.convert_to(pg_catalog.format('%s|%s|%s|%s', p_number, p_from, p_to, p_events), 'UTF8'))
$$;

-- Seals all events of transactions that can no longer change: those below the oldest running one, so
-- that no late commit slips under a seal. Called by the sweep; two at once take turns on the horizon row.
create function nightshift_private.seal_audit() returns int
language plpgsql set search_path = '' as $$
declare
  v_from xid8;
  v_to xid8 := pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot());
  v_project record;
  v_last nightshift.audit_seals;
  v_number bigint;
  v_count int := 0;
begin
  select xid into v_from from nightshift_private.audit_horizon for update;
  if v_to <= v_from then return 0; end if;
  for v_project in
    select project_id, pg_catalog.count(*)::int as events, nightshift_private.merkle_root(pg_catalog.array_agg(leaf order by id)) as root
    from nightshift.audit_events where xid >= v_from and xid < v_to group by project_id
  loop
    select * into v_last from nightshift.audit_seals where project_id = v_project.project_id order by number desc limit 1;
    v_number := coalesce(v_last.number, 0) + 1;
    insert into nightshift.audit_seals (project_id, number, from_xid, to_xid, events, root, previous, head)
    values (v_project.project_id, v_number, v_from, v_to, v_project.events, v_project.root, v_last.head,
      nightshift_private.seal_head(v_last.head, v_number, v_from, v_to, v_project.events, v_project.root));
    v_count := v_count + 1;
  end loop;
  update nightshift_private.audit_horizon set xid = v_to where single;
  return v_count;
end
$$;

-- Checks a project's log: every leaf, every seal and its chain, every model call against the digest
-- its event holds, every model step against its call. Returns one object {ok, events, calls, seals,
-- unsealed, head, findings: [{check, object, detail}]}; ok is true when nothing was found.
create function nightshift.audit_verify(project uuid) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_findings jsonb;
  v_horizon xid8;
begin
  perform nightshift_private.require_role(project, 'verify the audit log', 'owner', 'operator', 'auditor', 'reviewer');
  select xid into v_horizon from nightshift_private.audit_horizon;
  select coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('check', f.check_name, 'object', f.object, 'detail', f.detail)), '[]')
    into v_findings from nightshift_private.audit_findings(project, v_horizon) f;
  return pg_catalog.jsonb_build_object(
    'ok', v_findings = '[]',
    'events', (select pg_catalog.count(*) from nightshift.audit_events e where e.project_id = project),
    'calls', (select pg_catalog.count(*) from nightshift.llm_calls c where c.project_id = project),
    'seals', (select pg_catalog.count(*) from nightshift.audit_seals s where s.project_id = project),
    'unsealed', (select pg_catalog.count(*) from nightshift.audit_events e where e.project_id = project and e.xid >= v_horizon),
    'head', (select pg_catalog.encode(s.head, 'hex') from nightshift.audit_seals s where s.project_id = project order by number desc limit 1),
    'findings', v_findings);
end
$$;

-- Events against seals, in one pass: each event is put into the last seal that begins at or before its
-- transaction. Rejected: a look-up of the events per seal (quadratic where the planner misjudges it).
create function nightshift_private.seal_findings(p_project uuid, p_horizon xid8)
returns table (check_name text, object text, detail text)
language sql stable set search_path = '' as $$
  with starts as materialized (
    select coalesce(pg_catalog.array_agg(from_xid order by from_xid), '{}') as xids from nightshift.audit_seals where project_id = p_project
  ), placed as materialized (
    select e.id, e.leaf, e.xid, s.number, s.to_xid > e.xid as sealed
    from nightshift.audit_events e cross join starts
    left join (select *, pg_catalog.row_number() over (order by from_xid) as place from nightshift.audit_seals where project_id = p_project) s
      on s.place = case when pg_catalog.cardinality(starts.xids) > 0 then pg_catalog.width_bucket(e.xid, starts.xids) end
    where e.project_id = p_project
  ), found as (
    select number, pg_catalog.count(*) as events, nightshift_private.merkle_root(pg_catalog.array_agg(leaf order by id)) as root
    from placed where sealed group by number
  )
  select 'seal', 'seal ' || s.number, 'events do not match the sealed root'
    from nightshift.audit_seals s left join found f using (number)
    where s.project_id = p_project and (f.events is distinct from s.events or f.root is distinct from s.root)
  union all
  select 'unsealed', 'audit_event ' || id, 'event lies below the horizon outside every seal'
    from placed where xid < p_horizon and sealed is not true
$$;

create function nightshift_private.audit_findings(p_project uuid, p_horizon xid8)
returns table (check_name text, object text, detail text)
language sql stable set search_path = '' as $$
  select 'leaf', 'audit_event ' || e.id, 'row does not match its leaf'
    from nightshift.audit_events e where e.project_id = p_project and e.leaf <> nightshift_private.audit_leaf(e)
  union all
  select * from nightshift_private.seal_findings(p_project, p_horizon)
  union all
  select 'chain', 'seal ' || s.number, 'seal is not chained to the one before'
    from (select *, pg_catalog.lag(head) over (order by number) as before, pg_catalog.row_number() over (order by number) as place
          from nightshift.audit_seals where project_id = p_project) s
    where s.place <> s.number or s.previous is distinct from s.before
      or s.head <> nightshift_private.seal_head(s.previous, s.number, s.from_xid, s.to_xid, s.events, s.root)
  union all
  select 'call', 'llm_call ' || c.id, 'content does not match the digest in its audit event'
    from nightshift.llm_calls c
    left join nightshift.audit_events e on e.project_id = p_project and e.object_type = 'llm_call' and e.object_id = c.id::text and e.task_id = c.task_id
    where c.project_id = p_project and (e.id is null or e.meta ->> 'content_digest' <> nightshift_private.call_digest(c.prompt, c.output, c.error))
  union all
  select 'missing call', 'audit_event ' || e.id, 'the model call this event describes is gone'
    from nightshift.audit_events e
    where e.project_id = p_project and e.object_type = 'llm_call' and e.action = 'model.called'
      and not exists (select from nightshift.llm_calls c where c.id = e.object_id::bigint and c.project_id = p_project)
  union all
  select 'step', 'task ' || st.task_id || ' step ' || st.seq, 'model step without a recorded call'
    from nightshift.steps st
    where st.project_id = p_project and st.kind = 'model_call'
      and not exists (select from nightshift.llm_calls c where c.project_id = p_project and c.task_id = st.task_id and c.step_seq = st.seq)
  union all
  select 'task', 'task ' || t.id, 'task without its audit event'
    from nightshift.tasks t
    where t.project_id = p_project and not exists (
      select from nightshift.audit_events e where e.task_id = t.id and e.action = 'task.enqueued')
$$;

grant execute on function nightshift.audit_verify(uuid) to authenticated, service_role;

revoke execute on all functions in schema nightshift, nightshift_private from public;
