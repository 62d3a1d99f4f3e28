-- The Data API's doorbell: DDL that can change what the API offers sends NOTIFY pgrst, as the
-- hosted event triggers do, and the gateway reads the catalog anew. "notify pgrst, 'reload schema'"
-- by hand does the same.

create or replace function extensions.pgrst_ddl_watch() returns event_trigger
language plpgsql set search_path = '' as $$
begin
  -- Temporary objects are invisible to the API and may be made on hot paths.
  if exists (
    select from pg_event_trigger_ddl_commands() c
    where c.schema_name is distinct from 'pg_temp'
      and c.command_tag ~ '^(CREATE|ALTER|COMMENT|GRANT|REVOKE|SELECT INTO|SECURITY LABEL)'
  ) then
    notify pgrst, 'reload schema';
  end if;
end
$$;

create or replace function extensions.pgrst_drop_watch() returns event_trigger
language plpgsql set search_path = '' as $$
begin
  if exists (select from pg_event_trigger_dropped_objects() o where not o.is_temporary) then
    notify pgrst, 'reload schema';
  end if;
end
$$;

drop event trigger if exists pgrst_ddl_watch;
create event trigger pgrst_ddl_watch on ddl_command_end execute function extensions.pgrst_ddl_watch();

drop event trigger if exists pgrst_drop_watch;
create event trigger pgrst_drop_watch on sql_drop execute function extensions.pgrst_drop_watch();
