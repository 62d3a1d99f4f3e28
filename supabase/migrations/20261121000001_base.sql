-- Base: schemas, the clock, stable errors, and small functions every other domain leans on.
--
--   nightshift           exposed through the Data API: tables with RLS for reading, functions for writing
--   nightshift_private   never exposed: helpers, secrets, doorbells, the sweep
--
-- Conventions in all files: `p_` parameter, `v_` variable, `search_path = ''`, and one order inside
-- each file: tables, indexes, RLS, grants, functions, triggers. RPC arguments that callers name
-- (see docs/contract) carry no prefix. Lock order everywhere: tasks by ascending id, then cards.

create schema nightshift;
create schema nightshift_private;
comment on schema nightshift is 'Nightshift: durable AI agents. Read the tables, write through the functions.';
comment on schema nightshift_private is 'Nightshift internals. Not exposed, no rights for API roles.';

grant usage on schema nightshift to anon, authenticated, service_role;
-- Row-level security policies call helpers in here by name; each helper is granted one by one.
grant usage on schema nightshift_private to authenticated, service_role;

-- The one clock. Tests turn it with `set nightshift.now = '…'`; no API role can set it.
create function nightshift_private.now() returns timestamptz
language sql stable parallel safe set search_path = '' as $$
  select coalesce(nullif(pg_catalog.current_setting('nightshift.now', true), '')::timestamptz,
                  pg_catalog.statement_timestamp())
$$;
comment on function nightshift_private.now() is 'Current time; the only place that reads a clock.';
-- Column defaults are evaluated as the role that inserts.
grant execute on function nightshift_private.now() to authenticated, service_role;

-- Whether a time has come. Looks at the wall, not at the start of the statement: a statement that
-- waited for a lock would otherwise take what was accepted meanwhile for the future.
create function nightshift_private.is_due(p_at timestamptz) returns boolean
language sql volatile set search_path = '' as $$
  select p_at <= coalesce(nullif(pg_catalog.current_setting('nightshift.now', true), '')::timestamptz, pg_catalog.clock_timestamp())
$$;

-- Every error a caller can see, once. docs/errors.md is generated from these rows.
create table nightshift_private.errors (
  code text primary key check (code ~ '^NS[0-9]{3}$'),
  name text not null unique,
  status smallint not null check (status between 400 and 599),
  message text not null,
  hint text not null
);
comment on table nightshift_private.errors is
  'Stable error codes with HTTP status, message template (format() style) and hint.';

insert into nightshift_private.errors (code, name, status, message, hint) values
  ('NS001', 'invalid_request',      400, '%s', 'The message names what was wanted; correct the call.'),
  ('NS002', 'unknown_field',        400, 'Unknown field "%s" in %s', 'Known fields: %s.'),
  ('NS010', 'project_not_found',    404, 'Cannot find project "%s" among yours', 'Check the id, or ask an owner to add you as a member.'),
  ('NS011', 'role_required',        403, 'Cannot %s in this project with role "%s"', 'Needs one of the roles: %s.'),
  ('NS020', 'agent_unknown',        422, 'Cannot find agent "%s" in project "%s"', 'Create it with set_agent, or check the spelling.'),
  ('NS021', 'input_invalid',        422, 'Input of "%s" does not fit its schema: %s', 'Read its input_schema in nightshift.agents or nightshift.tools.'),
  ('NS022', 'payload_too_large',    413, 'Payload "%s" has %s bytes, allowed are %s', 'Store large content in Storage and pass its path.'),
  ('NS023', 'payload_too_deep',     422, 'Payload "%s" is nested deeper than %s levels', 'Flatten it, or pass it as text.'),
  ('NS024', 'idempotency_conflict', 409, 'Idempotency key "%s" was used with other content by task %s', 'Use a new key for new content.'),
  ('NS025', 'dependency_unknown',   422, 'Cannot find dependency "%s" of task %s', 'Name an earlier key of the same call or the id of a task of the same project.'),
  ('NS026', 'schema_unsupported',   422, 'Schema of "%s" cannot be enforced: %s', 'Supported: type, enum, const, required, properties, additionalProperties, items, anyOf, oneOf, allOf, minLength, maxLength, pattern, minimum, maximum, exclusiveMinimum, exclusiveMaximum, minItems, maxItems.'),
  ('NS027', 'tool_unknown',         422, 'Cannot find tool "%s" in project "%s"', 'Create it with set_tool first.'),
  ('NS028', 'dependency_ended',     409, 'Cannot wait for task %s: it is "%s"', 'Retry that task first, or leave it out of "after".'),
  ('NS029', 'parent_ended',         409, 'Cannot add a child to task %s: it is "%s"', 'Name a live task as parent, or none.'),
  ('NS030', 'stale_fence',          409, 'Task %s is no longer held with fence %s', 'Stop working on it: another worker or a decision has taken over.'),
  ('NS031', 'illegal_transition',   409, 'Cannot change task %s from "%s" to "%s"', 'Legal transitions are the rows of nightshift.task_transitions.'),
  ('NS032', 'task_not_found',       404, 'Cannot find task %s', 'Check the id; tasks of other projects are invisible.'),
  ('NS033', 'task_not_failed',      409, 'Cannot retry task %s while it is "%s"', 'Only failed or cancelled tasks can be retried.'),
  ('NS034', 'step_out_of_order',    409, 'Task %s has %s steps, the commit expected %s', 'Load the task again and continue from its last step.'),
  ('NS035', 'wait_circle',          422, 'Task %s would wait for itself', 'A child cannot wait for the group it belongs to: leave that group out of "after".'),
  ('NS040', 'card_not_found',       404, 'Cannot find card %s', 'Check the id; cards of other projects are invisible.'),
  ('NS041', 'card_already_decided', 409, 'Card %s was already closed with "%s" by %s at %s', 'The first decision stands.'),
  ('NS042', 'card_changed',         409, 'Card %s shows other content than the digest you sent', 'Read the card again and decide on what it says now.'),
  ('NS043', 'verb_not_allowed',     422, 'Cannot "%s" card %s', 'Allowed verbs: %s.'),
  ('NS050', 'append_only',          403, 'Cannot change rows of %s', 'Steps and the audit log only grow.'),
  ('NS060', 'template_invalid',     422, 'Cannot read placeholder "%s" in the input of %s: %s', 'Known are {{prev_result}}, {{all_results}}, {{index}}, {{results.<key>}} and {{input.<path>}}. Write {{{{ for a literal {{, or set "template": false.'),
  ('NS061', 'template_unresolved',  422, 'Cannot render the input of %s: %s', 'Refer to dependencies, children and own fields that exist. Write {{{{ for a literal {{, or set "template": false.'),
  ('NS070', 'rhythm_invalid',       422, 'Cannot set rhythm "%s": %s', 'The comments of nightshift.rhythms say what each part may hold.'),
  ('NS071', 'rhythm_not_found',     404, 'Cannot find rhythm %s', 'Check the id; rhythms of other projects are invisible.'),
  ('NS072', 'schedule_invalid',     422, 'Cannot read schedule "%s": %s', 'Five cron fields: minute hour day month weekday, for example "30 7 * * mon-fri".'),
  ('NS073', 'query_refused',        422, 'Cannot gather with this query: %s', 'Name tables with their schema; join "rhythm" for project_id, slot, now and since.'),
  ('NS074', 'template_not_found',   404, 'Cannot find rhythm template "%s"', 'The templates are the rows of nightshift.rhythm_templates.');

revoke all on nightshift_private.errors from public;

-- Raises one of the errors above. Through the Data API it becomes PostgREST's PGRST form, so that
-- the HTTP status is right; in SQL (Studio, triggers) it is a plain error with the code as SQLSTATE.
create function nightshift_private.fault(p_code text, variadic p_args text[] default '{}') returns void
language plpgsql security definer set search_path = '' as $$
declare
  v_error nightshift_private.errors;
  v_message text;
  v_hint text;
  v_places int;
begin
  select * into strict v_error from nightshift_private.errors where code = p_code;
  v_places := (pg_catalog.length(v_error.message) - pg_catalog.length(pg_catalog.replace(v_error.message, '%s', ''))) / 2;
  v_message := pg_catalog.format(v_error.message, variadic p_args);
  v_hint := pg_catalog.format(v_error.hint, variadic coalesce(p_args[v_places + 1:], '{}'));
  if coalesce(pg_catalog.current_setting('request.method', true), '') <> '' then
    raise sqlstate 'PGRST' using
      message = pg_catalog.json_build_object('code', v_error.code, 'message', v_message,
                                  'details', v_error.name, 'hint', v_hint)::text,
      detail = pg_catalog.json_build_object('status', v_error.status, 'headers', pg_catalog.json_build_object())::text;
  end if;
  raise exception using errcode = v_error.code, message = v_message, detail = v_error.name, hint = v_hint;
end
$$;
comment on function nightshift_private.fault(text, text[]) is
  'Raises a stable error; arguments fill the message, then the hint.';

-- Refuses what would hurt later: more than p_limit bytes, or more than 64 levels (reliability: JSON
-- of depth 10,000 parses but breaks recursive readers).
create function nightshift_private.check_payload(p_name text, p_value jsonb, p_limit int default 262144)
returns void language plpgsql immutable set search_path = '' as $$
declare
  v_bytes int;
begin
  if p_value is null then return; end if;
  v_bytes := pg_catalog.octet_length(p_value::text);
  if v_bytes > p_limit then
    perform nightshift_private.fault('NS022', p_name, v_bytes::text, p_limit::text);
  end if;
  if v_bytes > 128 and pg_catalog.jsonb_path_exists(p_value, 'strict $.**{65}') then
    perform nightshift_private.fault('NS023', p_name, '64');
  end if;
end
$$;

create function nightshift_private.sha256_hex(p_text text) returns text
language sql immutable parallel safe strict set search_path = '' as $$
  select pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(p_text, 'UTF8')), 'hex')
$$;

-- Why `schema_violation` could not enforce a JSON Schema, or null. Definitions with such a schema are
-- refused, so that nobody believes in a check that does not happen or that fails on every input.
create function nightshift_private.schema_problem(p_schema jsonb) returns text
language plpgsql immutable set search_path = '' as $$
declare
  c_keywords constant jsonb := '{"type": "type", "required": "array", "enum": "array", "const": "any",
    "properties": "map", "$defs": "map", "items": "schema", "additionalProperties": "schema",
    "anyOf": "list", "oneOf": "list", "allOf": "list", "minLength": "number", "maxLength": "number", "pattern": "pattern",
    "minimum": "number", "maximum": "number", "exclusiveMinimum": "number", "exclusiveMaximum": "number",
    "minItems": "number", "maxItems": "number", "title": "any", "description": "any", "default": "any",
    "examples": "any", "format": "any", "$schema": "any", "$id": "any", "$comment": "any"}';
  v_key text;
  v_value jsonb;
  v_problem text;
begin
  if p_schema is null or pg_catalog.jsonb_typeof(p_schema) = 'boolean' then return null; end if;
  if pg_catalog.jsonb_typeof(p_schema) <> 'object' then return 'a schema must be an object or a boolean'; end if;
  for v_key, v_value in select * from pg_catalog.jsonb_each(p_schema) loop
    v_problem := case
      when not c_keywords ? v_key then pg_catalog.format('keyword "%s" is not supported', v_key)
      when c_keywords ->> v_key = 'schema' then nightshift_private.schema_problem(v_value)
      else nightshift_private.keyword_problem(v_key, c_keywords ->> v_key, v_value) end;
    if v_problem is not null then return v_problem; end if;
  end loop;
  return null;
end
$$;

-- What is wrong with the value of one keyword. p_kind: how schema_problem reads it.
create function nightshift_private.keyword_problem(p_key text, p_kind text, p_value jsonb) returns text
language plpgsql immutable set search_path = '' as $$
declare
  v_type text := pg_catalog.jsonb_typeof(p_value);
begin
  case p_kind
  when 'map' then
    if v_type <> 'object' then return pg_catalog.format('"%s" must be an object', p_key); end if;
    return (select nightshift_private.schema_problem(value) from pg_catalog.jsonb_each(p_value)
      where nightshift_private.schema_problem(value) is not null limit 1);
  when 'list' then
    if v_type <> 'array' then return pg_catalog.format('"%s" must be an array', p_key); end if;
    return (select nightshift_private.schema_problem(value) from pg_catalog.jsonb_array_elements(p_value)
      where nightshift_private.schema_problem(value) is not null limit 1);
  when 'type' then
    return (select pg_catalog.format('type %s is unknown', value) from pg_catalog.jsonb_array_elements(
        case when v_type = 'array' then p_value else pg_catalog.jsonb_build_array(p_value) end)
      where not value <@ '["object", "array", "string", "number", "integer", "boolean", "null"]' limit 1);
  when 'pattern' then
    if v_type <> 'string' then return '"pattern" must be a string'; end if;
    perform '' ~ (p_value #>> '{}');
    return null;
  else
    return case when p_kind <> 'any' and v_type <> p_kind then pg_catalog.format('"%s" must be of type %s', p_key, p_kind) end;
  end case;
exception when invalid_regular_expression then
  return pg_catalog.format('pattern %s is not a regular expression', p_value);
end
$$;

-- Whether a value is of a JSON Schema type; `integer` accepts 1.0 as the specification does.
create function nightshift_private.has_type(p_type text, p_value jsonb) returns boolean
language sql immutable set search_path = '' as $$
  select case p_type
    when 'integer' then pg_catalog.jsonb_typeof(p_value) = 'number' and p_value::numeric = pg_catalog.trunc(p_value::numeric)
    else pg_catalog.jsonb_typeof(p_value) = p_type end
$$;

-- The first reason why a value breaks a JSON Schema (draft 2020-12, the keywords above), or null.
-- Written here because the embedded and the hosted database must refuse the same input.
create function nightshift_private.schema_violation(p_schema jsonb, p_value jsonb, p_path text default '$')
returns text language plpgsql immutable set search_path = '' as $$
declare
  v_type text := pg_catalog.jsonb_typeof(p_value);
  v_found text;
begin
  if p_schema is null or p_schema = 'true' then return null; end if;
  if p_schema = 'false' then return p_path || ' is not allowed'; end if;
  -- The plain comparison first: it decides nearly always and spares starting a query.
  if p_schema ->> 'type' <> v_type and not exists (
    select from pg_catalog.jsonb_array_elements_text(
      case when pg_catalog.jsonb_typeof(p_schema -> 'type') = 'array' then p_schema -> 'type'
           else pg_catalog.jsonb_build_array(p_schema -> 'type') end) as t(name)
    where nightshift_private.has_type(t.name, p_value)) then
    return pg_catalog.format('%s is %s, wanted %s', p_path, v_type, p_schema ->> 'type');
  end if;
  if p_schema ? 'const' and p_schema -> 'const' <> p_value then
    return pg_catalog.format('%s must be %s', p_path, p_schema -> 'const');
  end if;
  -- Not `@>`: that also finds a value which is only part of an allowed object or array.
  if p_schema ? 'enum' and not exists (select from pg_catalog.jsonb_array_elements(p_schema -> 'enum') where value = p_value) then
    return pg_catalog.format('%s must be one of %s', p_path, p_schema -> 'enum');
  end if;
  -- One statement per kind: an expression that is still being evaluated further up (object in object)
  -- cannot be reused by plpgsql, and one CASE for all made every string pay for that (125 -> 70 µs a request).
  if v_type = 'object' then
    v_found := nightshift_private.object_violation(p_schema, p_value, p_path);
  elsif v_type = 'array' then
    v_found := nightshift_private.array_violation(p_schema, p_value, p_path);
  elsif v_type = 'string' and p_schema ?| array['minLength', 'maxLength', 'pattern'] then
    v_found := nightshift_private.string_violation(p_schema, p_value #>> '{}', p_path);
  elsif v_type = 'number' then
    v_found := nightshift_private.number_violation(p_schema, p_value::numeric, p_path);
  end if;
  if v_found is null and p_schema ?| array['allOf', 'anyOf', 'oneOf'] then
    v_found := nightshift_private.branch_violation(p_schema, p_value, p_path);
  end if;
  return v_found;
end
$$;

create function nightshift_private.object_violation(p_schema jsonb, p_value jsonb, p_path text)
returns text language plpgsql immutable set search_path = '' as $$
declare
  v_key text;
  v_rule jsonb;
  v_found text;
begin
  for v_key in select pg_catalog.jsonb_array_elements_text(coalesce(p_schema -> 'required', '[]')) loop
    if not p_value ? v_key then return pg_catalog.format('%s.%s is missing', p_path, v_key); end if;
  end loop;
  for v_key in select pg_catalog.jsonb_object_keys(p_value) loop
    v_rule := coalesce(p_schema -> 'properties' -> v_key, p_schema -> 'additionalProperties');
    if v_rule = 'false' then return pg_catalog.format('%s.%s is not allowed', p_path, v_key); end if;
    v_found := nightshift_private.schema_violation(v_rule, p_value -> v_key, p_path || '.' || v_key);
    if v_found is not null then return v_found; end if;
  end loop;
  return null;
end
$$;

create function nightshift_private.array_violation(p_schema jsonb, p_value jsonb, p_path text)
returns text language plpgsql immutable set search_path = '' as $$
declare
  v_length int := pg_catalog.jsonb_array_length(p_value);
  v_found text;
begin
  if v_length < (p_schema ->> 'minItems')::numeric then
    return pg_catalog.format('%s has %s items, wanted at least %s', p_path, v_length, p_schema ->> 'minItems');
  end if;
  if v_length > (p_schema ->> 'maxItems')::numeric then
    return pg_catalog.format('%s has %s items, wanted at most %s', p_path, v_length, p_schema ->> 'maxItems');
  end if;
  if not p_schema ? 'items' then return null; end if;
  for i in 0 .. v_length - 1 loop
    v_found := nightshift_private.schema_violation(p_schema -> 'items', p_value -> i, pg_catalog.format('%s[%s]', p_path, i));
    if v_found is not null then return v_found; end if;
  end loop;
  return null;
end
$$;

create function nightshift_private.string_violation(p_schema jsonb, p_value text, p_path text)
returns text language sql immutable set search_path = '' as $$
  select case
    when pg_catalog.length(p_value) < (p_schema ->> 'minLength')::numeric
      then pg_catalog.format('%s has %s characters, wanted at least %s', p_path, pg_catalog.length(p_value), p_schema ->> 'minLength')
    when pg_catalog.length(p_value) > (p_schema ->> 'maxLength')::numeric
      then pg_catalog.format('%s has %s characters, wanted at most %s', p_path, pg_catalog.length(p_value), p_schema ->> 'maxLength')
    when p_schema ? 'pattern' and p_value !~ (p_schema ->> 'pattern')
      then pg_catalog.format('%s does not match the pattern %s', p_path, p_schema ->> 'pattern')
  end
$$;

create function nightshift_private.number_violation(p_schema jsonb, p_value numeric, p_path text)
returns text language sql immutable set search_path = '' as $$
  select case
    when p_value < (p_schema ->> 'minimum')::numeric
      then pg_catalog.format('%s is %s, wanted at least %s', p_path, p_value, p_schema ->> 'minimum')
    when p_value > (p_schema ->> 'maximum')::numeric
      then pg_catalog.format('%s is %s, wanted at most %s', p_path, p_value, p_schema ->> 'maximum')
    when p_value <= (p_schema ->> 'exclusiveMinimum')::numeric
      then pg_catalog.format('%s is %s, wanted more than %s', p_path, p_value, p_schema ->> 'exclusiveMinimum')
    when p_value >= (p_schema ->> 'exclusiveMaximum')::numeric
      then pg_catalog.format('%s is %s, wanted less than %s', p_path, p_value, p_schema ->> 'exclusiveMaximum')
  end
$$;

create function nightshift_private.branch_violation(p_schema jsonb, p_value jsonb, p_path text)
returns text language plpgsql immutable set search_path = '' as $$
declare
  v_passing int;
  v_found text;
begin
  select nightshift_private.schema_violation(value, p_value, p_path) into v_found
    from pg_catalog.jsonb_array_elements(p_schema -> 'allOf')
    where nightshift_private.schema_violation(value, p_value, p_path) is not null limit 1;
  if v_found is not null then return v_found; end if;
  if p_schema ? 'anyOf' and not exists (
    select from pg_catalog.jsonb_array_elements(p_schema -> 'anyOf')
    where nightshift_private.schema_violation(value, p_value, p_path) is null) then
    return p_path || ' fits none of the allowed shapes';
  end if;
  if not p_schema ? 'oneOf' then return null; end if;
  select pg_catalog.count(*) into v_passing from pg_catalog.jsonb_array_elements(p_schema -> 'oneOf')
    where nightshift_private.schema_violation(value, p_value, p_path) is null;
  return case when v_passing = 0 then p_path || ' fits none of the allowed shapes'
    when v_passing > 1 then p_path || ' fits more than one of the allowed shapes' end;
end
$$;

-- Refuses what a caller handed in unless it is an object that fits p_schema; other fields than its
-- properties are named together with the known ones. p_name is how messages call it.
create function nightshift_private.check_object(p_name text, p_value jsonb, p_schema jsonb) returns void
language plpgsql immutable set search_path = '' as $$
declare
  v_key text;
  v_violation text;
begin
  if pg_catalog.jsonb_typeof(p_value) is distinct from 'object' then
    perform nightshift_private.fault('NS001', pg_catalog.format('%s must be a JSON object', p_name));
  end if;
  select k into v_key from pg_catalog.jsonb_object_keys(p_value) k where not (p_schema -> 'properties') ? k limit 1;
  if v_key is not null then
    perform nightshift_private.fault('NS002', v_key, p_name,
      (select pg_catalog.string_agg(k, ', ' order by k) from pg_catalog.jsonb_object_keys(p_schema -> 'properties') k));
  end if;
  v_violation := nightshift_private.schema_violation(p_schema, p_value, p_name);
  if v_violation is not null then perform nightshift_private.fault('NS001', v_violation); end if;
end
$$;

revoke execute on all functions in schema nightshift, nightshift_private from public;
