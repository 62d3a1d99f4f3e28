-- pg_net 0.20 as a stand-in: the extension's SQL surface; the worker that sends is src/net.ts.
--
--   http_request_queue   requests wait here, headers in plain text; unlogged, so a crash empties it
--   _http_response       answers, kept for the ttl; unlogged too
--   http_get/post/delete put a request in the queue and wake the worker when the transaction commits
--   wake(), worker_restart(), wait_until_running(), check_worker_is_up()
--
-- Parameter names are the extension's, without p_: callers use them as named arguments.

create schema if not exists net;

do $$
begin
  if to_regtype('net.http_method') is null then
    create domain net.http_method as text check (upper(value) in ('GET', 'POST', 'DELETE'));
    create type net.request_status as enum ('PENDING', 'SUCCESS', 'ERROR');
    create type net.http_response as (status_code integer, headers jsonb, body text);
    create type net.http_response_result as (
      status net.request_status, message text, response net.http_response
    );
  end if;
end
$$;

-- No primary key: the extension has none, and nothing may rely on one.
create unlogged table if not exists net.http_request_queue (
  id bigserial,
  method net.http_method not null,
  url text not null,
  headers jsonb,
  body bytea,
  timeout_milliseconds integer not null
);

create unlogged table if not exists net._http_response (
  id bigint,
  status_code integer,
  content_type text,
  headers jsonb,
  content text,
  timed_out boolean,
  error_msg text,
  created timestamptz not null default now()
);
create index if not exists _http_response_created_idx on net._http_response (created);

create or replace function net.wake() returns void
language sql
set search_path = ''
as $$
  -- A notification leaves at commit and never after a rollback, once per transaction: just as the
  -- extension's commit hook. A direct insert into the queue therefore wakes nobody.
  select pg_catalog.pg_notify('pg_net_wake', '')
$$;
comment on function net.wake is 'Wakes the worker when the transaction commits';

create or replace function net.worker_restart() returns boolean
language sql
set search_path = ''
as $$
  select pg_catalog.pg_notify('pg_net_restart', '');
  select true
$$;
comment on function net.worker_restart is
  'The worker finishes its batch, ends, and is back after a second; this one reacts at the commit';

-- The worker is known by its application name: a stand-in has no background worker type.
create or replace function net._worker_is_up() returns boolean
language sql
set search_path = ''
as $$
  select exists (
    select from pg_catalog.pg_stat_activity
    where datname = current_database() and application_name like 'pg_net %'
  )
$$;

create or replace function net.check_worker_is_up() returns void
language plpgsql
set search_path = ''
as $$
begin
  if not net._worker_is_up() then
    raise exception 'the pg_net background worker is not up'
      using hint = 'Start the local stack, or see its log for why the worker ended';
  end if;
end
$$;
comment on function net.check_worker_is_up is 'Raises when no worker serves this database';

create or replace function net.wait_until_running() returns void
language plpgsql
set search_path = ''
as $$
begin
  while not net._worker_is_up() loop
    perform pg_sleep(0.05);
    perform pg_stat_clear_snapshot();
  end loop;
end
$$;
comment on function net.wait_until_running is 'Waits, without limit, until a worker serves this database';

create or replace function net._urlencode_string(string varchar) returns text
language sql immutable strict
set search_path = ''
as $$
  select coalesce(
    string_agg(
      case
        when part ~ '^[A-Za-z0-9._~-]$' then part
        else regexp_replace(upper(encode(convert_to(part, 'utf8'), 'hex')), '(..)', '%\1', 'g')
      end,
      '' order by place
    ),
    ''
  )
  from string_to_table(string, null) with ordinality as parts (part, place)
$$;
comment on function net._urlencode_string is 'Percent-encodes all but letters, digits and ._~-';

create or replace function net._encode_url_with_params_array(url text, params_array text[]) returns text
language plpgsql immutable strict
set search_path = ''
as $$
declare
  v_parts text[] := regexp_match(url, '^([a-z][a-z0-9+.-]*://)([^/?#]*)([^?#]*)(?:\?([^#]*))?(#.*)?$', 'i');
  v_port text := substring(v_parts[2] from ':([^:@\]]*)$');
  v_query text := array_to_string(nullif(v_parts[4], '') || params_array, '&');
  v_fault text := case
    when url ~* '^[a-z][a-z0-9+.-]*:' and url !~* '^(https?|ftp)://' then 'Unsupported URL scheme'
    when v_parts is null then 'Bad scheme'
    when v_parts[2] = '' then 'No host part in the URL'
    when v_port !~ '^\d{0,5}$' or nullif(v_port, '')::integer > 65535
      then 'Port number was not a decimal number between 0 and 65535'
    when v_parts[3] ~ '[\x01-\x20\x7f]' then 'Bad path'
    when v_query ~ '[\x01-\x20\x7f]' then 'Bad query'
  end;
begin
  if v_fault is not null then
    raise exception 'invalid URL "%": %', url, v_fault using errcode = 'XX000';
  end if;
  return concat(
    v_parts[1],
    v_parts[2],
    coalesce(nullif(v_parts[3], ''), '/'),
    '?' || nullif(v_query, ''),
    v_parts[5]
  );
end
$$;
comment on function net._encode_url_with_params_array is
  'Appends encoded key=value pairs to a URL; raises on a URL that libcurl refuses';

create or replace function net._with_params(url text, params jsonb) returns text
language sql immutable
set search_path = ''
as $$
  select net._encode_url_with_params_array(
    url,
    array(
      select net._urlencode_string(pair.key) || '=' || net._urlencode_string(pair.value)
      from jsonb_each_text(params) as pair
      where pair.value is not null
    )
  )
$$;

create or replace function net.http_get(
  url text,
  params jsonb default '{}'::jsonb,
  headers jsonb default '{}'::jsonb,
  timeout_milliseconds integer default 5000
) returns bigint
language plpgsql
set search_path = ''
as $$
declare
  v_id bigint;
begin
  insert into net.http_request_queue (method, url, headers, timeout_milliseconds)
  values ('GET', net._with_params(url, params), headers, timeout_milliseconds)
  returning id into v_id;
  perform net.wake();
  return v_id;
end
$$;
comment on function net.http_get is
  'Queues a GET, sent after commit; returns the id of the answer to come';

create or replace function net.http_post(
  url text,
  body jsonb default '{}'::jsonb,
  params jsonb default '{}'::jsonb,
  headers jsonb default '{"Content-Type": "application/json"}'::jsonb,
  timeout_milliseconds integer default 5000
) returns bigint
language plpgsql
set search_path = ''
as $$
declare
  v_content_type text := (
    select header.value from jsonb_each_text(headers) as header
    where lower(header.key) = 'content-type' limit 1
  );
  v_id bigint;
begin
  if v_content_type is null then
    headers := headers || '{"Content-Type": "application/json"}'::jsonb;
  elsif v_content_type <> 'application/json' then
    raise exception 'Content-Type header must be "application/json"';
  end if;
  insert into net.http_request_queue (method, url, headers, body, timeout_milliseconds)
  values (
    'POST', net._with_params(url, params), headers, convert_to(body::text, 'utf8'), timeout_milliseconds
  )
  returning id into v_id;
  perform net.wake();
  return v_id;
end
$$;
comment on function net.http_post is
  'Queues a JSON POST, sent after commit; returns the id of the answer to come';

create or replace function net.http_delete(
  url text,
  params jsonb default '{}'::jsonb,
  headers jsonb default '{}'::jsonb,
  timeout_milliseconds integer default 5000,
  body jsonb default null
) returns bigint
language plpgsql
set search_path = ''
as $$
declare
  v_id bigint;
begin
  insert into net.http_request_queue (method, url, headers, body, timeout_milliseconds)
  values (
    'DELETE', net._with_params(url, params), headers, convert_to(body::text, 'utf8'), timeout_milliseconds
  )
  returning id into v_id;
  perform net.wake();
  return v_id;
end
$$;
comment on function net.http_delete is
  'Queues a DELETE, sent after commit; returns the id of the answer to come';

create or replace function net._await_response(request_id bigint) returns boolean
language plpgsql
set search_path = ''
as $$
begin
  while not exists (select from net._http_response r where r.id = request_id) loop
    perform pg_sleep(0.05);
  end loop;
  return true;
end
$$;

create or replace function net._http_collect_response(request_id bigint, async boolean default true)
returns net.http_response_result
language plpgsql
set search_path = ''
as $$
declare
  v_answer net._http_response;
begin
  if not async then
    perform net._await_response(request_id);
  end if;
  select * into v_answer from net._http_response r where r.id = request_id;
  if v_answer.id is null or v_answer.error_msg is not null then
    return row(
      'ERROR', coalesce(v_answer.error_msg, 'request matching request_id not found'), null
    )::net.http_response_result;
  end if;
  return row(
    'SUCCESS', 'ok', row(v_answer.status_code, v_answer.headers, v_answer.content)::net.http_response
  )::net.http_response_result;
end
$$;
comment on function net._http_collect_response is
  'The answer to a request; waiting for one (async false) needs the request to be committed before';

create or replace function net.http_collect_response(request_id bigint, async boolean default true)
returns net.http_response_result
language plpgsql
set search_path = ''
as $$
begin
  -- Fails in 0.20.4 for want of a return, so it fails here: code that relies on it breaks hosted.
  select net._http_collect_response(request_id, async);
end
$$;
comment on function net.http_collect_response is 'Deprecated and broken, as in pg_net 0.20.4';

-- The extension leaves all of this open to PUBLIC: whoever speaks SQL reads queued headers and sends
-- requests in the name of the database. Hosted adds usage for its own roles and, since pg_net 0.12,
-- closes nothing (before, http_get and http_post were definer functions). The product has to survive it.
grant usage on schema net to public;
grant all on all sequences in schema net to public;
grant all on all tables in schema net to public;
grant usage on schema net to postgres, anon, authenticated, service_role;
