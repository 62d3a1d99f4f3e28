-- pg_cron 1.6 as a stand-in: the extension's SQL surface; the scheduler is src/cron.ts.
--
--   job, job_run_details      what runs when, and how each run went; row level security by user name
--   schedule(), schedule_in_database(), alter_job(), unschedule()
--   _parse_schedule()         the one reader of schedules: it validates here and feeds the scheduler
--
-- Parameter names are the extension's, without p_: callers use them as named arguments.

create schema if not exists cron;
create sequence if not exists cron.jobid_seq;
create sequence if not exists cron.runid_seq;

create table if not exists cron.job (
  jobid bigint primary key default nextval('cron.jobid_seq'),
  schedule text not null,
  command text not null,
  nodename text not null default 'localhost',
  nodeport integer not null default inet_server_port(),
  database text not null default current_database(),
  username text not null default current_user,
  active boolean not null default true,
  jobname text,
  constraint jobname_username_uniq unique (jobname, username)
);

create table if not exists cron.job_run_details (
  jobid bigint,
  runid bigint primary key default nextval('cron.runid_seq'),
  job_pid integer,
  database text,
  username text,
  command text,
  status text,
  return_message text,
  start_time timestamptz,
  end_time timestamptz
);

alter table cron.job enable row level security;
drop policy if exists cron_job_policy on cron.job;
create policy cron_job_policy on cron.job using (username = current_user);
alter table cron.job_run_details enable row level security;
drop policy if exists cron_job_run_details_policy on cron.job_run_details;
create policy cron_job_run_details_policy on cron.job_run_details using (username = current_user);

-- The extension learns the calling role in C. A definer function here cannot, so its invoker passes it
-- as this type, whose check holds only in the caller's own context: nobody can pass another's name.
do $$
begin
  if to_regtype('cron.caller') is null then
    create domain cron.caller as text check (value = current_user);
  end if;
end
$$;

-- Bits from..to of a field, as the extension's bitmap macro sets them: a range that runs backwards
-- fills to the end of its first byte and from the start of its last ("22-6" hours works, "22-10" gives
-- 22, 23, 8, 9, 10); with a step it is empty.
create or replace function cron._field_range(p_first integer, p_last integer, p_step integer)
returns integer[]
language sql immutable
set search_path = ''
as $$
  select case
    when p_first <= p_last or p_step > 1 then array(select generate_series(p_first, p_last, p_step))
    when p_first / 8 = p_last / 8 then '{}'
    else array(select generate_series(p_first, p_first | 7))
      || array(select generate_series(p_last & ~7, p_last))
  end
$$;

-- The values a field such as "1,5-10,*/15" or "mon-fri" stands for; null when it is not understood.
-- As in Vixie cron, whatever follows a complete item without a comma is ignored ("5;x" is 5).
create or replace function cron._parse_field(p_field text, p_low integer, p_high integer, p_names text[])
returns integer[]
language plpgsql immutable
set search_path = ''
as $$
declare
  v_rest text := p_field;
  v_item text[];
  v_first integer;
  v_last integer;
  v_step integer;
  v_values integer[] := '{}';
begin
  loop
    -- star | first [- last], then [/ step], then the rest
    v_item := regexp_match(
      v_rest, '^(?:(\*)|([a-z0-9]+)(?:-([a-z0-9]*))?)(?:/([a-z0-9]*))?(.*)$', 'i'
    );
    v_first := case when v_item[1] = '*' then p_low else cron._parse_number(v_item[2], p_low, p_names) end;
    v_last := case
      when v_item[1] = '*' then p_high
      when v_item[3] is not null then cron._parse_number(v_item[3], p_low, p_names)
      when v_item[4] is null then v_first
    end;
    v_step := case when v_item[4] is null then 1 else cron._parse_number(v_item[4], 0, '{}') end;
    if v_item is null or v_first is null or v_last is null or v_step is null
      or v_first not between p_low and p_high or v_last not between p_low and p_high
      or v_step not between 1 and p_high
    then
      return null;
    end if;
    v_values := v_values || array(
      select p_low + bit from unnest(cron._field_range(v_first - p_low, v_last - p_low, v_step)) as bit
    );
    exit when v_item[5] not like ',%';
    v_rest := substr(v_item[5], 2);
  end loop;
  return array(select distinct value from unnest(v_values) as value where value <= p_high order by value);
end
$$;

create or replace function cron._parse_number(p_word text, p_low integer, p_names text[]) returns integer
language sql immutable
set search_path = ''
as $$
  select coalesce(
    p_low + array_position(p_names, lower(p_word)) - 1,
    case when p_word ~ '^\d{1,9}$' then p_word::integer end
  )
$$;

-- {seconds} or {reboot} or {minutes, hours, days, months, weekdays, lastDay, bothDays, wild}; null when
-- invalid. `bothDays`: day and weekday must both match (one of them is a star), else either is enough.
-- `wild`: minute or hour is a star, which decides what happens when the clock jumps.
create or replace function cron._parse_schedule(p_schedule text) returns jsonb
language plpgsql immutable
set search_path = ''
as $$
declare
  v_special text := substring(p_schedule from '^[ \t\n]*@([^ \t\n]*)');
  v_text text := case
    -- The extension gives @yearly an empty month and never runs it; nor is there a 31st of February.
    when v_special in ('yearly', 'annually') then '0 0 31 2 *'
    when v_special = 'monthly' then '0 0 1 * *'
    when v_special = 'weekly' then '0 0 * * 0'
    when v_special in ('daily', 'midnight') then '0 0 * * *'
    when v_special = 'hourly' then '0 * * * *'
    else p_schedule
  end;
  -- Five words; anything after them is ignored, which is how "* * * * * *" passes as "each minute".
  v_fields text[] := regexp_match(
    v_text, '^[ \t\n]*([^ \t\n]+)[ \t]+([^ \t\n]+)[ \t]+([^ \t\n]+)[ \t]+([^ \t\n]+)[ \t]+([^ \t\n]+)'
  );
  v_seconds text := substring(lower(p_schedule) from '^\s*\+?0*([1-9]|[1-5]\d)\s*secon(?:d|ds\s*)$');
  v_minutes integer[] := cron._parse_field(v_fields[1], 0, 59, '{}');
  v_hours integer[] := cron._parse_field(v_fields[2], 0, 23, '{}');
  v_last_day boolean := v_fields[3] = '$';
  v_days integer[] := case when v_last_day then '{}' else cron._parse_field(v_fields[3], 1, 31, '{}') end;
  v_months integer[] := cron._parse_field(
    v_fields[4], 1, 12, '{jan,feb,mar,apr,may,jun,jul,aug,sep,oct,nov,dec}'
  );
  v_weekdays integer[] := cron._parse_field(v_fields[5], 0, 7, '{sun,mon,tue,wed,thu,fri,sat}');
begin
  if v_special in ('reboot', 'restart') then
    return jsonb_build_object('reboot', true);
  elsif v_seconds is not null then
    return jsonb_build_object('seconds', v_seconds::integer);
  elsif octet_length(p_schedule) >= 1000
    or v_minutes is null or v_hours is null or v_days is null or v_months is null or v_weekdays is null
  then
    return null;
  end if;
  return jsonb_build_object(
    'minutes', v_minutes,
    'hours', v_hours,
    'days', v_days,
    'lastDay', v_last_day,
    'months', v_months,
    'weekdays', array(select distinct day % 7 from unnest(v_weekdays) as day),
    'bothDays', v_fields[3] like '*%' or v_fields[5] like '*%',
    'wild', v_fields[1] like '*%' or v_fields[2] like '*%'
  );
end
$$;

create or replace function cron._check_schedule(p_schedule text) returns void
language plpgsql
set search_path = ''
as $$
begin
  if cron._parse_schedule(p_schedule) is null then
    raise exception 'invalid schedule: %', p_schedule
      using errcode = '22023', hint = 'Write five fields, as in "5 4 * * *", or "[1-59] seconds"';
  end if;
end
$$;

-- Who a job will run as: the caller, or another login role when a superuser says so.
create or replace function cron._job_user(p_caller text, p_username text, p_action text) returns text
language plpgsql
set search_path = ''
as $$
declare
  v_can_login boolean := (select rolcanlogin from pg_roles where rolname = p_username);
begin
  if p_username is null then
    return p_caller;
  elsif not (select rolsuper from pg_roles where rolname = p_caller) then
    raise exception 'must be superuser to %', p_action using errcode = 'XX000';
  elsif v_can_login is null then
    raise exception 'role "%" does not exist', p_username using errcode = 'XX000';
  elsif not v_can_login then
    raise exception 'role "%" can not log in', p_username using errcode = 'XX000';
  end if;
  return p_username;
end
$$;

create or replace function cron._check_database(p_username text, p_database text) returns void
language plpgsql
set search_path = ''
as $$
begin
  if not has_database_privilege(p_username, p_database, 'connect') then
    raise exception 'User % does not have CONNECT privilege on %', p_username, p_database
      using errcode = 'XX000';
  end if;
end
$$;

create or replace function cron._save_job(
  p_caller cron.caller,
  p_name text,
  p_schedule text,
  p_command text,
  p_database text,
  p_username text,
  p_active boolean
) returns bigint
language plpgsql security definer
set search_path = ''
as $$
declare
  v_user text;
  v_database text := coalesce(p_database, current_database());
  v_id bigint;
begin
  if p_schedule is null or p_command is null then
    raise exception '% can not be NULL', case when p_schedule is null then 'schedule' else 'command' end
      using errcode = 'XX000';
  end if;
  perform cron._check_schedule(p_schedule);
  v_user := cron._job_user(p_caller, p_username, 'create a job for another role');
  perform cron._check_database(v_user, v_database);
  -- A job without a name never conflicts. An existing one keeps its id and its `active`.
  insert into cron.job (schedule, command, nodename, nodeport, database, username, active, jobname)
  values (
    p_schedule, p_command, 'localhost', current_setting('port')::integer,
    v_database, v_user, coalesce(p_active, true), p_name
  )
  on conflict on constraint jobname_username_uniq do update
  set schedule = excluded.schedule, command = excluded.command, database = excluded.database
  returning jobid into v_id;
  return v_id;
end
$$;

create or replace function cron._save_named_job(
  p_caller cron.caller,
  p_name text,
  p_schedule text,
  p_command text,
  p_database text,
  p_username text,
  p_active boolean
) returns bigint
language plpgsql
set search_path = ''
as $$
begin
  if p_name is null then
    raise exception 'job_name can not be NULL' using errcode = 'XX000';
  end if;
  return cron._save_job(p_caller, p_name, p_schedule, p_command, p_database, p_username, p_active);
end
$$;

create or replace function cron.schedule(schedule text, command text) returns bigint
language sql strict
set search_path = ''
as $$
  select cron._save_job(current_user::text, null, schedule, command, null, null, true)
$$;
comment on function cron.schedule(text, text) is 'Adds a job without a name; returns its id';

create or replace function cron.schedule(job_name text, schedule text, command text) returns bigint
language sql
set search_path = ''
as $$
  select cron._save_named_job(current_user::text, job_name, schedule, command, null, null, true)
$$;
comment on function cron.schedule(text, text, text) is
  'Adds a job, or changes the caller''s job of that name; returns its id';

create or replace function cron.schedule_in_database(
  job_name text,
  schedule text,
  command text,
  database text,
  username text default null,
  active boolean default true
) returns bigint
language sql
set search_path = ''
as $$
  select cron._save_named_job(current_user::text, job_name, schedule, command, database, username, active)
$$;
comment on function cron.schedule_in_database is
  'As schedule, for another database or (superusers) another role';

create or replace function cron._alter_job(
  p_caller cron.caller,
  p_id bigint,
  p_schedule text,
  p_command text,
  p_database text,
  p_username text,
  p_active boolean
) returns void
language plpgsql security definer
set search_path = ''
as $$
declare
  v_user text := cron._job_user(p_caller, p_username, 'alter username');
begin
  if p_id is null then
    raise exception 'job_id can not be NULL' using errcode = 'XX000';
  end if;
  if p_database is not null then
    perform cron._check_database(v_user, p_database);
  end if;
  if p_schedule is not null then
    perform cron._check_schedule(p_schedule);
  end if;
  if num_nonnulls(p_schedule, p_command, p_database, p_username, p_active) = 0 then
    raise exception 'no updates specified' using errcode = 'XX000';
  end if;
  update cron.job
  set
    schedule = coalesce(p_schedule, schedule),
    command = coalesce(p_command, command),
    database = coalesce(p_database, database),
    username = coalesce(p_username, username),
    active = coalesce(p_active, active)
  where jobid = p_id
    and (username = p_caller or (select rolsuper from pg_roles where rolname = p_caller));
  if not found then
    raise exception 'Job % does not exist or you don''t own it', p_id using errcode = 'XX000';
  end if;
end
$$;

create or replace function cron.alter_job(
  job_id bigint,
  schedule text default null,
  command text default null,
  database text default null,
  username text default null,
  active boolean default null
) returns void
language sql
set search_path = ''
as $$
  select cron._alter_job(current_user::text, job_id, schedule, command, database, username, active)
$$;
comment on function cron.alter_job is 'Changes what is not null of a job of the caller';

create or replace function cron._delete_job(p_caller cron.caller, p_id bigint) returns boolean
language plpgsql security definer
set search_path = ''
as $$
declare
  v_owner text := (select username from cron.job where jobid = p_id);
begin
  if v_owner is null then
    raise exception 'could not find valid entry for job %', p_id using errcode = 'XX000';
  elsif v_owner <> p_caller and not has_table_privilege(p_caller, 'cron.job', 'delete') then
    raise exception 'permission denied for table job' using errcode = '42501';
  end if;
  delete from cron.job where jobid = p_id;
  return true;
end
$$;

create or replace function cron.unschedule(job_id bigint) returns boolean
language sql strict
set search_path = ''
as $$
  select cron._delete_job(current_user::text, job_id)
$$;
comment on function cron.unschedule(bigint) is 'Removes a job; raises when there is none of that id';

create or replace function cron._delete_named_job(p_caller cron.caller, p_name text) returns boolean
language plpgsql security definer
set search_path = ''
as $$
begin
  delete from cron.job where jobname = p_name and username = p_caller;
  if not found then
    raise exception 'could not find valid entry for job ''%''', p_name using errcode = 'XX000';
  end if;
  return true;
end
$$;

create or replace function cron.unschedule(job_name text) returns boolean
language sql strict
set search_path = ''
as $$
  select cron._delete_named_job(current_user::text, job_name)
$$;
comment on function cron.unschedule(text) is
  'Removes the caller''s job of that name; raises when there is none';

-- Rights: first the extension's, then hosted Supabase's, where `postgres` writes jobs through the
-- functions only and may clear the run details.
grant select on cron.job to public;
grant select, delete on cron.job_run_details to public;
grant select on sequence cron.jobid_seq, cron.runid_seq to public;
revoke all on function
  cron.alter_job(bigint, text, text, text, text, boolean),
  cron.schedule_in_database(text, text, text, text, text, boolean)
from public;
grant usage on schema cron to postgres with grant option;
grant all on all functions in schema cron to postgres with grant option;
grant all on all tables in schema cron to postgres with grant option;
revoke all on cron.job from postgres;
grant select on cron.job to postgres with grant option;
