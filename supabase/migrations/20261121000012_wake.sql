-- Wake: three doorbells, one truth. Only this file knows pg_net, pg_cron, Realtime and Vault; each is
-- used when present and missed without harm when not.
--
--   1. pg_net posts an empty body to the tick function: at most one per transaction and per second.
--      A suppressed ring is covered by the worker that the earlier one woke: it lingers and looks again.
--   2. Realtime tells workers (topic nightshift:wake) and clients (project and task topics): ids only.
--   3. pg_cron calls sweep() every 10 s. It alone is enough.

do $$
declare
  v_name text;
begin
  foreach v_name in array array['pg_net', 'pg_cron'] loop
    if exists (select from pg_available_extensions where name = v_name) then
      execute format('create extension if not exists %I', v_name);
    end if;
  end loop;
end
$$;

create table nightshift_private.doorbells (
  name text primary key check (name in ('net', 'realtime')),
  least_interval interval not null,
  rung_at timestamptz not null default '-infinity',
  rings bigint not null default 0
) with (fillfactor = 50);
comment on table nightshift_private.doorbells is 'When each doorbell was last rung; the row is the rate limit.';
insert into nightshift_private.doorbells (name, least_interval) values ('net', '1 second'), ('realtime', '100 milliseconds');

-- A secret by name, or null: from Vault where there is one.
create function nightshift_private.secret(p_name text) returns text
language plpgsql stable set search_path = '' as $$
begin
  return (select decrypted_secret from vault.decrypted_secrets where name = p_name);
exception when undefined_table or invalid_schema_name then
  return null;
end
$$;

-- True if this doorbell may ring now. Never waits: who finds the row taken leaves the ringing to the other.
create function nightshift_private.may_ring(p_name text) returns boolean
language plpgsql set search_path = '' as $$
declare
  v_name text;
begin
  select name into v_name from nightshift_private.doorbells
    where name = p_name and rung_at <= pg_catalog.clock_timestamp() - least_interval
    for update skip locked;
  if v_name is null then return false; end if;
  update nightshift_private.doorbells set rung_at = pg_catalog.clock_timestamp(), rings = rings + 1 where name = p_name;
  return true;
end
$$;

-- Tells workers to look. Carries nothing, promises nothing, never fails the caller.
create function nightshift_private.nudge() returns void
language plpgsql security definer set search_path = '' as $$
begin
  if pg_catalog.current_setting('nightshift.nudged', true) = pg_catalog.pg_current_xact_id()::text then return; end if;
  perform pg_catalog.set_config('nightshift.nudged', pg_catalog.pg_current_xact_id()::text, true);
  perform nightshift_private.broadcast('{}', 'wake', 'nightshift:wake') where nightshift_private.may_ring('realtime');
  perform nightshift_private.post_nudge() where nightshift_private.may_ring('net');
end
$$;

-- Rings over pg_net, where it and the address of the functions are known.
create function nightshift_private.post_nudge() returns void
language plpgsql set search_path = '' as $$
declare
  v_url text := nightshift_private.secret('nightshift_functions_url');
begin
  if v_url is null or pg_catalog.to_regprocedure('net.http_post(text, jsonb, jsonb, jsonb, integer)') is null then return; end if;
  perform net.http_post(url := v_url || '/tick', body := '{}'::jsonb, timeout_milliseconds := 1000,
    headers := pg_catalog.jsonb_build_object('Content-Type', 'application/json',
      'x-nightshift-nudge', nightshift_private.secret('nightshift_nudge_secret')));
exception when others then
  raise warning 'Nudge failed: %', sqlerrm;
end
$$;

-- Sends one private broadcast, where there is Realtime. Never fails the caller.
create function nightshift_private.broadcast(p_payload jsonb, p_event text, p_topic text) returns void
language plpgsql set search_path = '' as $$
begin
  if pg_catalog.to_regprocedure('realtime.send(jsonb, text, text, boolean)') is null then return; end if;
  perform realtime.send(p_payload, p_event, p_topic, true);
exception when others then
  raise warning 'Broadcast failed: %', sqlerrm;
end
$$;

-- Who may listen: workers hear everything (service_role bypasses row security), members hear their projects and tasks.
create function nightshift_private.may_hear(p_topic text) returns boolean
language plpgsql stable security definer set search_path = '' as $$
declare
  v_project uuid;
begin
  if p_topic ~ '^nightshift:project:[0-9a-f-]{36}$' then
    v_project := pg_catalog.split_part(p_topic, ':', 3)::uuid;
  elsif p_topic ~ '^nightshift:task:[0-9]{1,18}$' then
    select project_id into v_project from nightshift.tasks where id = pg_catalog.split_part(p_topic, ':', 3)::bigint;
  end if;
  return v_project in (select nightshift_private.my_projects());
end
$$;
grant execute on function nightshift_private.may_hear(text) to authenticated;

-- Tells clients what changed: one message per project, naming at most 100 tasks.
create function nightshift_private.announce(p_tasks jsonb) returns void
language sql set search_path = '' as $$
  select nightshift_private.broadcast(pg_catalog.jsonb_build_object('tasks', pg_catalog.jsonb_agg(value - 'project_id' order by place)),
      'tasks', 'nightshift:project:' || (value ->> 'project_id'))
    from (select *, pg_catalog.row_number() over (partition by value ->> 'project_id' order by place) as turn
          from pg_catalog.jsonb_array_elements(p_tasks) with ordinality as t(value, place)) t
    where turn <= 100 group by value ->> 'project_id'
$$;

create function nightshift_private.announce_new_tasks() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  perform nightshift_private.announce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
      'project_id', project_id, 'id', id, 'status', status, 'version', version) order by id))
    from added having pg_catalog.count(*) > 0;
  if exists (select from added where status = 'pending') then perform nightshift_private.nudge(); end if;
  return null;
end
$$;
create trigger announce_new after insert on nightshift.tasks referencing new table as added
  for each statement execute function nightshift_private.announce_new_tasks();

-- The same for changes a reader can see (a heartbeat is none), and one message per changed task for
-- those who watch it, at most 100 a statement.
create function nightshift_private.announce_changed_tasks() returns trigger
language plpgsql security definer set search_path = '' as $$
declare
  v_tasks jsonb;
begin
  select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('project_id', n.project_id, 'id', n.id, 'status', n.status, 'version', n.version) order by n.id)
    -- Rejected: a join. Its plan is made for the first, small statement and kept: 1 s for 3,000 rows.
    into v_tasks from new_rows n
    where (n.id, n.status, n.step_count) not in (select o.id, o.status, o.step_count from old_rows o);
  if v_tasks is null then return null; end if;
  perform nightshift_private.announce(v_tasks);
  perform nightshift_private.broadcast(value - 'project_id', 'task', 'nightshift:task:' || (value ->> 'id'))
    from pg_catalog.jsonb_array_elements(v_tasks) with ordinality as t(value, place) where place <= 100;
  if v_tasks @> '[{"status": "pending"}]' then perform nightshift_private.nudge(); end if;
  return null;
end
$$;
create trigger announce_changed after update on nightshift.tasks referencing old table as old_rows new table as new_rows
  for each statement execute function nightshift_private.announce_changed_tasks();

do $$
begin
  create policy nightshift_members_listen on realtime.messages for select to authenticated
    using (extension = 'broadcast' and (select nightshift_private.may_hear((select realtime.topic()))));
exception when undefined_table or invalid_schema_name then
  raise notice 'No Realtime here: clients poll';
end
$$;

-- ── the sweep ────────────────────────────────────────────────────────────────────────────────────

-- The sweep holds what it locks until it ends, so it never waits for a row: it skips what is taken.

-- Tasks whose time has come.
create function nightshift_private.release_due() returns int
language sql set search_path = '' as $$
  with due as (
    select id from nightshift.tasks where status = 'scheduled' and run_at <= nightshift_private.now()
    order by run_at limit 5000 for no key update skip locked
  ), released as (
    update nightshift.tasks t set status = 'pending' from due where t.id = due.id returning 1
  ) select pg_catalog.count(*)::int from released
$$;

-- Tasks whose worker went silent go back to the queue without burning an attempt; one that takes down
-- every worker it meets is given up after 5 rescues (end_overdue), so that it cannot circle for ever.
create function nightshift_private.rescue_expired() returns int
language sql set search_path = '' as $$
  with silent as (
    select id from nightshift.tasks
    where status = 'running' and lease_until <= nightshift_private.now() and rescues < 5
    order by lease_until limit 5000 for no key update skip locked
  ), rescued as (
    update nightshift.tasks t set status = 'pending', rescues = t.rescues + 1, fence = null from silent where t.id = silent.id returning 1
  ) select pg_catalog.count(*)::int from rescued
$$;

-- Ends tasks past their deadline and tasks that exhausted their rescues, with all that follows. Groups that
-- wait for all_settled go on with what has settled.
create function nightshift_private.end_overdue() returns int
language plpgsql set search_path = '' as $$
declare
  v_task record;
  v_count int := 0;
begin
  for v_task in
    select id, coalesce(deadline_at <= nightshift_private.now(), false) as late,
      combinator = 'all_settled' and status = 'awaiting_children' as settles from nightshift.tasks
    where (deadline_at <= nightshift_private.now() and status not in ('completed', 'failed', 'cancelled'))
       or (status = 'running' and lease_until <= nightshift_private.now() and rescues >= 5)
    order by id limit 500
  loop
    continue when not nightshift_private.lock_reach(array[v_task.id], 'ended', p_wait => false);
    perform nightshift_private.finish(case when v_task.settles then nightshift_private.decide_groups(array[v_task.id], p_overdue => true)
      else array[row(v_task.id, 'failed', null, case when v_task.late then 'expired' else 'internal' end,
        pg_catalog.jsonb_build_object('message', case when v_task.late then 'Deadline passed' else 'Lost its worker 6 times' end))::nightshift_private.ending] end);
    v_count := v_count + 1;
  end loop;
  return v_count;
end
$$;

-- Tasks whose worker still sends heartbeats but has written nothing for 15 minutes end their attempt as
-- stuck; the next attempt goes to another worker.
create function nightshift_private.end_stuck() returns int
language plpgsql set search_path = '' as $$
declare
  v_id bigint;
  v_task nightshift.tasks;
  v_count int := 0;
begin
  for v_id in select id from nightshift.tasks
      where status = 'running' and lease_until > nightshift_private.now() and progress_at <= nightshift_private.now() - interval '15 minutes'
      order by id limit 500 loop
    continue when not nightshift_private.lock_reach(array[v_id], 'ended', p_wait => false);
    select * into v_task from nightshift.tasks where id = v_id;
    continue when v_task.status <> 'running' or v_task.progress_at > nightshift_private.now() - interval '15 minutes';
    perform nightshift_private.end_attempt(v_task, 'stuck', '{"message": "No progress for 15 minutes"}');
    v_count := v_count + 1;
  end loop;
  return v_count;
end
$$;

-- All background duties once. One at a time: a second call returns at once.
create function nightshift_private.sweep() returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '30s' as $$
declare
  v_done jsonb;
begin
  if not pg_catalog.pg_try_advisory_xact_lock(pg_catalog.hashtext('nightshift.sweep')) then
    return '{"busy": true}';
  end if;
  v_done := pg_catalog.jsonb_build_object('released', nightshift_private.release_due(), 'rescued', nightshift_private.rescue_expired(),
    'ended', nightshift_private.end_overdue(), 'stuck', nightshift_private.end_stuck(), 'expired_cards', nightshift_private.expire_cards(),
    'rhythms', nightshift_private.fire_rhythms(), 'sealed', nightshift_private.seal_audit());
  if exists (select from nightshift.tasks where status = 'pending') then perform nightshift_private.nudge(); end if;
  return v_done;
end
$$;

-- For hosts without pg_cron: the same sweep, called by a worker.
create function nightshift.sweep() returns jsonb
language sql security definer set search_path = '' as $$ select nightshift_private.sweep() $$;
grant execute on function nightshift.sweep() to service_role;

do $$
begin
  perform cron.schedule('nightshift:sweep', '10 seconds', 'select nightshift_private.sweep()');
  perform cron.schedule('nightshift:gather', '10 seconds', 'set statement_timeout = ''20s''; select nightshift_private.gather_runs()');
  perform cron.schedule('nightshift:purge-cron-log', '17 3 * * *',
    'delete from cron.job_run_details where end_time < now() - interval ''7 days''');
exception when undefined_function or invalid_schema_name then
  raise notice 'No pg_cron here: workers sweep';
end
$$;

revoke execute on all functions in schema nightshift, nightshift_private from public;
