-- Rhythms: work that comes back by itself. At each slot of its schedule a rhythm gathers (SQL, no model),
-- decides (a rule, or a cheap model) and acts (one task); each slot leaves one row that says what came
-- of it and why.
--
--   fire_rhythms()  part of the sweep: claims due slots, decides and acts where nothing is to be gathered
--   gather_runs()   a job of its own: runs the queries of open runs as the person who wrote them
--
-- Two calls, because a function with its owner's rights (the sweep) may not switch roles, and because
-- a query that takes too long must end its own transaction, not the sweep's. N schedulers need no
-- leader: a rhythm is skipped while another holds it, and the primary key gives a slot to one of them.

create table nightshift.rhythms (
  id bigint generated always as identity primary key,
  project_id uuid not null references nightshift.projects (id) on delete cascade,
  name text not null check (name ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
  description text not null default '',
  schedule text not null,
  time_zone text not null default 'UTC',
  jitter_seconds int not null default 0 check (jitter_seconds between 0 and 3600),
  overlap text not null default 'skip' check (overlap in ('skip', 'queue', 'allow')),
  catch_up text not null default 'once' check (catch_up in ('skip', 'once', 'all')),
  gather jsonb not null default '{"kind": "none"}',
  decide jsonb not null default '{"kind": "always"}',
  act jsonb not null,
  active boolean not null default true,
  paused_reason text,
  next_slot timestamptz,
  next_at timestamptz,
  last_slot timestamptz,
  created_by uuid,
  created_at timestamptz not null default nightshift_private.now(),
  unique (project_id, name),
  unique (project_id, id),
  check (active = (paused_reason is null)),
  check (active = (next_slot is not null) and active = (next_at is not null))
);
comment on table nightshift.rhythms is 'Recurring work: when (schedule), gather, decide, act. Written by set_rhythm.';
comment on column nightshift.rhythms.schedule is 'Cron fields: minute hour day month weekday, or seconds in front of these. Refers to time_zone.';
comment on column nightshift.rhythms.jitter_seconds is 'Each slot starts up to this much later, always the same for one slot and never past the next slot.';
comment on column nightshift.rhythms.overlap is 'While a task of the previous run is live: skip the slot, queue one run, or allow both.';
comment on column nightshift.rhythms.catch_up is 'Slots found more than a minute late: skip them, run once for the latest, or run all in order.';
comment on column nightshift.rhythms.gather is '{"kind": "none"} or {"kind": "sql", "query"}: a query that may join `rhythm` (project_id, slot, now, since).';
comment on column nightshift.rhythms.decide is '{"kind": "always"}, {"kind": "changed", "min_rows"?} since the last look, {"kind": "rule", "when": {"min_rows"} or {"path"}}, or {"kind": "model", "agent", "min_rows"?}.';
comment on column nightshift.rhythms.act is 'The task: {agent, input?, lane?, queue?, labels?, budget_usd?}; what was gathered is added as input.gathered.';
comment on column nightshift.rhythms.next_slot is 'The slot that fires next; null while paused.';
comment on column nightshift.rhythms.next_at is 'When it fires: next_slot plus jitter.';
comment on column nightshift.rhythms.last_slot is 'The latest slot that was dealt with, whatever came of it.';
comment on column nightshift.rhythms.created_by is 'Who wrote the current definition; gathers run with the rights of this person.';
create index rhythms_due on nightshift.rhythms (next_at) where next_at is not null;

create table nightshift.rhythm_runs (
  rhythm_id bigint not null,
  slot timestamptz not null,
  project_id uuid not null,
  manual boolean not null default false,
  fired_at timestamptz not null default nightshift_private.now(),
  outcome text not null check (outcome in ('waiting', 'gathering', 'deciding', 'acted', 'skipped', 'missed', 'failed')),
  reason text,
  gathered jsonb,
  digest text,
  task_ids bigint[] not null default '{}',
  rounds smallint not null default 1,
  offered_at timestamptz not null default nightshift_private.now(),
  primary key (rhythm_id, slot),
  foreign key (project_id, rhythm_id) references nightshift.rhythms (project_id, id) on delete cascade,
  check (outcome not in ('skipped', 'missed', 'failed') or reason is not null),
  check (outcome not in ('acted', 'deciding') or cardinality(task_ids) > 0)
);
comment on table nightshift.rhythm_runs is 'What came of each slot. The primary key is what makes two runs of one slot impossible.';
comment on column nightshift.rhythm_runs.slot is 'The scheduled time without jitter; for a manual run the moment it was asked for.';
comment on column nightshift.rhythm_runs.outcome is 'On the way: waiting, gathering, deciding. In the end: acted, skipped, missed or failed.';
comment on column nightshift.rhythm_runs.reason is 'Why it was skipped, missed or failed; for acted what the deciding model said.';
comment on column nightshift.rhythm_runs.gathered is '{rows, count, truncated}: at most 100 rows and 64 KB.';
comment on column nightshift.rhythm_runs.digest is 'SHA-256 of the gathered rows; decide "changed" compares it with the last run that looked.';
comment on column nightshift.rhythm_runs.task_ids is 'Tasks of this run: the deciding one first, if a model decides, then the acting one.';
comment on column nightshift.rhythm_runs.rounds is 'Minutes it was offered for gathering; given up after the third.';
create index rhythm_runs_open on nightshift.rhythm_runs (outcome, rhythm_id) where outcome in ('waiting', 'gathering', 'deciding');
create index rhythm_runs_acted on nightshift.rhythm_runs (rhythm_id, slot desc) where outcome = 'acted';
create index rhythm_runs_by_project on nightshift.rhythm_runs (project_id, rhythm_id, slot desc);

create table nightshift_private.gather_schemas (name text primary key);
comment on table nightshift_private.gather_schemas is 'Schemas whose tables, views and functions a gather may use: add those that the Data API exposes.';
insert into nightshift_private.gather_schemas (name) values ('nightshift'), ('public');

alter table nightshift.rhythms enable row level security;
alter table nightshift.rhythm_runs enable row level security;
create policy members_read_rhythms on nightshift.rhythms for select to authenticated
  using (project_id = any (array(select nightshift_private.my_projects())));
create policy members_read_rhythm_runs on nightshift.rhythm_runs for select to authenticated
  using (project_id = any (array(select nightshift_private.my_projects())));
grant select on nightshift.rhythms, nightshift.rhythm_runs to authenticated, service_role;

-- When a slot fires: the slot plus its share of the jitter, drawn from a hash, so that every scheduler
-- draws the same; never as late as the slot after it.
create function nightshift_private.fire_time(p_rhythm nightshift.rhythms, p_fields bit varying[], p_slot timestamptz) returns timestamptz
language plpgsql stable set search_path = '' as $$
declare
  v_window int;
begin
  if p_slot is null or p_rhythm.jitter_seconds = 0 then return p_slot; end if;
  v_window := least(p_rhythm.jitter_seconds + 1,
    extract(epoch from nightshift_private.next_slot(p_fields, p_rhythm.time_zone, p_slot) - p_slot));
  return p_slot + pg_catalog.make_interval(secs =>
    ('x' || pg_catalog.left(pg_catalog.md5(p_rhythm.id || '@' || extract(epoch from p_slot)), 8))::bit(32)::bigint % v_window);
end
$$;

-- ── gather: a query as the person who wrote it ───────────────────────────────────────────────────

-- The statement that a gather runs, or null without a query: the query beside `rhythm`, one row of what it may want to know.
create function nightshift_private.gather_text(p_query text, p_project uuid, p_slot timestamptz, p_since timestamptz) returns text
language sql stable set search_path = '' as $$
  select case when p_query is not null then pg_catalog.format(
    'with rhythm as (select %L::uuid as project_id, %L::timestamptz as slot, %L::timestamptz as now, %L::timestamptz as since)'
    || E'\nselect to_jsonb(found) as row from (\n%s\n) as found',
    p_project, p_slot, nightshift_private.now(), p_since, pg_catalog.regexp_replace(p_query, ';\s*$', '')) end
$$;

-- What a view uses that a gather may not, or null. Row security trusts settings, and SQL can change
-- settings: so nothing that does so, that runs text as SQL, or that tells about the server.
create function nightshift_private.view_problem(p_view regclass) returns text
language sql stable security definer set search_path = '' as $$
  with tree (text) as (select ev_action::text from pg_catalog.pg_rewrite where ev_class = p_view),
  relation as (
    select c.relname, s.nspname from tree, pg_catalog.regexp_matches(tree.text, ':relid (\d+)', 'g') m
    join pg_catalog.pg_class c on c.oid = m[1]::oid and c.oid <> p_view join pg_catalog.pg_namespace s on s.oid = c.relnamespace
  ), function as (
    select p.proname, p.provolatile, s.nspname from tree, pg_catalog.regexp_matches(tree.text, ':(?:funcid|opfuncid|aggfnoid|winfnoid|tsmhandler) (\d+)', 'g') m
    join pg_catalog.pg_proc p on p.oid = m[1]::oid join pg_catalog.pg_namespace s on s.oid = p.pronamespace
  ), problem as (
    select pg_catalog.format('it must not read %s.%s', nspname, relname) from relation
      where nspname not in (select name from nightshift_private.gather_schemas)
    union all
    select pg_catalog.format('it must not call %s.%s', nspname, proname) from function
      where nspname not in (select name from nightshift_private.gather_schemas)
        and (nspname <> 'pg_catalog' or provolatile = 'v' or proname ~ '^(pg_|lo_|current_setting|set_config)|_to_xml')
  )
  select * from problem limit 1
$$;

-- What is wrong with a gather's statement, in words, or null. Looks at what Postgres made of it, as the
-- caller and without a trace. It must be a single statement before it may become part of another one;
-- opening a cursor finds that out, and only what the text itself says is told about a refusal.
create function nightshift_private.query_problem(p_text text) returns text
language plpgsql strict set search_path = '' as $$
declare
  v_cursor refcursor;
begin
  if p_text ~* '(current_setting|set_config|u&["''])' then return 'it must not read or change settings'; end if;
  open v_cursor for execute p_text;
  close v_cursor;
  execute 'create temporary view nightshift_gather as ' || p_text;
  raise exception using errcode = 'NSGTH', message = coalesce(nightshift_private.view_problem('pg_temp.nightshift_gather'), '');
exception when others then
  return case when sqlstate = 'NSGTH' then nullif(sqlerrm, '')
    when sqlstate like '42%' then sqlerrm else 'it cannot be planned (' || sqlstate || ')' end;
end
$$;

-- The rows of a checked statement: {rows, count, truncated}, at most 100 and 64 KB.
create function nightshift_private.read_rows(p_text text) returns jsonb
language plpgsql set search_path = '' as $$
declare
  v_row jsonb;
  v_rows jsonb[] := '{}';
  v_bytes int := 0;
  v_cut boolean := false;
begin
  for v_row in execute p_text loop
    v_bytes := v_bytes + pg_catalog.octet_length(v_row::text) + 2;
    v_cut := v_bytes > 65536 or pg_catalog.cardinality(v_rows) = 100;
    exit when v_cut;
    v_rows := v_rows || v_row;
  end loop;
  if v_cut and v_rows = '{}' then raise exception 'a row is larger than 64 KB'; end if;
  return pg_catalog.jsonb_build_object('rows', pg_catalog.to_jsonb(v_rows), 'count', pg_catalog.cardinality(v_rows), 'truncated', v_cut);
end
$$;

-- Runs a gather's statement as a person and returns its rows, or {error, state}. The exception that carries
-- the result out also undoes everything: role, claims, settings, locks and whatever was written.
create function nightshift_private.gather(p_text text, p_person uuid) returns jsonb
language plpgsql set search_path = '' as $$
declare
  v_problem text;
  v_found text;
begin
  perform pg_catalog.set_config('request.jwt.claims', pg_catalog.json_build_object('sub', p_person, 'role', 'authenticated')::text, true);
  perform pg_catalog.set_config('lock_timeout', '1s', true);
  perform pg_catalog.set_config('role', 'authenticated', true);
  v_problem := nightshift_private.query_problem(p_text);
  if v_problem is not null then raise exception using message = v_problem; end if;
  perform pg_catalog.set_config('transaction_read_only', 'on', true);
  raise exception using errcode = 'NSGTH', message = 'found', detail = nightshift_private.read_rows(p_text);
exception
  when sqlstate 'NSGTH' then
    get stacked diagnostics v_found = pg_exception_detail;
    return v_found::jsonb;
  when others then
    return pg_catalog.jsonb_build_object('error', sqlerrm, 'state', sqlstate);
end
$$;

-- The sentence of an error, also where it is dressed for the Data API.
create function nightshift_private.error_text(p_state text, p_message text) returns text
language sql immutable set search_path = '' as $$
  select pg_catalog.left(case when p_state = 'PGRST' then p_message::jsonb ->> 'message' else p_message end, 500)
$$;

-- Hands out open runs with their statements and locks them. A run that has cost others their turn, or
-- may have, goes alone: who comes first is drawn, so that one endless query cannot keep the rest waiting.
create function nightshift_private.take_gathers() returns table (rhythm_id bigint, slot timestamptz, statement text, person uuid)
language plpgsql security definer set search_path = '' as $$
begin
  return query
  select n.rhythm_id, n.slot, nightshift_private.gather_text(r.gather ->> 'query', n.project_id, n.slot, coalesce(
      (select pg_catalog.max(a.slot) from nightshift.rhythm_runs a where a.rhythm_id = r.id and a.outcome = 'acted'), r.created_at)), r.created_by
  from nightshift.rhythm_runs n join nightshift.rhythms r on r.id = n.rhythm_id
  where n.outcome = 'gathering'
  order by pg_catalog.md5(nightshift_private.random() || ' ' || n.rhythm_id || ' ' || n.slot)
  limit case when exists (select from nightshift.rhythm_runs where outcome = 'gathering' and rounds > 1) then 1 else 20 end
  for update of n skip locked;
end
$$;

-- Ends a run's gathering: decides and acts on what was found, or fails.
create function nightshift_private.end_gather(p_rhythm_id bigint, p_slot timestamptz, p_found jsonb) returns void
language plpgsql security definer set search_path = '' as $$
declare
  v_run nightshift.rhythm_runs;
begin
  select * into v_run from nightshift.rhythm_runs where rhythm_id = p_rhythm_id and slot = p_slot and outcome = 'gathering' for update;
  if v_run.rhythm_id is null then return; end if;
  if p_found ? 'error' then
    perform nightshift_private.end_run(v_run, 'failed', 'Cannot gather: ' || nightshift_private.error_text(p_found ->> 'state', p_found ->> 'error'));
  else
    perform nightshift_private.decide_run(v_run, p_found);
  end if;
end
$$;

-- Gathers for open runs, each as its own person. Returns how many. Call it where the session may switch
-- to `authenticated`: pg_cron runs it as postgres, the Data API as service_role; inside a function with
-- its owner's rights it finds role switching forbidden and the runs stay open.
create function nightshift_private.gather_runs() returns int
language plpgsql set search_path = '' as $$
declare
  v_taken record;
  v_count int := 0;
begin
  for v_taken in select * from nightshift_private.take_gathers() loop
    perform nightshift_private.end_gather(v_taken.rhythm_id, v_taken.slot, nightshift_private.gather(v_taken.statement, v_taken.person));
    v_count := v_count + 1;
  end loop;
  return v_count;
end
$$;

-- For hosts without pg_cron: the same, called by a worker after each sweep.
create function nightshift.gather_runs() returns int
language sql set search_path = '' set statement_timeout = '8s' as $$ select nightshift_private.gather_runs() $$;

-- ── decide and act ───────────────────────────────────────────────────────────────────────────────

-- Brings a run to its end and says so in the audit log.
create function nightshift_private.end_run(p_run nightshift.rhythm_runs, p_outcome text, p_reason text default null, p_task_id bigint default null)
returns void language plpgsql set search_path = '' as $$
begin
  update nightshift.rhythm_runs set outcome = p_outcome, reason = p_reason,
      task_ids = case when p_task_id is null then task_ids else task_ids || p_task_id end
    where rhythm_id = p_run.rhythm_id and slot = p_run.slot;
  perform nightshift_private.record_event(p_run.project_id, 'rhythm.' || p_outcome, 'rhythm', p_run.rhythm_id::text, p_task_id,
    pg_catalog.jsonb_build_object('slot', p_run.slot, 'manual', p_run.manual));
end
$$;

-- Hands in a task in the name of the rhythm's creator. Returns its id.
create function nightshift_private.enqueue_for(p_rhythm nightshift.rhythms, p_key text, p_request jsonb) returns bigint
language plpgsql set search_path = '' as $$
declare
  v_id bigint;
begin
  select id into v_id from nightshift.enqueue(pg_catalog.jsonb_build_array(p_request
    || pg_catalog.jsonb_build_object('project', p_rhythm.project_id, 'idempotency_key', p_key)));
  -- The system enqueued, and the log says so; the person stands behind it.
  update nightshift.tasks set created_by = p_rhythm.created_by where id = v_id and created_by is distinct from p_rhythm.created_by;
  return v_id;
end
$$;

-- Why a rule does not hold for what was gathered, or null.
create function nightshift_private.rule_reason(p_when jsonb, p_gathered jsonb) returns text
language sql immutable set search_path = '' as $$
  select case
    when p_when ? 'min_rows' then case when (p_gathered ->> 'count')::int < (p_when ->> 'min_rows')::numeric
      then pg_catalog.format('Rule not met: %s rows, wanted at least %s', p_gathered ->> 'count', p_when ->> 'min_rows') end
    when p_when ? 'path' and coalesce(pg_catalog.jsonb_path_query_first(p_gathered, (p_when ->> 'path')::jsonpath, '{}', true), 'null') in ('null', 'false')
      then pg_catalog.format('Rule not met: nothing fits %s', p_when ->> 'path') end
$$;

-- Decides whether a run acts on what it has gathered. Stores why if it does not.
create function nightshift_private.decide_run(p_run nightshift.rhythm_runs, p_gathered jsonb) returns void
language plpgsql set search_path = '' as $$
declare
  v_rhythm nightshift.rhythms;
  v_digest text := nightshift_private.sha256_hex((p_gathered -> 'rows')::text);
  v_last nightshift.rhythm_runs;
  v_reason text;
begin
  select * into v_rhythm from nightshift.rhythms where id = p_run.rhythm_id;
  update nightshift.rhythm_runs set gathered = p_gathered, digest = v_digest where rhythm_id = p_run.rhythm_id and slot = p_run.slot;
  case v_rhythm.decide ->> 'kind'
  when 'rule' then
    v_reason := nightshift_private.rule_reason(v_rhythm.decide -> 'when', p_gathered);
  when 'changed' then
    select * into v_last from nightshift.rhythm_runs
      where rhythm_id = p_run.rhythm_id and slot <> p_run.slot and digest is not null and outcome in ('acted', 'skipped') order by slot desc limit 1;
    v_reason := coalesce(nightshift_private.rule_reason(v_rhythm.decide, p_gathered),
      case when v_last.digest = v_digest then pg_catalog.format('Nothing has changed since the slot %s', v_last.slot) end);
  when 'model' then
    v_reason := nightshift_private.rule_reason(v_rhythm.decide, p_gathered);
    if v_reason is null then
      perform nightshift_private.ask_model(v_rhythm, p_run, p_gathered);
      return;
    end if;
  else null;
  end case;
  if v_reason is null then
    perform nightshift_private.act_run(v_rhythm, p_run, p_gathered);
  else
    perform nightshift_private.end_run(p_run, 'skipped', v_reason);
  end if;
exception when others then
  perform nightshift_private.end_run(p_run, 'failed', 'Cannot decide: ' || nightshift_private.error_text(sqlstate, sqlerrm));
end
$$;

-- Enqueues the task that a run is for. p_reason: what the deciding model said.
create function nightshift_private.act_run(p_rhythm nightshift.rhythms, p_run nightshift.rhythm_runs, p_gathered jsonb, p_reason text default null)
returns void language plpgsql set search_path = '' as $$
declare
  v_request jsonb := p_rhythm.act;
begin
  if p_gathered is not null then
    v_request := pg_catalog.jsonb_set(v_request, '{input}', coalesce(v_request -> 'input', '{}') || pg_catalog.jsonb_build_object('gathered', p_gathered));
  end if;
  perform nightshift_private.end_run(p_run, 'acted', p_reason,
    nightshift_private.enqueue_for(p_rhythm, nightshift_private.run_key(p_run), v_request));
exception when others then
  perform nightshift_private.end_run(p_run, 'failed', 'Cannot act: ' || nightshift_private.error_text(sqlstate, sqlerrm));
end
$$;

-- The idempotency key of a run's task: a slot enqueues once, whatever happens.
create function nightshift_private.run_key(p_run nightshift.rhythm_runs) returns text
language sql immutable set search_path = '' as $$
  select pg_catalog.format('rhythm:%s:%s', p_run.rhythm_id, pg_catalog.to_char(p_run.slot at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
$$;

-- Has the deciding agent look at what was gathered; settle_decisions reads its answer.
create function nightshift_private.ask_model(p_rhythm nightshift.rhythms, p_run nightshift.rhythm_runs, p_gathered jsonb) returns void
language plpgsql set search_path = '' as $$
declare
  v_id bigint := nightshift_private.enqueue_for(p_rhythm, nightshift_private.run_key(p_run) || ':decide', pg_catalog.jsonb_build_object(
    'agent', p_rhythm.decide ->> 'agent', 'lane', coalesce(p_rhythm.act -> 'lane', '2'),
    'input', pg_catalog.jsonb_build_object('rhythm', p_rhythm.name, 'purpose', p_rhythm.description, 'gathered', p_gathered)));
begin
  update nightshift.rhythm_runs set outcome = 'deciding', task_ids = array[v_id] where rhythm_id = p_run.rhythm_id and slot = p_run.slot;
end
$$;

-- Goes on with runs whose deciding task has ended: its output is {act: true or false, reason}.
create function nightshift_private.settle_decisions() returns void
language plpgsql set search_path = '' as $$
declare
  v_run nightshift.rhythm_runs;
  v_rhythm nightshift.rhythms;
  v_task nightshift.tasks;
begin
  for v_run in
    select n.* from nightshift.rhythm_runs n join nightshift.tasks t on t.id = n.task_ids[1]
    where n.outcome = 'deciding' and t.status in ('completed', 'failed', 'cancelled') limit 200 for update of n skip locked
  loop
    select * into v_rhythm from nightshift.rhythms where id = v_run.rhythm_id;
    select * into v_task from nightshift.tasks where id = v_run.task_ids[1];
    if v_task.status <> 'completed' then
      perform nightshift_private.end_run(v_run, 'failed', pg_catalog.format('Cannot decide: task %s is %s', v_task.id, v_task.status));
    elsif v_task.output -> 'act' = 'true' then
      perform nightshift_private.act_run(v_rhythm, v_run, v_run.gathered, pg_catalog.left(v_task.output ->> 'reason', 500));
    elsif v_task.output -> 'act' = 'false' then
      perform nightshift_private.end_run(v_run, 'skipped', coalesce(pg_catalog.left(nullif(v_task.output ->> 'reason', ''), 500), 'The model gave no reason'));
    else
      perform nightshift_private.end_run(v_run, 'failed', pg_catalog.format('Cannot decide: task %s did not answer with act true or false', v_task.id));
    end if;
  end loop;
end
$$;

-- ── fire: slots that are due ─────────────────────────────────────────────────────────────────────

-- Whether the previous run is still going: being gathered or decided, or its tasks are live.
create function nightshift_private.is_running(p_rhythm_id bigint) returns boolean
language sql stable set search_path = '' as $$
  select exists (select from nightshift.rhythm_runs where rhythm_id = p_rhythm_id and outcome in ('gathering', 'deciding'))
    or exists (
      select from (select task_ids from nightshift.rhythm_runs where rhythm_id = p_rhythm_id and outcome = 'acted' order by slot desc limit 1) r
      join nightshift.tasks t on t.id = any (r.task_ids) where t.status not in ('completed', 'failed', 'cancelled'))
$$;

-- Claims a slot and starts its run, or skips or queues it while the previous run is going. False: the
-- slot must wait its turn, because catch-up "all" gives no slot up. A slot that is taken is done.
create function nightshift_private.open_run(p_rhythm nightshift.rhythms, p_slot timestamptz) returns boolean
language plpgsql set search_path = '' as $$
declare
  v_run nightshift.rhythm_runs;
  v_busy boolean := p_rhythm.overlap <> 'allow' and nightshift_private.is_running(p_rhythm.id);
  v_waiting boolean := v_busy and p_rhythm.overlap = 'queue'
    and exists (select from nightshift.rhythm_runs where rhythm_id = p_rhythm.id and outcome = 'waiting');
begin
  if v_waiting and p_rhythm.catch_up = 'all' then return false; end if;
  insert into nightshift.rhythm_runs (rhythm_id, slot, project_id, outcome, reason)
    values (p_rhythm.id, p_slot, p_rhythm.project_id,
      case when not v_busy then 'gathering' when v_waiting or p_rhythm.overlap = 'skip' then 'skipped' else 'waiting' end,
      case when v_waiting then 'The previous run is still going and another one waits' when v_busy then 'The previous run is still going' end)
    on conflict do nothing returning * into v_run;
  if v_run.outcome = 'gathering' then perform nightshift_private.start_run(p_rhythm, v_run);
  elsif v_run.outcome = 'skipped' then perform nightshift_private.end_run(v_run, 'skipped', v_run.reason);
  end if;
  return true;
end
$$;

-- Decides at once where there is nothing to gather; the rest is left to gather_runs.
create function nightshift_private.start_run(p_rhythm nightshift.rhythms, p_run nightshift.rhythm_runs) returns void
language plpgsql set search_path = '' as $$
begin
  update nightshift.rhythm_runs set outcome = 'gathering', reason = null, offered_at = nightshift_private.now()
    where rhythm_id = p_run.rhythm_id and slot = p_run.slot;
  if p_rhythm.gather ->> 'kind' = 'none' then perform nightshift_private.decide_run(p_run, null); end if;
end
$$;

-- Deals with the slots of one rhythm that are due, oldest first and at most 20 runs; what is left is due
-- again at the next sweep. The rhythm is locked. Returns how many slots it dealt with.
create function nightshift_private.fire_rhythm(p_rhythm nightshift.rhythms) returns int
language plpgsql set search_path = '' as $$
declare
  v_now timestamptz := nightshift_private.now();
  v_fields bit varying[] := nightshift_private.parse_schedule(p_rhythm.schedule);
  v_missed timestamptz[] := '{}';
  v_runs int := 0;
  v_next timestamptz;
  v_next_at timestamptz;
begin
  while p_rhythm.next_at <= v_now and v_runs < 20 and pg_catalog.cardinality(v_missed) < 2000 loop
    v_next := nightshift_private.next_slot(v_fields, p_rhythm.time_zone, p_rhythm.next_slot);
    v_next_at := nightshift_private.fire_time(p_rhythm, v_fields, v_next);
    if p_rhythm.catch_up = 'all' or p_rhythm.next_at > v_now - interval '1 minute'
      or (p_rhythm.catch_up = 'once' and (v_next_at > v_now) is not false) then
      exit when not nightshift_private.open_run(p_rhythm, p_rhythm.next_slot);
      v_runs := v_runs + 1;
    else
      v_missed := v_missed || p_rhythm.next_slot;
    end if;
    p_rhythm.last_slot := p_rhythm.next_slot;
    p_rhythm.next_slot := v_next;
    p_rhythm.next_at := v_next_at;
  end loop;
  perform nightshift_private.record_missed(p_rhythm, v_missed);
  update nightshift.rhythms set last_slot = p_rhythm.last_slot, next_slot = p_rhythm.next_slot, next_at = p_rhythm.next_at
    where id = p_rhythm.id;
  return v_runs + pg_catalog.cardinality(v_missed);
end
$$;

-- Slots that nobody fired in time and that catch-up does not bring back: a row each, one audit event.
create function nightshift_private.record_missed(p_rhythm nightshift.rhythms, p_slots timestamptz[]) returns void
language plpgsql set search_path = '' as $$
begin
  if p_slots = '{}' then return; end if;
  insert into nightshift.rhythm_runs (rhythm_id, slot, project_id, outcome, reason)
    select p_rhythm.id, slot, p_rhythm.project_id, 'missed', pg_catalog.format('Not fired in time; catch-up is "%s"', p_rhythm.catch_up)
    from pg_catalog.unnest(p_slots) slot
    on conflict do nothing;
  perform nightshift_private.record_event(p_rhythm.project_id, 'rhythm.missed', 'rhythm', p_rhythm.id::text, null,
    pg_catalog.jsonb_build_object('slots', pg_catalog.cardinality(p_slots), 'from', p_slots[1], 'to', p_slots[pg_catalog.cardinality(p_slots)]));
end
$$;

-- Stops a rhythm until somebody resumes it. A run that waited for its turn is skipped.
create function nightshift_private.stop_rhythm(p_rhythm_id bigint, p_reason text) returns void
language plpgsql set search_path = '' as $$
begin
  update nightshift.rhythms set active = false, paused_reason = p_reason, next_slot = null, next_at = null where id = p_rhythm_id and active;
  perform nightshift_private.end_run(n, 'skipped', 'The rhythm was paused') from nightshift.rhythm_runs n
    where n.rhythm_id = p_rhythm_id and n.outcome = 'waiting';
end
$$;

-- Whether the person behind a rhythm may (still) enqueue tasks; true where there is none.
create function nightshift_private.creator_may_act(p_project uuid, p_person uuid) returns boolean
language sql stable set search_path = '' as $$
  select p_person is null or exists (select from nightshift.members where project_id = p_project and user_id = p_person and role in ('owner', 'operator'))
$$;

-- Offers runs again that were not gathered for a minute, and gives them up after three.
create function nightshift_private.renew_gathers() returns void
language plpgsql set search_path = '' as $$
declare
  v_run nightshift.rhythm_runs;
begin
  for v_run in
    select * from nightshift.rhythm_runs where outcome = 'gathering' and offered_at <= nightshift_private.now() - interval '1 minute'
    limit 500 for update skip locked
  loop
    if v_run.rounds >= 3 then
      perform nightshift_private.end_run(v_run, 'failed', 'Cannot gather: it took too long three times, or nothing calls gather_runs');
    else
      update nightshift.rhythm_runs set rounds = rounds + 1, offered_at = nightshift_private.now()
        where rhythm_id = v_run.rhythm_id and slot = v_run.slot;
    end if;
  end loop;
end
$$;

-- Starts runs that waited for the one before them.
create function nightshift_private.start_waiting() returns void
language plpgsql set search_path = '' as $$
declare
  v_run nightshift.rhythm_runs;
  v_rhythm nightshift.rhythms;
begin
  for v_run in
    select * from nightshift.rhythm_runs n where outcome = 'waiting' and not nightshift_private.is_running(n.rhythm_id)
    limit 200 for update skip locked
  loop
    select * into v_rhythm from nightshift.rhythms where id = v_run.rhythm_id for update skip locked;
    if v_rhythm.id is not null then perform nightshift_private.start_run(v_rhythm, v_run); end if;
  end loop;
end
$$;

-- Fires what is due and goes on with what is under way; part of the sweep. Returns how many slots it
-- dealt with. Any number of schedulers may call it at once; none waits for another.
create function nightshift_private.fire_rhythms() returns int
language plpgsql set search_path = '' as $$
declare
  v_rhythm nightshift.rhythms;
  v_count int := 0;
begin
  perform nightshift_private.renew_gathers();
  perform nightshift_private.settle_decisions();
  perform nightshift_private.start_waiting();
  for v_rhythm in
    select * from nightshift.rhythms where next_at <= nightshift_private.now() order by next_at limit 500 for update skip locked
  loop
    begin
      if nightshift_private.creator_may_act(v_rhythm.project_id, v_rhythm.created_by) then
        v_count := v_count + nightshift_private.fire_rhythm(v_rhythm);
      else
        perform nightshift_private.stop_rhythm(v_rhythm.id, 'Whoever wrote it may no longer run tasks here; set it again to take it over');
      end if;
    exception when others then
      perform nightshift_private.stop_rhythm(v_rhythm.id, 'It cannot be fired: ' || nightshift_private.error_text(sqlstate, sqlerrm));
    end;
    exit when v_count >= 2000;
  end loop;
  return v_count;
end
$$;

-- ── people ───────────────────────────────────────────────────────────────────────────────────────

-- Refuses a definition with unknown fields or wrong values; looks at nothing but the definition. Returns
-- the statement to try if it gathers with a query.
create function nightshift_private.check_rhythm(p_name text, p_definition jsonb) returns text
language plpgsql security definer set search_path = '' as $$
declare
  v_label text := pg_catalog.format('rhythm "%s"', pg_catalog.left(p_name, 63));
begin
  perform nightshift_private.check_name(p_name, '^[a-z0-9][a-z0-9_-]{0,62}$');
  perform nightshift_private.check_payload('definition', p_definition);
  perform nightshift_private.check_object(v_label, p_definition, '{
    "required": ["schedule", "act"],
    "properties": {
      "description": {"type": "string"}, "schedule": {"type": "string"}, "time_zone": {"type": "string"},
      "jitter_seconds": {"type": "integer", "minimum": 0, "maximum": 3600},
      "overlap": {"enum": ["skip", "queue", "allow"]}, "catch_up": {"enum": ["skip", "once", "all"]},
      "gather": true, "decide": true, "act": true}}');
  perform nightshift_private.check_object(v_label || '.act', p_definition -> 'act', '{
    "required": ["agent"],
    "properties": {
      "agent": {"type": "string", "maxLength": 63}, "input": {"type": "object"}, "lane": {"type": "integer", "minimum": 0, "maximum": 5},
      "queue": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]{0,62}$"}, "budget_usd": {"type": "number", "minimum": 0, "maximum": 99999999},
      "labels": {"type": "array", "items": {"type": "string", "maxLength": 80}, "maxItems": 20}}}');
  perform nightshift_private.check_phase(v_label || '.gather', coalesce(p_definition -> 'gather', '{"kind": "none"}'), '{
    "none": {"properties": {"kind": true}},
    "sql": {"required": ["query"], "properties": {"kind": true, "query": {"type": "string", "minLength": 1, "maxLength": 20000}}}}');
  perform nightshift_private.check_phase(v_label || '.decide', coalesce(p_definition -> 'decide', '{"kind": "always"}'), '{
    "always": {"properties": {"kind": true}},
    "changed": {"properties": {"kind": true, "min_rows": {"type": "integer", "minimum": 1, "maximum": 100}}},
    "model": {"required": ["agent"], "properties": {"kind": true, "agent": {"type": "string"}, "min_rows": {"type": "integer", "minimum": 1, "maximum": 100}}},
    "rule": {"required": ["when"], "properties": {"kind": true, "when": {"oneOf": [
      {"type": "object", "required": ["min_rows"], "additionalProperties": false, "properties": {"min_rows": {"type": "integer", "minimum": 1, "maximum": 100}}},
      {"type": "object", "required": ["path"], "additionalProperties": false, "properties": {"path": {"type": "string", "maxLength": 2000}}}]}}}}');
  if (p_definition #>> '{decide,kind}' in ('changed', 'rule') or p_definition -> 'decide' ? 'min_rows') and coalesce(p_definition #>> '{gather,kind}', 'none') = 'none' then
    perform nightshift_private.fault('NS070', p_name, 'it decides on what is gathered, but gathers nothing');
  end if;
  perform (p_definition #>> '{decide,when,path}')::jsonpath;
  return nightshift_private.gather_text(p_definition #>> '{gather,query}', null, '-infinity', '-infinity');
exception when syntax_error or invalid_text_representation then
  perform nightshift_private.fault('NS070', p_name, pg_catalog.format('"%s" is no JSON path', p_definition #>> '{decide,when,path}'));
end
$$;

-- Refuses a gather or decide phase of an unknown kind, or with fields its kind does not have.
create function nightshift_private.check_phase(p_label text, p_phase jsonb, p_kinds jsonb) returns void
language plpgsql stable set search_path = '' as $$
begin
  if not coalesce(p_kinds ? (p_phase ->> 'kind'), false) then
    perform nightshift_private.fault('NS070', pg_catalog.split_part(p_label, '"', 2), pg_catalog.format('%s.kind is %s, known are %s',
      pg_catalog.split_part(p_label, '.', 2), coalesce((p_phase -> 'kind')::text, 'missing'),
      (select pg_catalog.string_agg(k, ', ' order by k) from pg_catalog.jsonb_object_keys(p_kinds) k)));
  end if;
  perform nightshift_private.check_object(p_label, p_phase, p_kinds -> (p_phase ->> 'kind'));
end
$$;

-- Refuses a rhythm that could not run here: unknown zone, a schedule that never comes, unknown agents,
-- a deciding agent that is not cheap or may answer something else, a query without a person.
create function nightshift_private.check_rhythm_here(p_rhythm nightshift.rhythms) returns void
language plpgsql stable set search_path = '' as $$
declare
  v_agent text;
  v_problem text;
begin
  foreach v_agent in array array_remove(array[p_rhythm.act ->> 'agent', p_rhythm.decide ->> 'agent'], null) loop
    if not exists (select from nightshift.agents where project_id = p_rhythm.project_id and name = v_agent and active) then
      perform nightshift_private.fault('NS020', pg_catalog.left(v_agent, 80), p_rhythm.project_id::text);
    end if;
  end loop;
  v_problem := case
    when p_rhythm.next_slot is null then pg_catalog.format('schedule "%s" never comes', p_rhythm.schedule)
    when not nightshift_private.creator_may_act(p_rhythm.project_id, p_rhythm.created_by) then 'its person must be an owner or operator of the project'
    when p_rhythm.gather ->> 'kind' = 'sql' and p_rhythm.created_by is null then 'a query runs as a person: sign in, or name one as "person"'
    when p_rhythm.decide ->> 'kind' = 'model' and not exists (
      select from nightshift.agents where project_id = p_rhythm.project_id and name = p_rhythm.decide ->> 'agent' and active and tier = 'cheap'
        and output_schema -> 'required' ? 'act' and output_schema #>> '{properties,act,type}' = 'boolean')
      then 'a deciding agent needs tier "cheap" and an output_schema that requires the boolean "act"' end;
  if v_problem is not null then perform nightshift_private.fault('NS070', p_rhythm.name, v_problem); end if;
end
$$;

-- When a rhythm fires next, counted from now, with a schedule and zone that are checked on the way.
create function nightshift_private.schedule_from_now(p_rhythm nightshift.rhythms) returns nightshift.rhythms
language plpgsql stable set search_path = '' as $$
declare
  v_fields bit varying[] := nightshift_private.parse_schedule(p_rhythm.schedule);
begin
  -- The list, because Postgres takes any "Word3" for a zone of its own making.
  if not exists (select from pg_catalog.pg_timezone_names where name = p_rhythm.time_zone) then
    perform nightshift_private.fault('NS070', p_rhythm.name, pg_catalog.format('time zone "%s" is unknown', pg_catalog.left(p_rhythm.time_zone, 80)));
  end if;
  p_rhythm.next_slot := nightshift_private.next_slot(v_fields, p_rhythm.time_zone, nightshift_private.now());
  p_rhythm.next_at := nightshift_private.fire_time(p_rhythm, v_fields, p_rhythm.next_slot);
  return p_rhythm;
end
$$;

-- Writes a definition; see set_rhythm. p_problem: what is wrong with its query; that is only help for
-- whoever writes it, for a query is checked whenever it runs.
create function nightshift_private.save_rhythm(p_project uuid, p_name text, p_definition jsonb, p_person uuid, p_problem text) returns bigint
language plpgsql security definer set search_path = '' as $$
declare
  v_old nightshift.rhythms;
  v_new nightshift.rhythms;
begin
  perform nightshift_private.require_role(p_project, 'change rhythms', 'owner', 'operator');
  perform nightshift_private.check_rhythm(p_name, p_definition);
  if p_problem is not null then perform nightshift_private.fault('NS073', p_problem); end if;
  perform from nightshift.projects where id = p_project for no key update;
  select * into v_old from nightshift.rhythms where project_id = p_project and name = p_name for update;
  v_new := pg_catalog.jsonb_populate_record((coalesce(v_old.id, pg_catalog.nextval('nightshift.rhythms_id_seq')), p_project, p_name, '', '', 'UTC', 0, 'skip', 'once', '{"kind": "none"}', '{"kind": "always"}',
    '{}', true, null, null, null, v_old.last_slot, null, nightshift_private.now())::nightshift.rhythms, p_definition);
  v_new.created_by := case when nightshift_private.is_service() then p_person else auth.uid() end;
  v_new := nightshift_private.schedule_from_now(v_new);
  perform nightshift_private.check_rhythm_here(v_new);
  if v_old.id is null then
    insert into nightshift.rhythms overriding system value select v_new.*;
    return v_new.id;
  end if;
  -- Slots already owed stay owed as long as when it runs does not change; a paused rhythm stays paused.
  if (v_old.schedule, v_old.time_zone, v_old.jitter_seconds) = (v_new.schedule, v_new.time_zone, v_new.jitter_seconds) or not v_old.active then
    v_new.next_slot := v_old.next_slot;
    v_new.next_at := v_old.next_at;
  end if;
  update nightshift.rhythms r set (description, schedule, time_zone, jitter_seconds, overlap, catch_up, gather, decide, act, next_slot, next_at, created_by)
    = (v_new.description, v_new.schedule, v_new.time_zone, v_new.jitter_seconds, v_new.overlap, v_new.catch_up, v_new.gather, v_new.decide, v_new.act,
      v_new.next_slot, v_new.next_at, v_new.created_by)
    where r.id = v_old.id;
  return v_old.id;
end
$$;

-- Creates or replaces a rhythm; returns its id. definition: {schedule, act, description?, time_zone?,
-- jitter_seconds?, overlap?, catch_up?, gather?, decide?}, see the comments of nightshift.rhythms. The
-- secret key names the person whose rights a query has. Runs with the caller's rights, to try the query.
create function nightshift.set_rhythm(project uuid, name text, definition jsonb, person uuid default null) returns bigint
language plpgsql set search_path = '' as $$
begin
  return nightshift_private.save_rhythm(project, name, definition, person,
    nightshift_private.query_problem(nightshift_private.check_rhythm(name, definition)));
end
$$;

-- Loads a rhythm for somebody with one of the roles; invisible and unknown ones get the same answer.
create function nightshift_private.require_rhythm(p_rhythm_id bigint, p_action text, variadic p_roles text[]) returns nightshift.rhythms
language plpgsql set search_path = '' as $$
declare
  v_rhythm nightshift.rhythms;
begin
  select * into v_rhythm from nightshift.rhythms where id = p_rhythm_id;
  if v_rhythm.id is null or not (nightshift_private.is_service() or v_rhythm.project_id in (select nightshift_private.my_projects())) then
    perform nightshift_private.fault('NS071', coalesce(p_rhythm_id::text, 'null'));
  end if;
  perform nightshift_private.require_role(v_rhythm.project_id, p_action, variadic p_roles);
  select * into v_rhythm from nightshift.rhythms where id = p_rhythm_id for update;
  return v_rhythm;
end
$$;

-- Runs a rhythm now, whatever its schedule, pause or overlap say; it still gathers and decides. Returns
-- the slot of the run.
create function nightshift.run_rhythm_now(rhythm_id bigint) returns timestamptz
language plpgsql security definer set search_path = '' as $$
declare
  v_rhythm nightshift.rhythms := nightshift_private.require_rhythm(run_rhythm_now.rhythm_id, 'run rhythms', 'owner', 'operator');
  v_run nightshift.rhythm_runs;
  v_slot timestamptz := nightshift_private.now();
begin
  if not nightshift_private.creator_may_act(v_rhythm.project_id, v_rhythm.created_by) then
    perform nightshift_private.fault('NS070', v_rhythm.name, 'whoever wrote it may no longer run tasks here; set it again to take it over');
  end if;
  while v_run.slot is null loop
    insert into nightshift.rhythm_runs (rhythm_id, slot, project_id, manual, outcome)
      values (v_rhythm.id, v_slot, v_rhythm.project_id, true, 'gathering')
      on conflict do nothing returning * into v_run;
    v_slot := v_slot + interval '1 microsecond';
  end loop;
  perform nightshift_private.start_run(v_rhythm, v_run);
  return v_run.slot;
end
$$;

-- Pauses a rhythm; slots that pass meanwhile are not owed.
create function nightshift.pause_rhythm(rhythm_id bigint, reason text default 'Paused by a person') returns void
language plpgsql security definer set search_path = '' as $$
begin
  perform nightshift_private.require_rhythm(pause_rhythm.rhythm_id, 'pause rhythms', 'owner', 'operator');
  perform nightshift_private.check_payload('reason', pg_catalog.to_jsonb(reason), 1000);
  perform nightshift_private.stop_rhythm(pause_rhythm.rhythm_id, coalesce(reason, 'Paused by a person'));
end
$$;

-- Lets a paused rhythm go on from its next slot.
create function nightshift.resume_rhythm(rhythm_id bigint) returns void
language plpgsql security definer set search_path = '' as $$
declare
  v_rhythm nightshift.rhythms := nightshift_private.require_rhythm(resume_rhythm.rhythm_id, 'resume rhythms', 'owner', 'operator');
begin
  if v_rhythm.active then return; end if;
  v_rhythm := nightshift_private.schedule_from_now(v_rhythm);
  update nightshift.rhythms set active = true, paused_reason = null, next_slot = v_rhythm.next_slot, next_at = v_rhythm.next_at
    where id = v_rhythm.id;
end
$$;

-- The next times a rhythm will fire, jitter included: none while it is paused, at most 1000.
create function nightshift.next_runs(rhythm_id bigint, count int default 5) returns timestamptz[]
language plpgsql stable security definer set search_path = '' as $$
declare
  v_rhythm nightshift.rhythms;
  v_fields bit varying[];
  v_slot timestamptz;
  v_times timestamptz[] := '{}';
begin
  select * into v_rhythm from nightshift.rhythms r where r.id = next_runs.rhythm_id
    and (nightshift_private.is_service() or r.project_id in (select nightshift_private.my_projects()));
  if v_rhythm.id is null then perform nightshift_private.fault('NS071', coalesce(next_runs.rhythm_id::text, 'null')); end if;
  v_fields := nightshift_private.parse_schedule(v_rhythm.schedule);
  v_slot := v_rhythm.next_slot;
  while v_slot is not null and pg_catalog.cardinality(v_times) < least(count, 1000) loop
    v_times := v_times || nightshift_private.fire_time(v_rhythm, v_fields, v_slot);
    v_slot := nightshift_private.next_slot(v_fields, v_rhythm.time_zone, v_slot);
  end loop;
  return v_times;
end
$$;

-- What runs with the caller's rights calls by name; none of these gives more than the caller has.
grant execute on function nightshift_private.check_rhythm(text, jsonb), nightshift_private.query_problem(text), nightshift_private.view_problem(regclass),
  nightshift_private.read_rows(text), nightshift_private.save_rhythm(uuid, text, jsonb, uuid, text) to authenticated, service_role;
grant execute on function nightshift_private.gather_runs(), nightshift_private.take_gathers(), nightshift_private.gather(text, uuid),
  nightshift_private.end_gather(bigint, timestamptz, jsonb), nightshift.gather_runs() to service_role;
grant execute on function nightshift.set_rhythm(uuid, text, jsonb, uuid), nightshift.run_rhythm_now(bigint), nightshift.pause_rhythm(bigint, text),
  nightshift.resume_rhythm(bigint), nightshift.next_runs(bigint, int) to authenticated, service_role;

revoke execute on all functions in schema nightshift, nightshift_private from public;
