-- Lanes: who is served next. Pending work hangs on streams, one per (queue, lane, project, agent,
-- concurrency key); a claim looks at streams, never at the backlog, so its cost depends on how many
-- parties wait, not on how much each has piled up.
--
--   lane      mostly strict from P0 down; each lower lane has a reserved share of the claims, so that
--             nothing starves (see lane_order)
--   fairness  within a lane the stream with the smallest virtual time is next; serving n tasks moves it
--             on by n times the number of streams its project has there, so that projects share equally,
--             and the agents of a project share what their project gets. A stream that wakes up starts
--             at the lane's current minimum: served at once, not punished, not privileged
--   limits    rows of nightshift.limits: caps, rates, pauses, editable live. Slots in use are counted
--             from leased tasks, never kept in a second place
--
-- A stream's row exists while tasks may wait in it. Enqueue adds the row, or holds an existing one with
-- a key-share lock until it commits; a claim that finds the stream empty deletes the row only if nobody
-- holds it and it is still empty then. So no wake-up is lost, enqueuers never wait for each other or
-- for a claim, and two rows for one stream (both enqueuers were first) do no harm.
-- Rejected: one sort key fixed at enqueue (under overload its front lags behind the clock and low lanes
-- starve); one lasting row per stream with a flag (whoever wakes it in a long transaction blocks or
-- delays all others until it commits).

create table nightshift_private.streams (
  id bigint generated always as identity primary key,
  stream_id bigint not null,
  queue text not null,
  lane smallint not null,
  project_id uuid not null,
  agent text not null,
  concurrency_key text not null,
  virtual_time double precision not null
) with (fillfactor = 50);
comment on table nightshift_private.streams is 'Where tasks wait now; virtual_time orders the streams of a lane.';
create index streams_by_turn on nightshift_private.streams (queue, lane, virtual_time, id);
create index streams_by_stream on nightshift_private.streams (stream_id);
create index streams_by_project on nightshift_private.streams (project_id, queue, lane);

create table nightshift.limits (
  id bigint generated always as identity primary key,
  project_id uuid references nightshift.projects (id) on delete cascade,
  kind text not null check (kind in ('queue', 'project', 'agent', 'key')),
  name text not null default '' check (length(name) <= 255),
  max_running int check (max_running >= 0),
  rate_count int check (rate_count > 0),
  rate_period interval check (rate_period > interval '0'),
  paused boolean not null default false,
  reason text check (length(reason) <= 500),
  tokens double precision,
  refilled_at timestamptz,
  updated_by uuid,
  updated_at timestamptz not null default nightshift_private.now(),
  constraint limits_scope unique nulls not distinct (project_id, kind, name),
  check ((rate_count is null) = (rate_period is null)),
  check (kind = 'queue' or project_id is not null),
  check ((kind = 'project') = (name = ''))
);
comment on table nightshift.limits is 'Caps (max_running), rates (rate_count per rate_period) and pauses for a queue, project, agent or concurrency key. A queue limit without project holds for all projects together.';
alter table nightshift.limits enable row level security;
create policy members_read_limits on nightshift.limits for select to authenticated
  using (project_id = any (array(select nightshift_private.my_projects())) or project_id is null);
grant select on nightshift.limits to authenticated, service_role;
create trigger audit after insert or update of max_running, rate_count, rate_period, paused or delete on nightshift.limits
  for each row execute function nightshift_private.audit_definition();

-- Randomness comes from one place, so that a test can fix it (`set nightshift.random = '0.5'`).
create function nightshift_private.random() returns double precision
language sql volatile set search_path = '' as $$
  select coalesce(nullif(pg_catalog.current_setting('nightshift.random', true), '')::double precision, pg_catalog.random())
$$;

-- ── streams ──────────────────────────────────────────────────────────────────────────────────────

-- The number of a stream: a hash of its parts, so that enqueue needs no look-up and no shared row. Two of
-- a million streams collide with a chance of 1 in 37 million, and would then merely share their turn.
create function nightshift_private.stream_id(p_queue text, p_lane smallint, p_project uuid, p_agent text, p_key text) returns bigint
language sql immutable parallel safe set search_path = '' as $$
  select pg_catalog.hashtextextended(pg_catalog.concat_ws(E'\x1f', p_queue, p_lane, p_project, p_agent, coalesce(p_key, '')), 0)
$$;

-- Sees to it that streams of tasks which became pending have a row that outlives this transaction.
create function nightshift_private.wake_streams(p_streams nightshift_private.streams[]) returns void
language plpgsql set search_path = '' as $$
declare
  v_awake bigint[];
begin
  v_awake := array(select s.stream_id from nightshift_private.streams s
    where s.stream_id in (select w.stream_id from pg_catalog.unnest(p_streams) w) for key share skip locked);
  insert into nightshift_private.streams (stream_id, queue, lane, project_id, agent, concurrency_key, virtual_time)
  select w.stream_id, w.queue, w.lane, w.project_id, w.agent, w.concurrency_key, coalesce((
      select o.virtual_time from nightshift_private.streams o
      where o.queue = w.queue and o.lane = w.lane order by o.virtual_time limit 1), 0)
  from pg_catalog.unnest(p_streams) w where not w.stream_id = any (v_awake);
end
$$;

-- After each statement that made tasks pending, however it did that.
create function nightshift_private.wake_pending() returns trigger
language plpgsql security definer set search_path = '' as $$
declare
  v_streams nightshift_private.streams[];
begin
  v_streams := array(select distinct row(null, t.stream_id, t.queue, t.lane, t.project_id, t.agent, coalesce(t.concurrency_key, ''), 0)::nightshift_private.streams
    from changed t where t.status = 'pending');
  if pg_catalog.cardinality(v_streams) > 0 then perform nightshift_private.wake_streams(v_streams); end if;
  return null;
end
$$;
create trigger wake_streams_new after insert on nightshift.tasks referencing new table as changed
  for each statement execute function nightshift_private.wake_pending();
create trigger wake_streams_changed after update on nightshift.tasks referencing new table as changed
  for each statement execute function nightshift_private.wake_pending();

-- Forgets a stream that is empty. Emptiness is looked at again once the rows are locked: whoever added
-- a task before that has committed and is seen, whoever adds one now cannot hold the rows and adds its own.
create function nightshift_private.forget_stream(p_stream_id bigint) returns void
language plpgsql set search_path = '' as $$
declare
  v_rows bigint[];
begin
  v_rows := array(select id from nightshift_private.streams where stream_id = p_stream_id for update skip locked);
  if pg_catalog.cardinality(v_rows) = 0 then return; end if;
  delete from nightshift_private.streams where id = any (v_rows)
    and not exists (select from nightshift.tasks t where t.stream_id = p_stream_id and t.status = 'pending');
end
$$;

-- Whether a claim would find the stream: for the view of what is stranded.
create function nightshift_private.is_awake(p_stream_id bigint) returns boolean
language sql stable security definer set search_path = '' as $$
  select exists (select from nightshift_private.streams where stream_id = p_stream_id)
$$;
grant execute on function nightshift_private.is_awake(bigint) to authenticated, service_role;

-- ── limits ───────────────────────────────────────────────────────────────────────────────────────

-- The limits that hold for a stream, locked so that two claims cannot both take the last slot.
create function nightshift_private.limits_of(p_stream nightshift_private.streams) returns setof nightshift.limits
language sql set search_path = '' as $$
  select * from nightshift.limits l
  where (l.project_id = p_stream.project_id or l.project_id is null)
    and (l.kind, l.name) in (('queue', p_stream.queue), ('project', ''), ('agent', p_stream.agent), ('key', p_stream.concurrency_key))
  order by l.id for no key update
$$;

-- Locks all limits that a claim may meet, in ascending order: it comes to the streams in the order of
-- their turn, another claim in another order, and both would wait for each other.
create function nightshift_private.lock_limits(p_queues text[]) returns void
language plpgsql set search_path = '' as $$
begin
  perform from nightshift.limits l
    where l.project_id in (select s.project_id from nightshift_private.streams s where s.queue = any (p_queues))
       or (l.project_id is null and l.name = any (p_queues))
    order by l.id for no key update;
end
$$;

-- Tasks a limit counts that are leased right now.
create function nightshift_private.running_under(p_limit nightshift.limits, p_agent text) returns int
language sql stable set search_path = '' as $$
  select pg_catalog.count(*)::int from nightshift.tasks t
  where t.status = 'running' and (t.project_id = p_limit.project_id or p_limit.project_id is null)
    and case p_limit.kind when 'queue' then t.queue = p_limit.name when 'agent' then t.agent = p_limit.name
          when 'key' then t.concurrency_key = p_limit.name else true end
$$;

-- Rate tokens there are now: a bucket of rate_count that refills over rate_period.
create function nightshift_private.tokens_of(p_limit nightshift.limits) returns double precision
language sql stable set search_path = '' as $$
  select least(p_limit.rate_count, coalesce(p_limit.tokens, p_limit.rate_count)
    + p_limit.rate_count * extract(epoch from nightshift_private.now() - coalesce(p_limit.refilled_at, nightshift_private.now()))
      / extract(epoch from p_limit.rate_period))
$$;

-- How many of p_wanted tasks of a stream may start now; takes the rate tokens for as many as start is
-- left to charge_limits. A concurrency key without a limit row of its own means one at a time.
create function nightshift_private.allowance(p_stream nightshift_private.streams, p_wanted int) returns int
language plpgsql set search_path = '' as $$
declare
  v_limit nightshift.limits;
  v_allowed int := p_wanted;
  v_key_limited boolean := false;
begin
  if p_stream.concurrency_key = '' and not exists (select from nightshift.limits) then return p_wanted; end if;
  for v_limit in select * from nightshift_private.limits_of(p_stream) loop
    v_key_limited := v_key_limited or v_limit.kind = 'key' and v_limit.max_running is not null;
    if v_limit.paused then return 0; end if;
    if v_limit.max_running is not null then
      v_allowed := least(v_allowed, v_limit.max_running - nightshift_private.running_under(v_limit, p_stream.agent));
    end if;
    if v_limit.rate_count is not null then
      v_allowed := least(v_allowed, pg_catalog.floor(nightshift_private.tokens_of(v_limit))::int);
    end if;
    exit when v_allowed <= 0;
  end loop;
  if p_stream.concurrency_key <> '' and not v_key_limited and v_allowed > 0 then
    if not pg_catalog.pg_try_advisory_xact_lock(pg_catalog.hashtextextended(p_stream.project_id || p_stream.concurrency_key, 0)) then return 0; end if;
    v_allowed := least(v_allowed, 1 - (select pg_catalog.count(*)::int from nightshift.tasks t where t.status = 'running'
      and t.project_id = p_stream.project_id and t.concurrency_key = p_stream.concurrency_key));
  end if;
  return greatest(v_allowed, 0);
end
$$;

-- Takes the rate tokens of tasks that started.
create function nightshift_private.charge_limits(p_stream nightshift_private.streams, p_started int) returns void
language sql set search_path = '' as $$
  update nightshift.limits l set tokens = nightshift_private.tokens_of(l) - p_started, refilled_at = nightshift_private.now()
    from nightshift_private.limits_of(p_stream) m
    where l.id = m.id and l.rate_count is not null and p_started > 0
$$;

-- ── claim ────────────────────────────────────────────────────────────────────────────────────────

-- Lanes in the order of this claim: strict from P0 down, but a draw lets a lower lane go first in 33 of
-- 100 claims (P1 8, P2 7, P3 6, P4 6, P5 6). Work-conserving: an empty lane passes its turn on.
create function nightshift_private.lane_order(p_draw double precision) returns smallint[]
language sql immutable set search_path = '' as $$
  select pg_catalog.array_agg(lane order by lane <> first, lane)
  from (select case when p_draw < 0.06 then 5 when p_draw < 0.12 then 4 when p_draw < 0.18 then 3
               when p_draw < 0.25 then 2 when p_draw < 0.33 then 1 else 0 end as first) d,
    (values (0::smallint), (1), (2), (3), (4), (5)) as l(lane)
$$;

-- Takes up to p_wanted tasks of one stream; forgets the stream when it turns out empty.
create function nightshift_private.take(p_stream nightshift_private.streams, p_wanted int, p_worker text, p_lease interval)
returns setof nightshift.tasks language plpgsql set search_path = '' as $$
declare
  v_taken int;
begin
  return query
  with due as materialized (
    select t.id from nightshift.tasks t where t.stream_id = p_stream.stream_id and t.status = 'pending'
      and (t.avoid_worker is null or t.avoid_worker <> p_worker or t.run_at <= nightshift_private.now() - interval '5 minutes')
    order by t.run_at, t.id limit p_wanted for no key update skip locked
  )
  update nightshift.tasks t
    set status = 'running', worker = p_worker, fence = pg_catalog.nextval('nightshift_private.fence'),
        lease_until = nightshift_private.now() + p_lease,
        attempt = t.attempt + case when t.attempt_open then 0 else 1 end, attempt_open = true,
        started_at = coalesce(t.started_at, nightshift_private.now()), progress_at = nightshift_private.now()
    from due where t.id = due.id
    returning t.*;
  get diagnostics v_taken = row_count;
  if v_taken = 0 then perform nightshift_private.forget_stream(p_stream.stream_id); end if;
end
$$;

-- The streams of a lane in order of their turn, one row each.
create function nightshift_private.turn_order(p_queues text[], p_lane smallint) returns nightshift_private.streams[]
language sql stable set search_path = '' as $$
  select array(
    select row(s.*)::nightshift_private.streams from (
      select distinct on (o.stream_id) o.* from nightshift_private.streams o
      where o.queue = any (p_queues) and o.lane = p_lane order by o.stream_id, o.virtual_time desc, o.id) s
    order by s.virtual_time, s.id)
$$;

-- Serves one lane: the waiting streams in order of their turn, each its share of p_wanted, then, if some
-- are left, once more without a share. A stream that is alone needs no accounting and no lock.
create function nightshift_private.serve_lane(p_queues text[], p_lane smallint, p_wanted int, p_worker text, p_lease interval)
returns setof nightshift.tasks language plpgsql set search_path = '' as $$
declare
  v_streams nightshift_private.streams[] := nightshift_private.turn_order(p_queues, p_lane);
  v_stream nightshift_private.streams;
  v_left int := p_wanted;
  v_share int;
  v_taken int;
begin
  for v_round in 1 .. 2 loop
    v_share := case v_round when 1 then greatest(1, v_left / greatest(pg_catalog.cardinality(v_streams), 1)) else v_left end;
    foreach v_stream in array v_streams loop
      exit when v_left <= 0;
      v_taken := nightshift_private.allowance(v_stream, least(v_share, v_left));
      continue when v_taken = 0;
      return query select * from nightshift_private.take(v_stream, v_taken, p_worker, p_lease);
      get diagnostics v_taken = row_count;
      v_left := v_left - v_taken;
      perform nightshift_private.charge(v_stream, v_taken, pg_catalog.cardinality(v_streams));
    end loop;
    exit when v_left <= 0 or pg_catalog.cardinality(v_streams) < 2;
  end loop;
end
$$;

-- Moves a stream on by what it got, times the streams of its project in this lane. A claim that finds it
-- taken by another one leaves it where that one moves it: to wait there would be to deadlock, as two
-- claims meet the same streams in different orders.
create function nightshift_private.charge(p_stream nightshift_private.streams, p_started int, p_streams int) returns void
language plpgsql set search_path = '' as $$
begin
  if p_started = 0 then return; end if;
  if exists (select from nightshift.limits l where l.rate_count is not null) then
    perform nightshift_private.charge_limits(p_stream, p_started);
  end if;
  if p_streams < 2 then return; end if;
  update nightshift_private.streams s set virtual_time = s.virtual_time + p_started * (
      select pg_catalog.count(distinct o.stream_id) from nightshift_private.streams o
      where o.project_id = s.project_id and o.queue = s.queue and o.lane = s.lane)
    from (select id from nightshift_private.streams where stream_id = p_stream.stream_id for no key update skip locked) as mine
    where s.id = mine.id;
end
$$;

-- Takes up to max_tasks pending tasks of the queues; each gets a new fence and a lease. Which: see the
-- head of this file.
create function nightshift.claim(worker text, queues text[] default '{default}', max_tasks int default 1, lease_seconds int default 90)
returns table (task_id bigint, fence bigint, project_id uuid, agent text, agent_version int, attempt smallint, lane smallint, lease_until timestamptz)
language plpgsql security definer set search_path = '' as $$
declare
  v_lane smallint;
  v_left int := max_tasks;
  v_taken int;
begin
  if max_tasks between 1 and 1000 and lease_seconds between 5 and 3600 and worker <> '' and pg_catalog.cardinality(queues) > 0 then
    null;
  else
    perform nightshift_private.fault('NS001', 'Claim needs a worker name, queues, 1 to 1000 tasks and a lease of 5 to 3600 s');
  end if;
  if exists (select from nightshift.limits) then perform nightshift_private.lock_limits(queues); end if;
  foreach v_lane in array nightshift_private.lane_order(nightshift_private.random()) loop
    continue when not exists (select from nightshift_private.streams s where s.queue = any (queues) and s.lane = v_lane);
    return query select t.id, t.fence, t.project_id, t.agent, t.agent_version, t.attempt, t.lane, t.lease_until
      from nightshift_private.serve_lane(queues, v_lane, v_left, worker, pg_catalog.make_interval(secs => lease_seconds)) t;
    get diagnostics v_taken = row_count;
    v_left := v_left - v_taken;
    exit when v_left <= 0;
  end loop;
end
$$;
grant execute on function nightshift.claim(text, text[], int, int) to service_role;

-- Sets or changes a limit: {max_running?, rate_count?, rate_period_seconds?, paused?, reason?}; null
-- definition removes it. kind: queue | project | agent | key; name is empty for project.
create function nightshift.set_limit(project uuid, kind text, name text, definition jsonb) returns void
language plpgsql security definer set search_path = '' as $$
begin
  perform nightshift_private.require_role(project, 'change limits', 'owner', 'operator');
  if definition is null then
    delete from nightshift.limits l where l.project_id = set_limit.project and l.kind = set_limit.kind and l.name = set_limit.name;
    return;
  end if;
  perform nightshift_private.check_object('limit', definition, '{"properties": {
    "max_running": {"type": "integer", "minimum": 0}, "rate_count": {"type": "integer", "minimum": 1},
    "rate_period_seconds": {"type": "number", "exclusiveMinimum": 0}, "paused": {"type": "boolean"},
    "reason": {"type": "string", "maxLength": 500}}}');
  insert into nightshift.limits as l (project_id, kind, name, max_running, rate_count, rate_period, paused, reason, updated_by)
  values (project, set_limit.kind, set_limit.name, (definition ->> 'max_running')::int, (definition ->> 'rate_count')::int,
    pg_catalog.make_interval(secs => (definition ->> 'rate_period_seconds')::double precision),
    coalesce((definition ->> 'paused')::boolean, false), definition ->> 'reason', auth.uid())
  on conflict on constraint limits_scope do update set max_running = excluded.max_running, rate_count = excluded.rate_count,
    rate_period = excluded.rate_period, paused = excluded.paused, reason = excluded.reason,
    updated_by = excluded.updated_by, updated_at = nightshift_private.now();
  perform nightshift_private.nudge();
end
$$;
grant execute on function nightshift.set_limit(uuid, text, text, jsonb) to authenticated, service_role;

revoke execute on all functions in schema nightshift, nightshift_private from public;
