-- Realtime: broadcast from the database, as a hosted project has it.
--
--   messages                one row per broadcast, a partition per day; its policies say who may
--                           join (select) and send (insert) on a private channel
--   topic()                 what a policy asks: the channel that is being authorised
--   send(), send_binary()   write one broadcast; failures are warnings, never errors
--   broadcast_changes()     the same for row triggers
--   announce_message()      rings the local server at commit, in place of logical replication
--   keep_partitions()       yesterday to three days ahead, three days kept; the server calls it
--
-- Who owns what: on hosted Supabase `postgres` owns nothing here and may create policies on
-- realtime.messages only by a setting of the supautils extension. Without supautils Realtime's own
-- migrations leave `postgres` a member of supabase_realtime_admin, which owns the table; so does
-- this file (the membership is in 10_roles.sql). That role gets no CREATE on the schema and owns no
-- function, so that a migration which puts things of its own here fails locally as it does hosted.
--
-- Parameters of the public functions carry the hosted names, without p_: callers may name them.
-- Those functions do not pin search_path because the hosted ones do not: policies that run inside
-- them see the caller's path in both places.

create schema if not exists realtime authorization supabase_admin;
grant usage on schema realtime
  to postgres, anon, authenticated, service_role, supabase_realtime_admin;

-- timestamps without time zone, in UTC, as the hosted table has them.
create table if not exists realtime.messages (
  topic text not null,
  extension text not null,
  payload jsonb,
  event text,
  private boolean default false,
  updated_at timestamp not null default now(),
  inserted_at timestamp not null default now(),
  id uuid not null default gen_random_uuid(),
  binary_payload bytea,
  primary key (id, inserted_at),
  constraint messages_payload_exclusive check (payload is null or binary_payload is null)
) partition by range (inserted_at);

alter table realtime.messages owner to supabase_realtime_admin;
alter table realtime.messages enable row level security;
grant select, insert, update on realtime.messages to postgres, anon, authenticated, service_role;

-- The channel name of the running authorisation check or of the last send; null elsewhere.
create or replace function realtime.topic() returns text
language sql stable as $$
  select nullif(current_setting('realtime.topic', true), '')
$$;

-- Writes a broadcast that is delivered at commit. A payload without "id" gets the message's id.
-- Any failure (no insert right, no partition for today, a payload that is no object) is a WARNING:
-- the caller's transaction goes on and the message is lost.
create or replace function realtime.send(
  payload jsonb, event text, topic text, private boolean default true
) returns void
language plpgsql as $$
declare
  v_id uuid := gen_random_uuid();
begin
  perform set_config('realtime.topic', topic, true);
  insert into realtime.messages (id, payload, event, topic, private, extension)
  values (
    v_id,
    case when payload ? 'id' then payload else jsonb_set(payload, '{id}', to_jsonb(v_id)) end,
    event, topic, private, 'broadcast'
  );
exception when others then
  raise warning 'WarnSendingBroadcastMessage: %', sqlerrm;
end
$$;

-- The same for bytes; they reach clients of protocol 2.0.0 only.
create or replace function realtime.send_binary(
  payload bytea, event text, topic text, private boolean default true
) returns void
language plpgsql as $$
begin
  perform set_config('realtime.topic', topic, true);
  insert into realtime.messages (binary_payload, event, topic, private, extension)
  values (payload, event, topic, private, 'broadcast');
exception when others then
  raise warning 'WarnSendingBroadcastMessage: %', sqlerrm;
end
$$;

-- Sends a row change to a private channel; called from row triggers with NEW and OLD.
-- Unlike send() it raises when it is called wrongly.
create or replace function realtime.broadcast_changes(
  topic_name text, event_name text, operation text, table_name text, table_schema text,
  new record, old record, level text default 'ROW'
) returns void
language plpgsql as $$
begin
  if level = 'STATEMENT' then
    raise exception 'function can only be triggered for each row, not for each statement';
  end if;
  if operation is null or operation not in ('INSERT', 'UPDATE', 'DELETE') then
    raise exception 'Unexpected operation type: %', operation;
  end if;
  perform realtime.send(
    jsonb_build_object(
      'record', new, 'old_record', old, 'operation', operation,
      'table', table_name, 'schema', table_schema
    ),
    event_name, topic_name
  );
exception when others then
  raise exception 'Failed to process the row: %', sqlerrm;
end
$$;

-- Ids only: a notification holds 8000 bytes, a broadcast up to megabytes. NOTIFY gives what
-- replication gives: nothing on rollback, commit order, and nothing for a server that is away.
create or replace function realtime.announce_message() returns trigger
language plpgsql set search_path = '' as $$
begin
  perform pg_notify('realtime_messages', new.id::text);
  return null;
end
$$;

create or replace trigger announce_message
  after insert on realtime.messages
  for each row execute function realtime.announce_message();

-- Takes the strong table lock only when a day is missing or old, that is once a day.
create or replace function realtime.keep_partitions() returns void
language plpgsql set search_path = '' as $$
declare
  v_today date := (now() at time zone 'utc')::date;
  v_day date;
  v_name text;
begin
  perform pg_advisory_xact_lock(hashtext('realtime.keep_partitions'));
  for v_day in select v_today + n from generate_series(-1, 3) as n loop
    v_name := 'messages_' || to_char(v_day, 'YYYY_MM_DD');
    continue when to_regclass('realtime.' || v_name) is not null;
    execute format(
      'create table realtime.%I partition of realtime.messages for values from (%L) to (%L)',
      v_name, v_day, v_day + 1
    );
    execute format('alter table realtime.%I owner to supabase_realtime_admin', v_name);
  end loop;
  for v_name in
    select c.relname
    from pg_catalog.pg_inherits i
    join pg_catalog.pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'realtime.messages'::regclass
      and c.relname < 'messages_' || to_char(v_today - 3, 'YYYY_MM_DD')
  loop
    execute format('drop table realtime.%I', v_name);
  end loop;
end
$$;

revoke execute on function realtime.keep_partitions() from public;
revoke execute on function realtime.announce_message() from public;
select realtime.keep_partitions();
