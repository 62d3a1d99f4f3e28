-- Ticks: the two calls a worker makes for one move of an agent. `load_session` reads all it needs;
-- `commit_tick` writes steps, model calls, spend, cards and the new state in one transaction.

-- The tier that answers: the agent's, or the next stronger one in the last attempt that heals.
create function nightshift_private.tier_of(p_task nightshift.tasks, p_agent nightshift.agents) returns text
language sql immutable set search_path = '' as $$
  select case when p_task.healed_at is null then p_agent.tier
    else case p_agent.tier when 'cheap' then 'mid' when 'mid' then 'ultra' else p_agent.tier end end
$$;

-- Everything the next move depends on, for the holder of the fence.
create function nightshift.load_session(task_id bigint, fence bigint) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_task nightshift.tasks;
begin
  select * into v_task from nightshift.tasks t where t.id = load_session.task_id;
  if v_task.id is null then perform nightshift_private.fault('NS032', coalesce(load_session.task_id::text, 'null')); end if;
  if v_task.status <> 'running' or v_task.fence is distinct from load_session.fence then
    perform nightshift_private.fault('NS030', load_session.task_id::text, coalesce(load_session.fence::text, 'null'));
  end if;
  return pg_catalog.jsonb_build_object(
    'task', pg_catalog.to_jsonb(v_task) - '{request_digest,worker,version}'::text[],
    'agent', (select pg_catalog.to_jsonb(a) from nightshift.agents a
      where a.project_id = v_task.project_id and a.name = v_task.agent and a.version = v_task.agent_version),
    'tools', (select coalesce(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(t) order by t.name), '[]') from nightshift.tools t
      join nightshift.agents a on a.project_id = t.project_id and t.name = any (a.tools)
      where a.project_id = v_task.project_id and a.name = v_task.agent and a.version = v_task.agent_version),
    'steps', (select coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('seq', s.seq, 'kind', s.kind, 'action', s.action,
        'input', s.input, 'output', s.output, 'error', s.error) order by s.seq), '[]')
      from nightshift.steps s where s.task_id = v_task.id),
    'dependencies', (select coalesce(pg_catalog.jsonb_agg(nightshift_private.result_of(t) order by t.id), '[]')
      from nightshift.task_dependencies d join nightshift.tasks t on t.id = d.depends_on where d.task_id = v_task.id),
    'children', (select coalesce(pg_catalog.jsonb_agg(nightshift_private.result_of(t) order by t.id), '[]')
      from nightshift.tasks t where t.parent_id = v_task.id),
    'models', (select coalesce(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(m) order by m.tier <> nightshift_private.tier_of(v_task, a), m.rank), '[]')
      from nightshift.models m
      join nightshift.agents a on a.project_id = v_task.project_id and a.name = v_task.agent and a.version = v_task.agent_version
      where m.active and (m.name = a.model or (a.model is null and m.tier in (a.tier, nightshift_private.tier_of(v_task, a))))));
end
$$;

-- What a dependency or child came to, for whoever waited for it.
create function nightshift_private.result_of(p_task nightshift.tasks) returns jsonb
language sql stable set search_path = '' as $$
  select pg_catalog.jsonb_build_object('id', p_task.id, 'key', p_task.key, 'agent', coalesce(p_task.agent, 'group'), 'status', p_task.status, 'labels', p_task.labels,
    'input', p_task.input, 'output', p_task.output, 'failure_class', p_task.failure_class)
$$;

-- Appends steps and books calls. Steps: [{kind, action, input?, output?, error?, duration_ms?}].
create function nightshift_private.append_steps(p_task nightshift.tasks, p_steps jsonb) returns void
language plpgsql set search_path = '' as $$
begin
  perform nightshift_private.check_payload('step', s.value)
    from pg_catalog.jsonb_array_elements(p_steps) s;
  insert into nightshift.steps (project_id, task_id, seq, kind, action, input, output, error, attempt, fence, duration_ms)
  select p_task.project_id, p_task.id, p_task.step_count + s.place::int, s.value ->> 'kind', s.value ->> 'action',
    coalesce(s.value -> 'input', '{}'), nullif(s.value -> 'output', 'null'), nullif(s.value -> 'error', 'null'),
    p_task.attempt, p_task.fence, (s.value ->> 'duration_ms')::int
  from pg_catalog.jsonb_array_elements(p_steps) with ordinality as s(value, place);
end
$$;

-- Calls: [{step, model, provider, region, processor, prompt, output?, error?, latency_ms, input_tokens, …, cost_usd, started_at}],
-- step counted from 1 within this commit. Returns what they cost, USD.
create function nightshift_private.book_calls(p_task nightshift.tasks, p_calls jsonb) returns numeric
language sql set search_path = '' as $$
  with booked as (
    insert into nightshift.llm_calls (project_id, task_id, step_seq, agent, agent_version, created_by, subject, purpose,
      model, provider, region, processor, prompt, output, error, latency_ms, input_tokens, output_tokens, cache_read_tokens,
      cache_write_tokens, usage_estimated, cost_usd, request_id, content_digest, started_at)
    select p_task.project_id, p_task.id, p_task.step_count + c.step, p_task.agent, p_task.agent_version, p_task.created_by,
      p_task.subject, p_task.purpose, c.model, c.provider, c.region, c.processor, c.prompt, nullif(c.output, 'null'), nullif(c.error, 'null'),
      c.latency_ms, coalesce(c.input_tokens, 0), coalesce(c.output_tokens, 0), coalesce(c.cache_read_tokens, 0),
      coalesce(c.cache_write_tokens, 0), coalesce(c.usage_estimated, false), coalesce(c.cost_usd, 0), c.request_id,
      nightshift_private.call_digest(c.prompt, nullif(c.output, 'null'), nullif(c.error, 'null')), c.started_at
    from pg_catalog.jsonb_to_recordset(p_calls) as c(step int, model text, provider text, region text, processor text, prompt jsonb,
      output jsonb, error jsonb, latency_ms int, input_tokens int, output_tokens int, cache_read_tokens int, cache_write_tokens int,
      usage_estimated boolean, cost_usd numeric, request_id text, started_at timestamptz)
    returning cost_usd)
  select coalesce(pg_catalog.sum(cost_usd), 0) from booked
$$;

-- Whether this very commit was already applied: what it writes is there, written under the same fence. A
-- worker whose answer got lost asks again and must not be told that somebody else took over.
create function nightshift_private.is_repeat(p_task nightshift.tasks, p_fence bigint, p_after_step int, p_steps jsonb, p_calls jsonb, p_outcome jsonb)
returns boolean language sql stable set search_path = '' as $$
  select p_task.fence = p_fence and case
    when pg_catalog.jsonb_array_length(p_steps) > 0 then not exists (
      select from pg_catalog.jsonb_array_elements(p_steps) with ordinality as asked(value, place)
      left join nightshift.steps s on s.task_id = p_task.id and s.seq = p_after_step + asked.place and s.fence = p_fence
        and s.kind = asked.value ->> 'kind' and s.action = asked.value ->> 'action'
        and s.output is not distinct from nullif(asked.value -> 'output', 'null')
        and s.error is not distinct from nullif(asked.value -> 'error', 'null')
      where s.seq is null)
    when pg_catalog.jsonb_array_length(p_calls) > 0 then exists (
      select from pg_catalog.jsonb_array_elements(p_calls) asked join nightshift.llm_calls c
        on c.project_id = p_task.project_id and c.task_id = p_task.id and c.step_seq = p_after_step + (asked ->> 'step')::int
        and c.started_at = (asked ->> 'started_at')::timestamptz
        and c.content_digest = nightshift_private.call_digest(asked -> 'prompt', nullif(asked -> 'output', 'null'), nullif(asked -> 'error', 'null')))
    else p_task.step_count = p_after_step and case p_outcome ->> 'status'
      when 'running' then false
      when 'failed' then p_task.status in ('failed', 'scheduled', 'pending') and p_task.error is not distinct from p_outcome -> 'error'
      else p_task.status = p_outcome ->> 'status' end end
$$;

-- Commits one move. after_step: number of steps the worker saw. outcome: {status: running | pending |
-- scheduled (run_at) | awaiting_approval (card) | completed (output) | failed (failure_class, error)};
-- `running` keeps the lease. Returns {status, step_count, spent_usd, repeated}.
create function nightshift.commit_tick(task_id bigint, fence bigint, after_step int, steps jsonb default '[]', calls jsonb default '[]',
  outcome jsonb default '{"status": "running"}', lease_seconds int default 90)
returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  v_task nightshift.tasks;
begin
  if outcome ->> 'status' in ('completed', 'failed') then
    perform nightshift_private.lock_reach(array[commit_tick.task_id], case outcome ->> 'status' when 'completed' then 'completed' else 'ended' end);
  end if;
  select * into v_task from nightshift.tasks t where t.id = commit_tick.task_id for no key update;
  if nightshift_private.is_repeat(v_task, commit_tick.fence, after_step, steps, calls, outcome) then
    return nightshift_private.tick_answer(commit_tick.task_id, true);
  end if;
  v_task := nightshift_private.hold(commit_tick.task_id, commit_tick.fence);
  if v_task.step_count is distinct from after_step then
    perform nightshift_private.fault('NS034', v_task.id::text, v_task.step_count::text, coalesce(after_step::text, 'null'));
  end if;
  perform nightshift_private.append_steps(v_task, steps);
  -- Progress clears the rescues: only a task that brings down worker after worker at one place is given up.
  update nightshift.tasks t set step_count = t.step_count + pg_catalog.jsonb_array_length(steps),
      spent_usd = t.spent_usd + nightshift_private.book_calls(v_task, calls), progress_at = nightshift_private.now(),
      rescues = case when pg_catalog.jsonb_array_length(steps) > 0 then 0 else t.rescues end,
      lease_until = nightshift_private.now() + pg_catalog.make_interval(secs => lease_seconds)
    where t.id = v_task.id returning * into v_task;
  perform nightshift_private.apply_outcome(v_task, outcome);
  return nightshift_private.tick_answer(v_task.id, false);
end
$$;

create function nightshift_private.apply_outcome(p_task nightshift.tasks, p_outcome jsonb) returns void
language plpgsql set search_path = '' as $$
begin
  case p_outcome ->> 'status'
  when 'running' then null;
  when 'pending' then
    update nightshift.tasks set status = 'pending' where id = p_task.id;
  when 'scheduled' then
    if p_outcome ->> 'run_at' is null then perform nightshift_private.fault('NS001', 'Outcome "scheduled" needs run_at'); end if;
    update nightshift.tasks set status = 'scheduled', run_at = (p_outcome ->> 'run_at')::timestamptz where id = p_task.id;
  when 'awaiting_approval' then
    if p_outcome #> '{card,action}' is null then perform nightshift_private.fault('NS001', 'Outcome "awaiting_approval" needs a card with an action'); end if;
    perform nightshift_private.open_card(p_task, p_task.step_count, p_outcome -> 'card');
    update nightshift.tasks set status = 'awaiting_approval' where id = p_task.id;
  when 'completed' then
    perform nightshift_private.check_payload('output', p_outcome -> 'output');
    perform nightshift_private.finish(array[row(p_task.id, 'completed', coalesce(p_outcome -> 'output', 'null'), null, null)::nightshift_private.ending]);
  when 'failed' then
    perform nightshift_private.check_payload('error', p_outcome -> 'error', 8192);
    perform nightshift_private.end_attempt(p_task, p_outcome ->> 'failure_class', p_outcome -> 'error');
  else
    perform nightshift_private.fault('NS001', pg_catalog.format('Unknown outcome "%s"', p_outcome ->> 'status'));
  end case;
end
$$;

create function nightshift_private.tick_answer(p_task_id bigint, p_repeated boolean) returns jsonb
language sql stable set search_path = '' as $$
  select pg_catalog.jsonb_build_object('status', t.status, 'step_count', t.step_count, 'spent_usd', t.spent_usd, 'repeated', p_repeated)
  from nightshift.tasks t where t.id = p_task_id
$$;

grant execute on function nightshift.load_session(bigint, bigint), nightshift.commit_tick(bigint, bigint, int, jsonb, jsonb, jsonb, int) to service_role;

revoke execute on all functions in schema nightshift, nightshift_private from public;
