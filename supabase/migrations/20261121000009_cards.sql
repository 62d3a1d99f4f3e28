-- Cards: one decision asked of one person. First decision wins; a card shows exact arguments and their
-- digest, and what was decided counts only for that digest.

create table nightshift.cards (
  id bigint generated always as identity primary key,
  project_id uuid not null,
  task_id bigint not null,
  step_seq int not null,
  kind text not null default 'approval' check (kind in ('approval', 'question')),
  title text not null check (length(title) <= 200),
  consequence text not null default '' check (length(consequence) <= 500),
  action jsonb not null,
  digest text not null,
  risk text not null check (risk in ('low', 'medium', 'high', 'critical')),
  reversible text not null default 'no' check (reversible in ('yes', 'partly', 'no')),
  evidence jsonb not null default '[]',
  allowed text[] not null default '{approve,edit,reject,respond}',
  deadline_at timestamptz,
  on_expiry text not null default 'reject' check (on_expiry in ('reject', 'escalate')),
  status text not null default 'open' check (status in ('open', 'decided', 'expired', 'superseded')),
  verb text check (verb in ('approve', 'edit', 'reject', 'respond')),
  note text,
  decided_args jsonb,
  decided_by uuid,
  decided_at timestamptz,
  decision_key text,
  created_at timestamptz not null default nightshift_private.now(),
  foreign key (project_id, task_id) references nightshift.tasks (project_id, id) on delete cascade,
  check ((status = 'decided') = (verb is not null)),
  check (digest = nightshift_private.sha256_hex(action::text))
);
comment on table nightshift.cards is 'Decisions asked of people. Decide with nightshift.decide; on expiry a card is rejected or escalated, never approved.';
create unique index cards_open on nightshift.cards (task_id) where status = 'open';
create index cards_by_project on nightshift.cards (project_id, status, deadline_at);
create index cards_by_task on nightshift.cards (project_id, task_id);
create index cards_expiring on nightshift.cards (deadline_at) where status = 'open';

alter table nightshift.cards enable row level security;
create policy members_read_cards on nightshift.cards for select to authenticated
  using (project_id = any (array(select nightshift_private.my_projects())));
grant select on nightshift.cards to authenticated, service_role;

-- Opens the card that a task waits for. p_card: {kind?, title, consequence?, action: {tool, args, call_id}, risk,
-- reversible?, evidence?, allowed?, deadline_at?, on_expiry?}. The task is held.
create function nightshift_private.open_card(p_task nightshift.tasks, p_step int, p_card jsonb) returns bigint
language plpgsql set search_path = '' as $$
declare
  v_id bigint;
begin
  insert into nightshift.cards (project_id, task_id, step_seq, kind, title, consequence, action, digest, risk, reversible,
    evidence, allowed, deadline_at, on_expiry)
  values (p_task.project_id, p_task.id, p_step, coalesce(p_card ->> 'kind', 'approval'), pg_catalog.left(p_card ->> 'title', 200),
    pg_catalog.left(coalesce(p_card ->> 'consequence', ''), 500), p_card -> 'action',
    nightshift_private.sha256_hex((p_card -> 'action')::text), p_card ->> 'risk', coalesce(p_card ->> 'reversible', 'no'),
    coalesce(p_card -> 'evidence', '[]'),
    case when p_card ? 'allowed' then array(select pg_catalog.jsonb_array_elements_text(p_card -> 'allowed')) else '{approve,edit,reject,respond}' end,
    coalesce((p_card ->> 'deadline_at')::timestamptz, nightshift_private.now() + interval '24 hours'), coalesce(p_card ->> 'on_expiry', 'reject'))
  returning id into v_id;
  return v_id;
end
$$;

-- Open cards of tasks that have ended are superseded.
create function nightshift_private.close_cards(p_task_ids bigint[]) returns void
language sql set search_path = '' as $$
  update nightshift.cards set status = 'superseded' where task_id = any (p_task_ids) and status = 'open'
$$;

-- Writes a decision as a step of the waiting task and wakes it. Task and card are locked.
create function nightshift_private.apply_decision(p_card nightshift.cards, p_verb text, p_note text, p_args jsonb, p_by uuid)
returns void language plpgsql set search_path = '' as $$
begin
  update nightshift.tasks set status = 'pending', step_count = step_count + 1, progress_at = nightshift_private.now()
    where id = p_card.task_id;
  insert into nightshift.steps (project_id, task_id, seq, kind, action, input, output, attempt)
  select p_card.project_id, p_card.task_id, t.step_count, 'decision', p_verb,
    pg_catalog.jsonb_build_object('card', p_card.id, 'call_id', p_card.action -> 'call_id', 'by', p_by),
    pg_catalog.jsonb_build_object('verb', p_verb, 'note', p_note, 'args', coalesce(p_args, p_card.action -> 'args')), t.attempt
  from nightshift.tasks t where t.id = p_card.task_id;
end
$$;

-- Decides a card: approve | edit (with args) | reject | respond (with note). digest is the one the person
-- saw. The first decision wins; the same idempotency_key gets the same answer again.
create function nightshift.decide(card_id bigint, verb text, digest text, note text default null, args jsonb default null, idempotency_key text default null)
returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  v_card nightshift.cards;
  v_by uuid := auth.uid();
begin
  select c.* into v_card from nightshift.cards c where c.id = decide.card_id;
  if v_card.id is null or not (nightshift_private.is_service() or v_card.project_id in (select nightshift_private.my_projects())) then
    perform nightshift_private.fault('NS040', coalesce(decide.card_id::text, 'null'));
  end if;
  perform nightshift_private.require_role(v_card.project_id, 'decide cards', 'owner', 'operator', 'reviewer');
  perform from nightshift.tasks t where t.id = v_card.task_id for no key update;
  select c.* into v_card from nightshift.cards c where c.id = decide.card_id for update;
  if v_card.status = 'decided' and v_card.decision_key = decide.idempotency_key and v_card.decided_by is not distinct from v_by then
    return nightshift_private.decision_answer(v_card);
  end if;
  perform nightshift_private.check_decision(v_card, decide.verb, decide.digest, decide.note, decide.args);
  update nightshift.cards c set status = 'decided', verb = decide.verb, note = decide.note, decided_by = v_by,
      decided_args = case when decide.verb = 'edit' then decide.args end,
      decided_at = nightshift_private.now(), decision_key = decide.idempotency_key
    where c.id = decide.card_id returning * into v_card;
  perform nightshift_private.apply_decision(v_card, decide.verb, decide.note, case when decide.verb = 'edit' then decide.args end, v_by);
  perform nightshift_private.record_event(v_card.project_id, 'card.decided', 'card', v_card.id::text, v_card.task_id,
    pg_catalog.jsonb_build_object('verb', decide.verb, 'digest', v_card.digest, 'risk', v_card.risk));
  return nightshift_private.decision_answer(v_card);
end
$$;

create function nightshift_private.check_decision(p_card nightshift.cards, p_verb text, p_digest text, p_note text, p_args jsonb)
returns void language plpgsql stable set search_path = '' as $$
declare
  v_violation text;
begin
  if p_card.status <> 'open' or p_card.deadline_at <= nightshift_private.now() then
    perform nightshift_private.fault('NS041', p_card.id::text,
      coalesce(p_card.verb, case p_card.status when 'open' then 'expired' else p_card.status end),
      coalesce(p_card.decided_by::text, 'the system'), coalesce(p_card.decided_at, p_card.deadline_at)::text);
  end if;
  if p_digest is distinct from p_card.digest then perform nightshift_private.fault('NS042', p_card.id::text); end if;
  if p_verb is null or not p_verb = any (p_card.allowed) then
    perform nightshift_private.fault('NS043', coalesce(p_verb, 'null'), p_card.id::text, pg_catalog.array_to_string(p_card.allowed, ', '));
  end if;
  perform nightshift_private.check_payload('note', pg_catalog.to_jsonb(p_note), 16384);
  if p_verb = 'respond' and coalesce(p_note, '') = '' then
    perform nightshift_private.fault('NS001', 'Cannot respond without a note');
  end if;
  if p_verb <> 'edit' then return; end if;
  perform nightshift_private.check_payload('args', p_args);
  select nightshift_private.schema_violation(t.input_schema, p_args) into v_violation
    from nightshift.tools t where t.project_id = p_card.project_id and t.name = p_card.action ->> 'tool';
  if p_args is null or v_violation is not null then
    perform nightshift_private.fault('NS021', p_card.action ->> 'tool', coalesce(v_violation, 'args are missing'));
  end if;
end
$$;

create function nightshift_private.decision_answer(p_card nightshift.cards) returns jsonb
language sql immutable set search_path = '' as $$
  select pg_catalog.jsonb_build_object('card', p_card.id, 'task', p_card.task_id, 'verb', p_card.verb,
    'decided_by', p_card.decided_by, 'decided_at', p_card.decided_at)
$$;

-- Rejects open cards past their deadline (part of the sweep). Never approves.
create function nightshift_private.expire_cards() returns int
language plpgsql set search_path = '' as $$
declare
  v_due record;
  v_card nightshift.cards;
  v_count int := 0;
begin
  for v_due in select id, task_id from nightshift.cards where status = 'open' and deadline_at <= nightshift_private.now()
      order by task_id limit 500 loop
    perform from nightshift.tasks where id = v_due.task_id for no key update skip locked;
    if not found then continue; end if;
    update nightshift.cards set status = 'expired' where id = v_due.id and status = 'open' returning * into v_card;
    if not found then continue; end if;
    perform nightshift_private.apply_decision(v_card, 'reject', 'Nobody decided before the deadline', null, null);
    perform nightshift_private.record_event(v_card.project_id, 'card.expired', 'card', v_card.id::text, v_card.task_id,
      pg_catalog.jsonb_build_object('digest', v_card.digest));
    v_count := v_count + 1;
  end loop;
  return v_count;
end
$$;

grant execute on function nightshift.decide(bigint, text, text, text, jsonb, text) to authenticated, service_role;

revoke execute on all functions in schema nightshift, nightshift_private from public;
