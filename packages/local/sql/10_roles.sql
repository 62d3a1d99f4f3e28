-- Roles, schemas and default rights as a hosted Supabase project has them since 30 Oct 2026:
-- new tables are not exposed, `postgres` is no superuser, the API logs in as `authenticator`.
-- Run as supabase_admin on each new database; everything is idempotent, roles are cluster-wide.

do $$
declare
  v_role text;
begin
  foreach v_role in array array['anon', 'authenticated', 'service_role', 'supabase_realtime_admin'] loop
    if not exists (select from pg_roles where rolname = v_role) then
      execute format('create role %I nologin noinherit', v_role);
    end if;
  end loop;
  foreach v_role in array array['postgres', 'authenticator', 'supabase_auth_admin'] loop
    if not exists (select from pg_roles where rolname = v_role) then
      execute format('create role %I login password %L', v_role, 'postgres');
    end if;
  end loop;
end
$$;

alter role postgres createdb createrole replication bypassrls;
alter role service_role bypassrls;
alter role supabase_auth_admin createrole;
alter role authenticator inherit;
alter role anon set statement_timeout = '3s';
alter role authenticated set statement_timeout = '8s';
alter role authenticator set statement_timeout = '8s';
alter role authenticator set lock_timeout = '8s';
alter role postgres set search_path = "$user", public, extensions;
alter role supabase_auth_admin set search_path = auth;

grant anon, authenticated, service_role to authenticator;
grant anon, authenticated, service_role, supabase_realtime_admin to postgres with admin option;
grant pg_monitor, pg_signal_backend, pg_read_all_data to postgres;

do $$
begin
  execute format('alter database %I owner to postgres', current_database());
end
$$;

create schema if not exists extensions;
grant usage on schema extensions to postgres, anon, authenticated, service_role;
grant create on schema extensions to postgres;
create extension if not exists pgcrypto with schema extensions;
create extension if not exists pg_stat_statements with schema extensions;

alter schema public owner to postgres;
revoke create on schema public from public;
grant usage on schema public to anon, authenticated, service_role;
