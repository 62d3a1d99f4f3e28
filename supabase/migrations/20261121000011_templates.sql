-- Templates: inputs that refer to results. A task whose input holds placeholders gets it rendered once, when
-- the last of its dependencies (or, for a group, of its children) has settled, or at enqueue if nothing is
-- open; from then on the rendered input is the task's input, so that what ran is what is recorded.
--
--   {{prev_result}}       output of the last task in `after`; in a group what its children came to (group_output)
--   {{all_results}}       outputs of all tasks in `after`, in that order; in a group of its children
--   {{results.<key>}}     output of the dependency (in a group also: the child) with that key
--   {{index}}             position of the task among the children of its parent, from 0
--   {{input.<path>}}      another field of the same input, as it was handed in
--
-- Each but index takes a path: {{results.read.title}}, {{all_results.0.items.2}}. Names with dots need
-- quotes: {{results."v1.2".title}}. A string that is one placeholder and nothing else becomes
-- the value itself, whatever its type; elsewhere text is inserted as it is and other values as compact JSON.
-- {{{{ is a literal {{. One pass: text that came in by a placeholder is never looked at again.
--
-- Null stands for the result of a dependency that failed with on_failure `continue`, and of a child that did
-- not complete. Anything else that is not there is an error: at enqueue NS061, later the task fails with
-- class `dependency`.

create type nightshift_private.rendering as (input jsonb, problem jsonb);
create type nightshift_private.result as (place bigint, id bigint, key text, status text, output jsonb, may_lack boolean);

-- ── reading ──────────────────────────────────────────────────────────────────────────────────────

-- In plpgsql, whose plans are kept: as SQL functions these were planned anew for each input (1.7 ms, now 0.2).

-- The segments of a placeholder, or null when it cannot be read.
create function nightshift_private.placeholder_path(p_placeholder text) returns text[]
language plpgsql immutable set search_path = '' as $$
declare
  v_text text := pg_catalog.btrim(p_placeholder);
begin
  if v_text ~ '^[^." ]+(\.[^." ]+)*$' then return pg_catalog.string_to_array(v_text, '.'); end if;
  if v_text !~ '^("[^"]+"|[^."]*[^." ][^."]*)(\.("[^"]+"|[^."]*[^." ][^."]*))*$' then return null; end if;
  return array(select case when s.part[1] like '"%' then pg_catalog.btrim(s.part[1], '"') else pg_catalog.btrim(s.part[1]) end
    from pg_catalog.regexp_matches(v_text, '("[^"]+"|[^."]+)', 'g') with ordinality as s (part, place) order by s.place);
end
$$;

-- The placeholders of an input, how they are read and how often each is used. Object keys are no templates.
create function nightshift_private.placeholders(p_input jsonb) returns table (placeholder text, path text[], uses bigint)
language plpgsql immutable set search_path = '' as $$
begin
  return query
  select t.token, nightshift_private.placeholder_path(t.token), t.uses from (
    select m.found[1] as token, pg_catalog.count(*) as uses
    from pg_catalog.jsonb_path_query(p_input, 'strict $.** ? (@.type() == "string")') s (value)
    cross join lateral pg_catalog.regexp_matches(s.value #>> '{}', '\{\{\{\{|\{\{([^{}]*)\}\}', 'g') m (found)
    where pg_catalog.strpos(s.value #>> '{}', '{{') > 0 and m.found[1] is not null group by 1) t;
end
$$;

-- Refuses an input with placeholders that mean nothing, and with a {{ that is never closed. Returns whether
-- it refers to results of other tasks.
create function nightshift_private.check_template(p_input jsonb, p_name text) returns boolean
language plpgsql immutable set search_path = '' as $$
declare
  v_use record;
  v_reason text;
  v_unclosed text;
  v_waits boolean := false;
begin
  for v_use in select * from nightshift_private.placeholders(p_input) loop
    v_reason := case
      when v_use.path is null then 'it is no path'
      when v_use.path[1] not in ('prev_result', 'all_results', 'index', 'results', 'input') then 'nothing is called like that'
      when v_use.path[1] = 'index' and pg_catalog.cardinality(v_use.path) > 1 then 'it is a number'
      when v_use.path[1] in ('results', 'input') and pg_catalog.cardinality(v_use.path) < 2 then 'it needs a name after the dot' end;
    v_waits := v_waits or v_use.path[1] in ('prev_result', 'all_results', 'results');
    if v_reason is not null then
      perform nightshift_private.fault('NS060', '{{' || pg_catalog.left(v_use.placeholder, 80) || '}}', p_name, v_reason);
    end if;
  end loop;
  v_unclosed := (select pg_catalog.substring(t.rest, '\{\{.{0,20}')
    from pg_catalog.jsonb_path_query(p_input, 'strict $.** ? (@.type() == "string")') s (value)
    cross join lateral pg_catalog.regexp_replace(s.value #>> '{}', '\{\{\{\{|\{\{[^{}]*\}\}', ' ', 'g') t (rest)
    where pg_catalog.strpos(s.value #>> '{}', '{{') > 0 and pg_catalog.strpos(t.rest, '{{') > 0 limit 1);
  if v_unclosed is not null then perform nightshift_private.fault('NS060', v_unclosed, p_name, 'it is not closed'); end if;
  return v_waits;
end
$$;

-- ── finding values ───────────────────────────────────────────────────────────────────────────────

-- The results a task may refer to, in order: its dependencies as they stand in `after`, or for a group its
-- children. may_lack: null stands in when there is no output.
create function nightshift_private.results_of(p_task nightshift.tasks) returns setof nightshift_private.result
language sql stable set search_path = '' as $$
  select pg_catalog.row_number() over (order by d.position, t.id), t.id, t.key, t.status, t.output, d.on_failure = 'continue'
  from nightshift.task_dependencies d join nightshift.tasks t on t.id = d.depends_on
  where d.task_id = p_task.id and p_task.combinator is null
  union all
  select pg_catalog.row_number() over (order by t.index, t.id), t.id, t.key, t.status, t.output, true
  from nightshift.tasks t where t.parent_id = p_task.id and p_task.combinator is not null
$$;

-- Those that {{results.<key>}} may mean: dependencies, and children of a group. It has to be one.
create function nightshift_private.results_named(p_task nightshift.tasks, p_key text) returns nightshift_private.result[]
language sql stable set search_path = '' as $$
  select array(
    select row(1, t.id, t.key, t.status, t.output, d.on_failure = 'continue')::nightshift_private.result
    from nightshift.task_dependencies d join nightshift.tasks t on t.id = d.depends_on where d.task_id = p_task.id and t.key = p_key
    union all
    select row(1, t.id, t.key, t.status, t.output, true)::nightshift_private.result from nightshift.tasks t
    where t.parent_id = p_task.id and p_task.combinator is not null and t.key = p_key)
$$;

-- A field of a result; SQL's null if there is no such field or no such result.
create function nightshift_private.field_of(p_result nightshift_private.result, p_path text[]) returns jsonb
language sql immutable set search_path = '' as $$
  select case when p_result.status = 'completed' then p_result.output #> p_path when p_result.may_lack then 'null' end
$$;

-- Why a placeholder can never have a value, whatever the results will be; or null.
create function nightshift_private.reference_problem(p_task nightshift.tasks, p_path text[]) returns text
language plpgsql stable set search_path = '' as $$
declare
  v_count int;
begin
  case p_path[1]
  when 'index' then
    return case when p_task.index is null then 'the task has no index' end;
  when 'input' then
    return case when p_task.input #> p_path[2:] is null then pg_catalog.format('the input has no "%s"', pg_catalog.array_to_string(p_path[2:], '.')) end;
  when 'results' then
    v_count := pg_catalog.cardinality(nightshift_private.results_named(p_task, p_path[2]));
    return case when v_count = 0 then pg_catalog.format('the task waits for none with the key "%s"', p_path[2])
      when v_count > 1 then pg_catalog.format('the task waits for several with the key "%s"', p_path[2]) end;
  else
    return case when p_task.combinator is null and not exists (select from nightshift.task_dependencies d where d.task_id = p_task.id)
      then 'the task waits for no other' end;
  end case;
end
$$;

-- All outputs as one array; a problem when they are too many bytes together.
create function nightshift_private.all_results(p_task nightshift.tasks, p_limit int, out output jsonb, out problem text)
language plpgsql stable set search_path = '' as $$
declare
  v_bytes bigint;
  v_lacking bigint;
begin
  select pg_catalog.sum(pg_catalog.octet_length(r.output::text)) filter (where r.status = 'completed'),
      pg_catalog.min(r.id) filter (where r.status <> 'completed' and not r.may_lack)
    into v_bytes, v_lacking from nightshift_private.results_of(p_task) r;
  problem := case when v_lacking is not null then pg_catalog.format('task %s did not complete', v_lacking)
    when v_bytes > p_limit then pg_catalog.format('the results have %s bytes, allowed are %s', v_bytes, p_limit) end;
  if problem is not null then return; end if;
  select coalesce(pg_catalog.jsonb_agg(nightshift_private.field_of(r, '{}') order by r.place), '[]')
    into output from nightshift_private.results_of(p_task) r;
end
$$;

-- What a group came to. all: the outputs of its children, in order. all_settled: {key, status, output,
-- failure_class} of each. race, any: the output of the child that was first; with a quorum, of those that were.
create function nightshift_private.group_output(p_group nightshift.tasks, out output jsonb, out problem jsonb)
language plpgsql stable set search_path = '' as $$
declare
  v_all record;
begin
  if p_group.combinator in ('race', 'any') then
    select case when p_group.quorum is null then pg_catalog.jsonb_agg(t.output order by t.finished_at, t.id) -> 0
        else pg_catalog.jsonb_agg(t.output order by t.finished_at, t.id) end
      into output from nightshift.tasks t
      where t.parent_id = p_group.id and t.status = 'completed';
    return;
  end if;
  select * into v_all from nightshift_private.all_results(p_group, 8388608);
  if v_all.problem is not null then
    problem := pg_catalog.jsonb_build_object('message', pg_catalog.format('Group %s: %s', p_group.combinator, v_all.problem));
    return;
  end if;
  output := v_all.output;
  if p_group.combinator = 'all' then return; end if;
  select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('key', r.key, 'output', r.output, 'failure_class', t.failure_class,
      -- A child that is still open is about to be cancelled.
      'status', case when r.status in ('completed', 'failed') then r.status else 'cancelled' end) order by r.place)
    into output from nightshift_private.results_of(p_group) r join nightshift.tasks t on t.id = r.id;
end
$$;

-- The value of a placeholder, or why it has none.
create function nightshift_private.resolve(p_task nightshift.tasks, p_path text[], out value jsonb, out problem text)
language plpgsql stable set search_path = '' as $$
declare
  v_found record;
begin
  problem := nightshift_private.reference_problem(p_task, p_path);
  if problem is not null then return; end if;
  case
  when p_path[1] = 'index' then value := pg_catalog.to_jsonb(p_task.index);
  when p_path[1] = 'input' then value := p_task.input #> p_path[2:];
  when p_path[1] = 'results' then
    value := nightshift_private.field_of((nightshift_private.results_named(p_task, p_path[2]))[1], p_path[3:]);
  when p_path[1] = 'all_results' and p_path[2] ~ '^[0-9]{1,6}$' then
    value := (select nightshift_private.field_of(r, p_path[3:]) from nightshift_private.results_of(p_task) r where r.place = p_path[2]::int + 1);
  when p_path[1] = 'all_results' then
    select * into v_found from nightshift_private.all_results(p_task, 262144);
    value := v_found.output #> p_path[2:];
    problem := v_found.problem;
  when p_task.combinator is not null then
    select * into v_found from nightshift_private.group_output(p_task);
    value := v_found.output #> p_path[2:];
    problem := v_found.problem ->> 'message';
  else
    value := (select nightshift_private.field_of(r, p_path[2:]) from nightshift_private.results_of(p_task) r order by r.place desc limit 1);
  end case;
  if value is null then problem := coalesce(problem, 'the result has no such field'); end if;
end
$$;

-- ── rendering ────────────────────────────────────────────────────────────────────────────────────

-- How a value stands in the middle of a text: text as it is, all else as JSON without spaces.
create function nightshift_private.inserted_text(p_value jsonb) returns text
language plpgsql immutable set search_path = '' as $$
begin
  return case pg_catalog.jsonb_typeof(p_value) when 'string' then p_value #>> '{}'
    else pg_catalog.regexp_replace(p_value::text, '("(?:[^"\\]|\\.)*")|\s', '\1', 'g') end;
end
$$;

-- Puts values ({placeholder: value}) into an input.
create function nightshift_private.substitute(p_input jsonb, p_values jsonb) returns jsonb
language plpgsql immutable set search_path = '' as $$
declare
  v_text text;
begin
  if pg_catalog.strpos(p_input::text, '{{') = 0 then return p_input; end if;
  case pg_catalog.jsonb_typeof(p_input)
  when 'array' then
    return (select pg_catalog.jsonb_agg(nightshift_private.substitute(e.value, p_values) order by e.place)
      from pg_catalog.jsonb_array_elements(p_input) with ordinality as e (value, place));
  when 'object' then
    return (select pg_catalog.jsonb_object_agg(e.key, nightshift_private.substitute(e.value, p_values)) from pg_catalog.jsonb_each(p_input) e);
  when 'string' then
    v_text := p_input #>> '{}';
    if v_text ~ '^\{\{[^{}]*\}\}$' then return p_values -> pg_catalog.substr(v_text, 3, pg_catalog.length(v_text) - 4); end if;
    return pg_catalog.to_jsonb((select pg_catalog.string_agg(p.literal || case when p.found[1] is not null
          then nightshift_private.inserted_text(p_values -> p.found[1]) when p.found is not null then '{{' else '' end, '' order by p.place)
      from rows from (pg_catalog.regexp_split_to_table(v_text, '\{\{\{\{|\{\{[^{}]*\}\}'),
        pg_catalog.regexp_matches(v_text, '\{\{\{\{|\{\{([^{}]*)\}\}', 'g')) with ordinality as p (literal, found, place)));
  else
    return p_input;
  end case;
end
$$;

-- Why a rendered input cannot be taken, or null: the limits of check_payload and the schema of the agent.
create function nightshift_private.input_problem(p_task nightshift.tasks, p_input jsonb) returns text
language plpgsql stable set search_path = '' as $$
declare
  v_violation text;
begin
  if pg_catalog.octet_length(p_input::text) > 262144 then
    return pg_catalog.format('it has %s bytes, allowed are 262144', pg_catalog.octet_length(p_input::text));
  end if;
  if pg_catalog.jsonb_path_exists(p_input, 'strict $.**{65}') then return 'it is nested deeper than 64 levels'; end if;
  select nightshift_private.schema_violation(a.input_schema, p_input) into v_violation from nightshift.agents a
    where a.project_id = p_task.project_id and a.name = p_task.agent and a.version = p_task.agent_version;
  return 'it does not fit the schema of agent "' || p_task.agent || '": ' || v_violation;
end
$$;

-- Renders the input of a task with what is there now: the input, or the problem {message, placeholder?}.
create function nightshift_private.render(p_task nightshift.tasks) returns nightshift_private.rendering
language plpgsql stable set search_path = '' as $$
declare
  v_use record;
  v_found record;
  v_names text[] := '{}';
  v_values jsonb[] := '{}';
  v_bytes bigint := 0;
  v_input jsonb;
  v_problem text;
begin
  for v_use in select * from nightshift_private.placeholders(p_task.input) loop
    select * into v_found from nightshift_private.resolve(p_task, v_use.path);
    -- Before they are put together: a hundred times a large result must not fill the memory.
    v_bytes := v_bytes + v_use.uses * (pg_catalog.octet_length(v_found.value::text) - 2);
    v_problem := coalesce(v_found.problem, case when v_bytes > 262144 then 'with it the input has more than 262144 bytes' end);
    if v_problem is not null then
      return row(null::jsonb, pg_catalog.jsonb_build_object('placeholder', '{{' || v_use.placeholder || '}}',
        'message', pg_catalog.format('Placeholder "{{%s}}" has no value: %s', v_use.placeholder, v_problem)));
    end if;
    v_names := v_names || v_use.placeholder;
    v_values := v_values || v_found.value;
  end loop;
  v_input := nightshift_private.substitute(p_task.input, (
    select coalesce(pg_catalog.jsonb_object_agg(n.name, n.value), '{}') from rows from (pg_catalog.unnest(v_names), pg_catalog.unnest(v_values)) n (name, value)));
  v_problem := nightshift_private.input_problem(p_task, v_input);
  if v_problem is null then return row(v_input, null::jsonb); end if;
  return row(null::jsonb, pg_catalog.jsonb_build_object('message', 'Rendered input cannot be taken: ' || v_problem));
end
$$;

-- ── at enqueue ───────────────────────────────────────────────────────────────────────────────────

-- Whether the input of a request is a template (it says so, or it is part of a graph); if all it refers to
-- is itself it is rendered right here.
create function nightshift_private.fill_request(p_request jsonb, p_name text) returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  v_task nightshift.tasks;
  v_rendering nightshift_private.rendering;
begin
  if pg_catalog.strpos((p_request -> 'input')::text, '{{') > 0
      and coalesce((p_request ->> 'template')::boolean, p_request ?| array['after', 'parent', 'combinator', 'index']) then
    perform nightshift_private.check_payload('input', p_request -> 'input');
    if nightshift_private.check_template(p_request -> 'input', p_name) then return p_request || '{"template": true}'; end if;
    v_task.input := p_request -> 'input';
    v_task.index := (p_request ->> 'index')::numeric;
    v_rendering := nightshift_private.render(v_task);
    if v_rendering.problem is not null then perform nightshift_private.fault('NS061', p_name, v_rendering.problem ->> 'message'); end if;
    return p_request || pg_catalog.jsonb_build_object('template', false, 'input', v_rendering.input);
  end if;
  return p_request || '{"template": false}';
end
$$;

-- Completes requests by what only their company says: the index of children, which inputs are templates.
create function nightshift_private.fill_requests(p_tasks jsonb) returns jsonb
language sql stable set search_path = '' as $$
  select pg_catalog.jsonb_agg(nightshift_private.fill_request(
      case when r.value ? 'parent' and not r.value ? 'index' then r.value || pg_catalog.jsonb_build_object('index', r.turn - 1) else r.value end,
      'task ' || coalesce(pg_catalog.quote_ident(pg_catalog.left(r.value ->> 'key', 80)), '#' || r.place)) order by r.place)
  from (select e.value, e.place, pg_catalog.row_number() over (partition by e.value ->> 'project', e.value ->> 'parent' order by e.place) as turn
    from pg_catalog.jsonb_array_elements(p_tasks) with ordinality as e (value, place)) r
$$;

-- Renders the templates among new (or retried) tasks that wait for nothing, and refuses those that refer to
-- what cannot come.
create function nightshift_private.render_new(p_task_ids bigint[]) returns void
language plpgsql set search_path = '' as $$
declare
  v_bad record;
begin
  select coalesce(t.key, t.id::text) as name, p.placeholder, r.problem into v_bad
    from nightshift.tasks t cross join lateral nightshift_private.placeholders(t.input) p
    cross join lateral nightshift_private.reference_problem(t, p.path) r (problem)
    where t.id = any (p_task_ids) and t.template and r.problem is not null order by t.id limit 1;
  if v_bad.problem is not null then
    perform nightshift_private.fault('NS061', 'task ' || pg_catalog.quote_ident(v_bad.name),
      pg_catalog.format('Placeholder "{{%s}}" has no value: %s', v_bad.placeholder, v_bad.problem));
  end if;
  with ready as materialized (
    select t.id, coalesce(t.key, t.id::text) as name, r.input, r.problem from nightshift.tasks t cross join lateral nightshift_private.render(t) r
    where t.id = any (p_task_ids) and t.template and t.status in ('pending', 'scheduled')
  ), rendered as (
    update nightshift.tasks t set input = r.input, template = false from ready r where t.id = r.id and r.problem is null
  )
  select name, problem ->> 'message' as problem into v_bad from ready where problem is not null order by id limit 1;
  if v_bad.problem is not null then perform nightshift_private.fault('NS061', 'task ' || pg_catalog.quote_ident(v_bad.name), v_bad.problem); end if;
end
$$;

-- What a task was rendered to belongs to its trail: digest only, like the input of new tasks.
create function nightshift_private.audit_rendering() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  perform nightshift_private.record_event(new.project_id, 'task.rendered', 'task', new.id::text, new.id,
    pg_catalog.jsonb_build_object('input_digest', nightshift_private.sha256_hex(new.input::text)));
  return null;
end
$$;
create trigger audit_rendering after update of template on nightshift.tasks
  for each row when (old.template and not new.template) execute function nightshift_private.audit_rendering();

revoke execute on all functions in schema nightshift, nightshift_private from public;
