-- Schedules: when work comes back. A schedule is five cron fields (minute hour day month weekday), or six
-- with seconds in front. It speaks of the clock on the wall in a time zone, and that clock jumps twice a
-- year:
--   hour field `*`     real hours: it runs whenever the wall shows a matching time, so an hourly
--                      schedule runs 23 times on the spring day and 25 times on the autumn day
--   any other hours    each matching time of a day once: a time that the spring day leaves out runs
--                      at the instant it would have been (02:30 at 03:30), one that the autumn day
--                      has twice runs the first time
-- Day and weekday both given: either is enough, as everywhere in cron. `L` or `$` is a month's last day.
-- An instant is found by arithmetic on the fields (20 µs a slot), never by trying one minute after another.

-- A number or a name's number, or null.
create function nightshift_private.parse_value(p_text text, p_low int, p_names text[]) returns int
language plpgsql immutable set search_path = '' as $$
begin
  return case when pg_catalog.ascii(p_text) between 48 and 57 then p_text::int else p_low + pg_catalog.array_position(p_names, p_text) - 1 end;
end
$$;

-- One field as bits, the first for p_low; null when it is not understood. Items `*`, `5`, `1-5`,
-- `mon-fri`, each but the plain value with an optional step, joined by commas.
create function nightshift_private.parse_field(p_field text, p_low int, p_high int, p_names text[] default '{}')
returns bit varying language plpgsql immutable set search_path = '' as $$
declare
  v_bits bit varying := pg_catalog.repeat('0', p_high - p_low + 1)::bit varying;
  v_item text;
  v_part text[];
  v_first int;
  v_last int;
begin
  if p_field = '*' then return ~v_bits; end if;
  foreach v_item in array pg_catalog.string_to_array(p_field, ',') loop
    -- `5/10` does not match: some crons read it as "every 10 from 5 on", others as 5.
    v_part := pg_catalog.regexp_match(v_item, '^(?:([a-z]{3}|\d{1,2})|(?:\*|([a-z]{3}|\d{1,2})-([a-z]{3}|\d{1,2}))(?:/(\d{1,2}))?)$');
    if v_part is null then return null; end if;
    v_first := case when v_item like '*%' then p_low else nightshift_private.parse_value(coalesce(v_part[1], v_part[2]), p_low, p_names) end;
    v_last := case when v_item like '*%' then p_high else nightshift_private.parse_value(coalesce(v_part[1], v_part[3]), p_low, p_names) end;
    if (v_first >= p_low and v_last between v_first and p_high and coalesce(v_part[4]::int, 1) between 1 and p_high) is not true then
      return null;
    end if;
    for v_value in v_first .. v_last by coalesce(v_part[4]::int, 1) loop
      v_bits := pg_catalog.set_bit(v_bits, v_value - p_low, 1);
    end loop;
  end loop;
  return v_bits;
end
$$;

-- {second, minute, hour, day (bit 32: last day), month, weekday, either}: `either` is 1 where both day
-- and weekday are given. Refuses what is no schedule (NS072).
create function nightshift_private.parse_schedule(p_schedule text) returns bit varying[]
language plpgsql immutable set search_path = '' as $$
declare
  v_text text[] := pg_catalog.regexp_split_to_array(pg_catalog.lower(pg_catalog.btrim(p_schedule)), '\s+');
  v_days text[];
  v_fields bit varying[];
  v_bad int;
begin
  if pg_catalog.cardinality(v_text) = 5 then v_text := '0'::text || v_text; end if;
  if pg_catalog.cardinality(v_text) is distinct from 6 then
    perform nightshift_private.fault('NS072', coalesce(pg_catalog.left(p_schedule, 80), 'null'), 'it needs five fields, or six with seconds in front');
  end if;
  v_days := pg_catalog.array_remove(pg_catalog.array_remove(pg_catalog.string_to_array(v_text[4], ','), 'l'), '$');
  v_fields := array[
    nightshift_private.parse_field(v_text[1], 0, 59), nightshift_private.parse_field(v_text[2], 0, 59),
    nightshift_private.parse_field(v_text[3], 0, 23),
    nightshift_private.parse_field(pg_catalog.array_to_string(v_days, ','), 1, 31)
      || case when v_text[4] ~ '(^|,)[l$](,|$)' then B'1' else B'0' end,
    nightshift_private.parse_field(v_text[5], 1, 12, '{jan,feb,mar,apr,may,jun,jul,aug,sep,oct,nov,dec}'),
    nightshift_private.parse_field(v_text[6], 0, 7, '{sun,mon,tue,wed,thu,fri,sat}'),
    case when v_text[4] = '*' or v_text[6] = '*' then B'0' else B'1' end];
  v_bad := pg_catalog.array_position(v_fields, null);
  if v_bad is not null then
    perform nightshift_private.fault('NS072', pg_catalog.left(p_schedule, 80), pg_catalog.format('the %s cannot be "%s"',
      ('{second,minute,hour,day of the month,month,weekday}'::text[])[v_bad], v_text[v_bad]));
  end if;
  -- Sunday is 0 and 7.
  v_fields[6] := pg_catalog.substring(v_fields[6], 1, 7) | (pg_catalog.substring(v_fields[6], 8, 1) || B'000000');
  return v_fields;
end
$$;

-- The first day from p_from on that fits, or null: 29 February can be 8 years away, nothing is further.
create function nightshift_private.next_day(p_fields bit varying[], p_from date) returns date
language plpgsql immutable set search_path = '' as $$
declare
  v_month date := p_from - (extract(day from p_from)::int - 1);
  v_day int := extract(day from p_from);
  v_length int;
  v_days bit varying;
  v_week bit varying;
  v_place int;
begin
  for v_try in 1 .. 108 loop
    if pg_catalog.get_bit(p_fields[5], extract(month from v_month)::int - 1) = 1 then
      v_length := (v_month + interval '1 month')::date - v_month;
      v_days := pg_catalog.substring(p_fields[4], 1, 31);
      if pg_catalog.get_bit(p_fields[4], 31) = 1 then v_days := pg_catalog.set_bit(v_days, v_length - 1, 1); end if;
      v_week := p_fields[6] || p_fields[6] || p_fields[6] || p_fields[6] || p_fields[6] || p_fields[6];
      v_week := pg_catalog.substring(v_week, extract(dow from v_month)::int + 1, 31);
      v_days := case when p_fields[7] = B'1' then v_days | v_week else v_days & v_week end;
      v_place := position(B'1' in pg_catalog.substring(v_days, v_day, v_length - v_day + 1));
      if v_place > 0 then return v_month + (v_day + v_place - 2); end if;
    end if;
    v_month := v_month + interval '1 month';
    v_day := 1;
  end loop;
  return null;
end
$$;

-- The first second of a day from p_from on that fits, or null.
create function nightshift_private.next_second(p_fields bit varying[], p_from int) returns int
language plpgsql immutable set search_path = '' as $$
declare
  v_hour int := p_from / 3600;
  v_minute int := p_from / 60 % 60;
  v_skip int := position(B'1' in pg_catalog.substring(p_fields[3], v_hour + 1));
  v_place int;
begin
  if v_skip = 1 then
    v_place := position(B'1' in pg_catalog.substring(p_fields[2], v_minute + 1));
    if v_place = 1 then
      v_place := position(B'1' in pg_catalog.substring(p_fields[1], p_from % 60 + 1));
      if v_place > 0 then return p_from + v_place - 1; end if;
      v_place := position(B'1' in pg_catalog.substring(p_fields[2], v_minute + 2)) + 1;
      if v_place = 1 then v_place := 0; end if;
    end if;
    if v_place > 0 then return v_hour * 3600 + (v_minute + v_place - 1) * 60 + position(B'1' in p_fields[1]) - 1; end if;
    v_hour := v_hour + 1;
    v_skip := position(B'1' in pg_catalog.substring(p_fields[3], v_hour + 1));
  end if;
  if v_skip = 0 then return null; end if;
  return (v_hour + v_skip - 1) * 3600 + (position(B'1' in p_fields[2]) - 1) * 60 + position(B'1' in p_fields[1]) - 1;
end
$$;

-- The first time of the wall clock from p_from on that fits; knows nothing of zones. Or null.
create function nightshift_private.next_time(p_fields bit varying[], p_from timestamp) returns timestamp
language plpgsql immutable set search_path = '' as $$
declare
  v_day date := nightshift_private.next_day(p_fields, p_from::date);
  v_second int := nightshift_private.next_second(p_fields, case when v_day = p_from::date then extract(epoch from p_from::time)::int else 0 end);
begin
  if v_second is null then
    v_day := nightshift_private.next_day(p_fields, p_from::date + 1);
    v_second := nightshift_private.next_second(p_fields, 0);
  end if;
  return v_day + pg_catalog.make_interval(secs => v_second);
end
$$;

-- How far a zone's wall clock is ahead of UTC at an instant.
create function nightshift_private.zone_offset(p_zone text, p_at timestamptz) returns interval
language plpgsql stable set search_path = '' as $$
begin
  return (p_at at time zone p_zone) - (p_at at time zone 'UTC');
end
$$;

-- The first second after p_from, up to p_to, at which the zone's clock has jumped; there is one.
create function nightshift_private.zone_jump(p_zone text, p_from timestamptz, p_to timestamptz) returns timestamptz
language plpgsql stable set search_path = '' as $$
declare
  v_offset interval := nightshift_private.zone_offset(p_zone, p_from);
  v_from timestamptz := p_from;
  v_to timestamptz := p_to;
  v_middle timestamptz;
begin
  while v_to > v_from + interval '1 second' loop
    v_middle := v_from + pg_catalog.make_interval(secs => pg_catalog.floor(extract(epoch from v_to - v_from) / 2));
    if nightshift_private.zone_offset(p_zone, v_middle) = v_offset then v_from := v_middle; else v_to := v_middle; end if;
  end loop;
  return v_to;
end
$$;

-- The first fitting instant from p_from on as long as the zone keeps p_offset. A jump in the last 26
-- hours may have left out times that are still to run, or may show times again that have run.
create function nightshift_private.next_instant(p_fields bit varying[], p_zone text, p_from timestamptz, p_offset interval, p_real boolean)
returns timestamptz language plpgsql stable set search_path = '' as $$
declare
  v_wall timestamp := (p_from at time zone 'UTC') + p_offset;
  v_before interval;
  v_jump timestamp;
  v_found timestamp;
  v_left_out timestamp;
begin
  if not p_real then
    v_before := nightshift_private.zone_offset(p_zone, p_from - interval '26 hours');
    if v_before <> p_offset then
      v_jump := nightshift_private.zone_jump(p_zone, p_from - interval '26 hours', p_from) at time zone 'UTC';
      v_left_out := nightshift_private.next_time(p_fields, (p_from at time zone 'UTC') + v_before);
      v_wall := greatest(v_wall, v_jump + v_before);
    end if;
  end if;
  v_found := nightshift_private.next_time(p_fields, v_wall) - p_offset;
  if v_left_out < v_jump + p_offset then v_found := least(v_found, v_left_out - v_before); end if;
  return v_found at time zone 'UTC';
end
$$;

-- The first slot of a parsed schedule after p_after, or null where there is none (30 February). Walks from jump to jump of the zone's clock, between which it is plain
-- arithmetic; assumes at most one jump in 26 hours.
create function nightshift_private.next_slot(p_fields bit varying[], p_zone text, p_after timestamptz) returns timestamptz
language plpgsql stable set search_path = '' as $$
declare
  v_from timestamptz := pg_catalog.date_trunc('second', p_after, 'UTC') + interval '1 second';
  v_real boolean := position(B'0' in p_fields[3]) = 0;
  v_offset interval;
  v_slot timestamptz;
  v_edge timestamptz;
begin
  for v_try in 1 .. 10 loop
    v_offset := nightshift_private.zone_offset(p_zone, v_from);
    v_slot := nightshift_private.next_instant(p_fields, p_zone, v_from, v_offset, v_real);
    if v_slot is null then return null; end if;
    v_edge := least(v_slot, v_from + interval '26 hours');
    if nightshift_private.zone_offset(p_zone, v_edge) <> v_offset then
      v_from := nightshift_private.zone_jump(p_zone, v_from, v_edge);
    elsif v_slot <= v_from + interval '26 hours' then
      return v_slot;
    else
      -- Nothing fits before: come near and look there with the offset of that season.
      v_from := v_slot - interval '25 hours';
    end if;
  end loop;
  return v_slot;
end
$$;

-- The same for a schedule as people write it.
create function nightshift_private.next_slot(p_schedule text, p_zone text, p_after timestamptz) returns timestamptz
language plpgsql stable set search_path = '' as $$
begin
  return nightshift_private.next_slot(nightshift_private.parse_schedule(p_schedule), p_zone, p_after);
end
$$;

revoke execute on all functions in schema nightshift, nightshift_private from public;
