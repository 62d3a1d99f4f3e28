-- Control: what people do to tasks beside enqueue, cancel and retry, and the answer to "why does it wait".

-- Puts a task into another lane; what is waiting there is served by that lane's rules from now on.
create function nightshift.move(task_id bigint, lane int) returns void
language plpgsql security definer set search_path = '' as $$
declare
  v_task nightshift.tasks;
begin
  select * into v_task from nightshift.tasks t where t.id = move.task_id for no key update;
  perform nightshift_private.require_task_role(move.task_id, 'move tasks');
  if move.lane is null or move.lane not between 0 and 5 then
    perform nightshift_private.fault('NS001', pg_catalog.format('Lane is "%s", wanted 0 to 5', move.lane));
  end if;
  update nightshift.tasks t set lane = move.lane,
      stream_id = nightshift_private.stream_id(t.queue, move.lane::smallint, t.project_id, t.agent, t.concurrency_key)
    where t.id = move.task_id;
end
$$;

-- Runs a task again as a new one, with its own or edited input, under the agent's present version.
-- Returns the new id; label `replay:<old id>`.
create function nightshift.replay(task_id bigint, input jsonb default null) returns bigint
language plpgsql security definer set search_path = '' as $$
declare
  v_task nightshift.tasks;
  v_id bigint;
begin
  select * into v_task from nightshift.tasks t where t.id = replay.task_id;
  perform nightshift_private.require_task_role(replay.task_id, 'replay tasks');
  if v_task.template and replay.input is null then
    perform nightshift_private.fault('NS061', 'task ' || v_task.id, 'it was never rendered, and the replay waits for nothing; pass the input');
  end if;
  select e.id into v_id from nightshift.enqueue(pg_catalog.jsonb_build_array(pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
    'project', v_task.project_id, 'agent', v_task.agent, 'lane', v_task.lane, 'queue', v_task.queue,
    'subject', v_task.subject, 'purpose', v_task.purpose, 'budget_usd', v_task.budget_usd, 'concurrency_key', v_task.concurrency_key,
    'labels', pg_catalog.to_jsonb(v_task.labels[1:19] || ('replay:' || v_task.id))))
    || pg_catalog.jsonb_build_object('input', coalesce(replay.input, v_task.input)))) e;
  return v_id;
end
$$;

-- The tasks a filter means. An empty filter is refused: nobody cancels everything by forgetting a field.
create function nightshift_private.matching(p_project uuid, p_filter jsonb, p_statuses text[]) returns setof bigint
language plpgsql stable set search_path = '' as $$
begin
  perform nightshift_private.check_object('filter', p_filter, '{"properties": {
    "agent": {"type": "string"}, "queue": {"type": "string"}, "lane": {"type": "integer"}, "status": {"type": "string"},
    "failure_class": {"type": "string"}, "label": {"type": "string"}, "subject": {"type": "string"},
    "parent": {"type": "integer"}, "created_before": {"type": "string"}, "created_after": {"type": "string"}}}');
  if p_filter = '{}' then perform nightshift_private.fault('NS001', 'Filter is empty, name at least one field'); end if;
  return query select t.id from nightshift.tasks t
    where t.project_id = p_project and t.status = any (p_statuses)
      and (p_filter ->> 'agent' is null or t.agent = p_filter ->> 'agent') and t.queue = coalesce(p_filter ->> 'queue', t.queue)
      and t.lane = coalesce((p_filter ->> 'lane')::int, t.lane) and t.status = coalesce(p_filter ->> 'status', t.status)
      and (p_filter ->> 'failure_class' is null or t.failure_class = p_filter ->> 'failure_class')
      and (p_filter ->> 'label' is null or t.labels @> array[p_filter ->> 'label'])
      and (p_filter ->> 'subject' is null or t.subject = p_filter ->> 'subject')
      and (p_filter ->> 'parent' is null or t.parent_id = (p_filter ->> 'parent')::bigint)
      and t.created_at < coalesce((p_filter ->> 'created_before')::timestamptz, 'infinity')
      and t.created_at > coalesce((p_filter ->> 'created_after')::timestamptz, '-infinity')
    order by t.id;
end
$$;

-- Does one thing to all tasks that match: cancel | retry (failed and cancelled ones: redrive the dead
-- letters) | move (to lane). At most batch tasks a call; returns {matched, done, left}. A dry run, the
-- default, only counts.
create function nightshift.bulk(project uuid, action text, filter jsonb, dry_run boolean default true, lane int default null, batch int default 500)
returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  v_statuses text[] := case action when 'retry' then array['failed', 'cancelled']
    else array['blocked', 'scheduled', 'pending', 'running', 'awaiting_tool', 'awaiting_approval', 'awaiting_children'] end;
  v_ids bigint[];
  v_id bigint;
  v_done int := 0;
begin
  perform nightshift_private.require_role(project, 'change many tasks', 'owner', 'operator');
  if action is null or action not in ('cancel', 'retry', 'move') or batch is null or batch not between 1 and 1000 then
    perform nightshift_private.fault('NS001', 'Bulk needs an action (cancel, retry, move) and a batch of 1 to 1000');
  end if;
  v_ids := array(select nightshift_private.matching(project, filter, v_statuses));
  if not dry_run then
    -- One by one they would be locked in another order than others lock them.
    case action when 'cancel' then perform nightshift_private.lock_reach(v_ids[1:batch], 'ended');
      when 'retry' then perform nightshift_private.lock_neighbours(v_ids[1:batch]);
      else perform from nightshift.tasks t where t.id = any (v_ids[1:batch]) order by t.id for no key update; end case;
    foreach v_id in array v_ids[1:batch] loop
      -- A task that ended, or was retried with its parent, a moment ago needs nothing any more.
      continue when not exists (select from nightshift.tasks t where t.id = v_id and t.status = any (v_statuses));
      case action when 'cancel' then perform nightshift.cancel(v_id, 'bulk');
        when 'retry' then perform nightshift.retry(v_id);
        else perform nightshift.move(v_id, bulk.lane); end case;
      v_done := v_done + 1;
    end loop;
  end if;
  return pg_catalog.jsonb_build_object('matched', pg_catalog.cardinality(v_ids), 'done', v_done,
    'left', greatest(pg_catalog.cardinality(v_ids) - case when dry_run then 0 else batch end, 0));
end
$$;

-- Why a task is where it is, as one sentence and the facts behind it: {status, reason, ...}.
create function nightshift.why(task_id bigint) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  v_task nightshift.tasks;
begin
  select * into v_task from nightshift.tasks t where t.id = why.task_id;
  if v_task.id is null or not (nightshift_private.is_service() or v_task.project_id in (select nightshift_private.my_projects())) then
    perform nightshift_private.fault('NS032', coalesce(why.task_id::text, 'null'));
  end if;
  return pg_catalog.jsonb_build_object('task', v_task.id, 'status', v_task.status) || case v_task.status
    when 'blocked' then pg_catalog.jsonb_build_object('reason', 'Waits for other tasks', 'tasks', (
      select pg_catalog.jsonb_agg(o.id order by o.id) from nightshift.task_dependencies d join nightshift.tasks o on o.id = d.depends_on
      where d.task_id = v_task.id and o.status not in ('completed', 'failed', 'cancelled')))
    when 'scheduled' then pg_catalog.jsonb_build_object('reason', case when v_task.attempt > 0 then 'Waits for its next attempt' else 'Not due yet' end,
      'run_at', v_task.run_at, 'error', v_task.error)
    when 'pending' then nightshift_private.why_pending(v_task)
    when 'running' then pg_catalog.jsonb_build_object('reason', 'A worker holds it', 'worker', v_task.worker, 'lease_until', v_task.lease_until, 'progress_at', v_task.progress_at)
    when 'awaiting_approval' then pg_catalog.jsonb_build_object('reason', 'Waits for a person', 'card', (
      select c.id from nightshift.cards c where c.task_id = v_task.id and c.status = 'open'))
    when 'awaiting_children' then pg_catalog.jsonb_build_object('reason', 'Waits for its children', 'open', (
      select pg_catalog.count(*) from nightshift.tasks c where c.parent_id = v_task.id
        and c.status not in ('completed', 'failed', 'cancelled')))
    else pg_catalog.jsonb_build_object('reason', 'Ended', 'finished_at', v_task.finished_at, 'failure_class', v_task.failure_class, 'error', v_task.error) end;
end
$$;

-- A pending task waits because of a limit, because others are before it, or because no worker came.
create function nightshift_private.why_pending(p_task nightshift.tasks) returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  v_limit nightshift.limits;
  v_before bigint;
begin
  for v_limit in select * from nightshift.limits l where (l.project_id = p_task.project_id or l.project_id is null)
      and (l.kind, l.name) in (('queue', p_task.queue), ('project', ''), ('agent', p_task.agent), ('key', coalesce(p_task.concurrency_key, ''))) loop
    if v_limit.paused then
      return pg_catalog.jsonb_build_object('reason', pg_catalog.format('Paused by %s limit "%s"', v_limit.kind, v_limit.name), 'limit', v_limit.id, 'note', v_limit.reason);
    elsif v_limit.max_running <= nightshift_private.running_under(v_limit, p_task.agent) then
      return pg_catalog.jsonb_build_object('reason', pg_catalog.format('All %s slots of %s limit "%s" are taken', v_limit.max_running, v_limit.kind, v_limit.name), 'limit', v_limit.id);
    elsif nightshift_private.tokens_of(v_limit) < 1 then
      return pg_catalog.jsonb_build_object('reason', pg_catalog.format('Rate of %s limit "%s" is used up', v_limit.kind, v_limit.name), 'limit', v_limit.id);
    end if;
  end loop;
  select pg_catalog.count(*) into v_before from nightshift.tasks t
    where t.stream_id = p_task.stream_id and t.status = 'pending' and (t.run_at, t.id) < (p_task.run_at, p_task.id);
  return pg_catalog.jsonb_build_object('reason', case when v_before > 0 then v_before || ' tasks of its stream are before it'
      when p_task.avoid_worker is not null then 'Waits for another worker than the one it got stuck under'
      else 'Next of its stream; waits for a worker of queue "' || p_task.queue || '"' end,
    'before', v_before, 'run_at', p_task.run_at, 'attempt', p_task.attempt,
    'last_claim_of_queue', (select max(t.started_at) from nightshift.tasks t where t.project_id = p_task.project_id and t.queue = p_task.queue));
end
$$;

grant execute on function nightshift.move(bigint, int), nightshift.replay(bigint, jsonb), nightshift.why(bigint),
  nightshift.bulk(uuid, text, jsonb, boolean, int, int) to authenticated, service_role;

revoke execute on all functions in schema nightshift, nightshift_private from public;
