-- Agents and tools: definitions as rows. An agent is versioned; a task keeps the version it started with.

create table nightshift.tools (
  project_id uuid not null references nightshift.projects (id) on delete cascade,
  name text not null check (name ~ '^[a-zA-Z0-9_-]{1,64}$'),
  description text not null,
  input_schema jsonb not null default '{"type": "object"}',
  kind text not null default 'record' check (kind in ('record')),
  effects text not null default 'none' check (effects in ('none', 'idempotent', 'external')),
  risk text not null default 'low' check (risk in ('low', 'medium', 'high', 'critical')),
  approval text not null generated always as (case when risk in ('high', 'critical') then 'ask' else 'run' end) stored,
  reversible text not null default 'no' check (reversible in ('yes', 'partly', 'no')),
  created_at timestamptz not null default nightshift_private.now(),
  primary key (project_id, name)
);
comment on table nightshift.tools is 'What agents may do. kind record: the checked arguments themselves are the result, kept as a step.';
comment on column nightshift.tools.approval is 'Derived from risk: ask raises a card before the tool runs.';

create table nightshift.agents (
  project_id uuid not null references nightshift.projects (id) on delete cascade,
  name text not null check (name ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
  version int not null check (version > 0),
  active boolean not null default true,
  description text not null default '',
  instructions text not null,
  tier text not null default 'mid' check (tier in ('ultra', 'mid', 'cheap', 'reasoning')),
  model text,
  tools text[] not null default '{}',
  input_schema jsonb,
  output_schema jsonb,
  queue text not null default 'default' check (queue ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
  max_attempts smallint not null default 4 check (max_attempts between 1 and 20),
  max_steps int not null default 50 check (max_steps between 1 and 1000),
  max_output_tokens int not null default 4096 check (max_output_tokens between 1 and 128000),
  budget_usd numeric(14, 6) check (budget_usd >= 0),
  created_by uuid,
  created_at timestamptz not null default nightshift_private.now(),
  primary key (project_id, name, version)
);
comment on table nightshift.agents is 'Agent definitions, one row per version; exactly one version of a name is active.';
create unique index agents_active on nightshift.agents (project_id, name) where active;

alter table nightshift.tools enable row level security;
alter table nightshift.agents enable row level security;
create policy members_read_tools on nightshift.tools for select to authenticated
  using (project_id = any (array(select nightshift_private.my_projects())));
create policy members_read_agents on nightshift.agents for select to authenticated
  using (project_id = any (array(select nightshift_private.my_projects())));
grant select on nightshift.tools, nightshift.agents to authenticated, service_role;

-- Refuses a schema that would not be enforced.
create function nightshift_private.check_schema(p_owner text, p_schema jsonb) returns void
language plpgsql immutable set search_path = '' as $$
declare
  v_problem text := nightshift_private.schema_problem(p_schema);
begin
  if v_problem is not null then perform nightshift_private.fault('NS026', p_owner, v_problem); end if;
end
$$;

create function nightshift_private.check_name(p_name text, p_pattern text) returns void
language plpgsql immutable set search_path = '' as $$
begin
  if p_name is null or p_name !~ p_pattern then
    perform nightshift_private.fault('NS001', pg_catalog.format('Name "%s" does not match %s', pg_catalog.left(p_name, 80), p_pattern));
  end if;
end
$$;

-- Creates or replaces a tool. definition: {description, input_schema, kind, effects, risk, reversible}.
create function nightshift.set_tool(project uuid, name text, definition jsonb) returns void
language plpgsql security definer set search_path = '' as $$
begin
  perform nightshift_private.require_role(project, 'change tools', 'owner', 'operator');
  perform nightshift_private.check_payload('definition', definition);
  perform nightshift_private.check_name(name, '^[a-zA-Z0-9_-]{1,64}$');
  perform nightshift_private.check_object(pg_catalog.format('tool "%s"', name), definition, '{
    "required": ["description"],
    "properties": {
      "description": {"type": "string"}, "input_schema": true, "kind": {"enum": ["record"]},
      "effects": {"enum": ["none", "idempotent", "external"]},
      "risk": {"enum": ["low", "medium", "high", "critical"]}, "reversible": {"enum": ["yes", "partly", "no"]}}}');
  perform nightshift_private.check_schema(name, definition -> 'input_schema');
  insert into nightshift.tools as t (project_id, name, description, input_schema, kind, effects, risk, reversible)
  values (project, set_tool.name, definition ->> 'description',
    coalesce(definition -> 'input_schema', '{"type": "object"}'), coalesce(definition ->> 'kind', 'record'),
    coalesce(definition ->> 'effects', 'none'), coalesce(definition ->> 'risk', 'low'), coalesce(definition ->> 'reversible', 'no'))
  on conflict on constraint tools_pkey do update set description = excluded.description,
    input_schema = excluded.input_schema, kind = excluded.kind, effects = excluded.effects,
    risk = excluded.risk, reversible = excluded.reversible;
end
$$;

-- Refuses an agent definition with unknown fields, wrong types or schemas that cannot be enforced.
create function nightshift_private.check_agent(p_name text, p_definition jsonb) returns void
language plpgsql immutable set search_path = '' as $$
begin
  perform nightshift_private.check_name(p_name, '^[a-z0-9][a-z0-9_-]{0,62}$');
  perform nightshift_private.check_object(pg_catalog.format('agent "%s"', p_name), p_definition, '{
    "required": ["instructions"],
    "properties": {
      "description": {"type": "string"}, "instructions": {"type": "string"},
      "tier": {"enum": ["ultra", "mid", "cheap", "reasoning"]},
      "model": {"type": ["string", "null"]}, "tools": {"type": "array", "items": {"type": "string"}},
      "input_schema": true, "output_schema": true, "queue": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]{0,62}$"},
      "max_attempts": {"type": "integer", "minimum": 1, "maximum": 20},
      "max_steps": {"type": "integer", "minimum": 1, "maximum": 1000},
      "max_output_tokens": {"type": "integer", "minimum": 1, "maximum": 128000},
      "budget_usd": {"type": ["number", "null"], "minimum": 0, "maximum": 99999999}}}');
  perform nightshift_private.check_schema(p_name, nullif(p_definition -> 'input_schema', 'null'));
  perform nightshift_private.check_schema(p_name, nullif(p_definition -> 'output_schema', 'null'));
end
$$;

-- Creates a new active version of an agent and returns its number; an identical definition keeps the
-- current one. definition: the columns of nightshift.agents from description to budget_usd.
create function nightshift.set_agent(project uuid, name text, definition jsonb) returns int
language plpgsql security definer set search_path = '' as $$
declare
  v_agent nightshift.agents;
  v_current nightshift.agents;
  v_tool text;
begin
  perform nightshift_private.require_role(project, 'change agents', 'owner', 'operator');
  perform nightshift_private.check_payload('definition', definition);
  perform nightshift_private.check_agent(name, definition);
  perform from nightshift.projects p where p.id = project for no key update;
  select * into v_current from nightshift.agents a where a.project_id = project and a.name = set_agent.name and a.active;
  v_agent := pg_catalog.jsonb_populate_record(
    (project, set_agent.name, coalesce(v_current.version, 0) + 1, true, '', null, 'mid', null, '{}', null, null,
     'default', 4, 50, 4096, null, auth.uid(), nightshift_private.now())::nightshift.agents, definition);
  foreach v_tool in array v_agent.tools loop
    if not exists (select from nightshift.tools t where t.project_id = project and t.name = v_tool) then
      perform nightshift_private.fault('NS027', v_tool, project::text);
    end if;
  end loop;
  if pg_catalog.to_jsonb(v_agent) - '{version,created_by,created_at}'::text[]
     = pg_catalog.to_jsonb(v_current) - '{version,created_by,created_at}'::text[] then
    return v_current.version;
  end if;
  update nightshift.agents a set active = false where a.project_id = project and a.name = set_agent.name and a.active;
  insert into nightshift.agents select v_agent.*;
  return v_agent.version;
end
$$;

grant execute on function nightshift.set_tool(uuid, text, jsonb) to authenticated, service_role;
grant execute on function nightshift.set_agent(uuid, text, jsonb) to authenticated, service_role;

revoke execute on all functions in schema nightshift, nightshift_private from public;
