-- Rhythm templates: rhythms that do something useful out of the box. Each gathers with SQL, acts only
-- when there is something to say, and brings the agents it needs. `install_rhythm` makes a rhythm of one;
-- from then on it is the project's own.

create table nightshift.agent_templates (
  name text primary key check (name ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
  definition jsonb not null,
  tools jsonb not null default '{}'
);
comment on table nightshift.agent_templates is 'Agents that rhythm templates need: definition for set_agent, tools by name for set_tool.';

create table nightshift.rhythm_templates (
  name text primary key check (name ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
  description text not null,
  schedule text not null,
  jitter_seconds int not null default 0,
  overlap text not null default 'skip',
  catch_up text not null default 'once',
  gather jsonb not null default '{"kind": "none"}',
  decide jsonb not null default '{"kind": "always"}',
  act jsonb not null,
  needs_agents text[] not null
);
comment on table nightshift.rhythm_templates is 'Ready-made rhythms: see install_rhythm. Columns as in nightshift.rhythms.';
comment on column nightshift.rhythm_templates.needs_agents is 'Agents that are made from nightshift.agent_templates where the project has none of the name.';

alter table nightshift.agent_templates enable row level security;
alter table nightshift.rhythm_templates enable row level security;
create policy everyone_reads_agent_templates on nightshift.agent_templates for select to authenticated using (true);
create policy everyone_reads_rhythm_templates on nightshift.rhythm_templates for select to authenticated using (true);
grant select on nightshift.agent_templates, nightshift.rhythm_templates to authenticated, service_role;

insert into nightshift.agent_templates (name, definition, tools) values
('night-reporter', '{
  "description": "Turns rows that a query found into a short report.",
  "instructions": "You write a short report for the people who run this project. input.ask says what it is about, input.gathered.rows holds everything you know. Put the one thing that matters most into the headline. Then at most seven points, the most important first, each with the ids or names from the rows so that it can be found. Name a next step only where the rows show one. Use no number that is not in the rows. If input.gathered.truncated is true, say that there is more.",
  "tier": "mid", "max_steps": 5, "budget_usd": 0.5,
  "output_schema": {"type": "object", "required": ["headline", "points"], "additionalProperties": false,
    "properties": {"headline": {"type": "string"}, "points": {"type": "array", "items": {"type": "string"}, "maxItems": 7}}}}', '{}'),
('night-sorter', '{
  "description": "Sorts tasks: one verdict and one reason for each row.",
  "instructions": "You sort tasks. input.ask says which verdicts there are and what they mean, input.gathered.rows holds the tasks. Give each row exactly one verdict and one short reason that rests on the row. If you are unsure choose the verdict that leaves the task alone. You only sort: you change nothing.",
  "tier": "cheap", "max_steps": 5, "budget_usd": 0.2,
  "output_schema": {"type": "object", "required": ["verdicts"], "additionalProperties": false, "properties": {"verdicts": {"type": "array", "items": {
    "type": "object", "required": ["id", "verdict", "reason"], "additionalProperties": false,
    "properties": {"id": {"type": "string"}, "verdict": {"type": "string"}, "reason": {"type": "string"}}}}}}}', '{}'),
('night-decider', '{
  "description": "Decides whether what a rhythm has gathered is worth acting on.",
  "instructions": "A rhythm has gathered rows (input.gathered.rows) and wants to know whether to act; input.purpose says what it is for. Answer act true only if somebody who runs this project would want to hear about these rows now: something is new, wrong or about to be. Ordinary traffic is no reason. Give the reason in one sentence.",
  "tier": "cheap", "max_steps": 5, "budget_usd": 0.05,
  "output_schema": {"type": "object", "required": ["act", "reason"], "additionalProperties": false,
    "properties": {"act": {"type": "boolean"}, "reason": {"type": "string"}}}}', '{}'),
('night-checker', '{
  "description": "Answers one question, to show that tasks run from end to end.",
  "instructions": "This is a test of the machinery. Answer with ok true and say in one short sentence that you got the question.",
  "tier": "cheap", "max_steps": 5, "budget_usd": 0.05,
  "output_schema": {"type": "object", "required": ["ok", "answer"], "additionalProperties": false,
    "properties": {"ok": {"type": "boolean"}, "answer": {"type": "string"}}}}', '{}'),
('night-improver', '{
  "description": "Proposes changes to agents; each proposal is a card, and nothing else.",
  "instructions": "You look at how the agents of this project failed last week and what people rejected (input.gathered.rows). Propose at most three changes to instructions, tools or limits of an agent, each with one call of propose_change, only where the rows show the cause. You cannot change anything yourself: each proposal becomes a card, and a person carries it out or not. When the rows show no cause propose nothing. End with a summary of one sentence.",
  "tier": "mid", "tools": ["propose_change"], "max_steps": 12, "budget_usd": 1,
  "output_schema": {"type": "object", "required": ["summary"], "additionalProperties": false, "properties": {"summary": {"type": "string"}}}}',
 '{"propose_change": {
    "description": "Proposes one change to an agent. A person sees it as a card; approving records it and changes nothing by itself.",
    "risk": "high", "effects": "none", "reversible": "yes",
    "input_schema": {"type": "object", "required": ["agent", "change", "why"], "additionalProperties": false, "properties": {
      "agent": {"type": "string", "description": "name of the agent"}, "change": {"type": "string", "description": "the new wording or value"},
      "why": {"type": "string", "description": "what in the rows shows the cause"}}}}}');

insert into nightshift.rhythm_templates (name, description, schedule, jitter_seconds, gather, decide, act, needs_agents)
select v.name, v.description, v.schedule, v.jitter,
  case when v.query = '' then '{"kind": "none"}' else jsonb_build_object('kind', 'sql', 'query', v.query) end,
  v.decide::jsonb, jsonb_build_object('agent', v.agent, 'lane', v.lane, 'labels', array['rhythm'], 'input', jsonb_build_object('ask', v.ask)),
  array_remove(array[v.agent, v.decide::jsonb ->> 'agent'], null)
from (values
-- ── every day ────────────────────────────────────────────────────────────────────────────────────
('morning-briefing', 'What the agents did in the last 24 hours, what failed, what it cost and what waits for a person.', '0 7 * * *', 120, 4, 'night-reporter',
 'Morning briefing: what happened in the last 24 hours, per agent, and what waits for a person.', '{"kind": "rule", "when": {"min_rows": 1}}', $$
select t.agent, count(*) filter (where t.status = 'completed') as completed, count(*) filter (where t.status = 'failed') as failed,
  count(*) filter (where t.status = 'awaiting_approval') as waiting_for_a_person, count(*) filter (where t.finished_at is null) as live,
  sum(t.spent_usd) as spent_usd
from nightshift.tasks t join rhythm r using (project_id)
where (t.finished_at > r.now - interval '24 hours' or (t.finished_at is null and t.created_at > r.now - interval '7 days'))
  and coalesce(t.idempotency_key, '') not like 'rhythm:%'
group by t.agent order by failed desc, completed desc$$),
('failed-task-digest', 'Tasks that failed for good in the last 24 hours, grouped by agent and class, with an example of each.', '0 8 * * *', 120, 4, 'night-reporter',
 'Digest of the tasks that failed in the last 24 hours: what they have in common and what to look at first.', '{"kind": "rule", "when": {"min_rows": 1}}', $$
select t.agent, t.failure_class, count(*) as tasks, max(t.id) as example, left(max(t.error ->> 'message'), 300) as message
from nightshift.tasks t join rhythm r using (project_id)
where t.status = 'failed' and t.finished_at > r.now - interval '24 hours'
group by 1, 2 order by 3 desc$$),
('project-scan', 'Twice a day a cheap model looks at the traffic since the last report and decides whether there is news.', '0 9,17 * * *', 300, 4, 'night-reporter',
 'Report on what is new in this project since the last report.', '{"kind": "model", "agent": "night-decider", "min_rows": 1}', $$
select t.agent, t.status, t.failure_class, count(*) as tasks, min(t.created_at) as first, max(t.created_at) as last, sum(t.spent_usd) as spent_usd
from nightshift.tasks t join rhythm r using (project_id)
where t.created_at > r.since and coalesce(t.idempotency_key, '') not like 'rhythm:%'
group by 1, 2, 3 order by 4 desc$$),
('budget-report', 'What model calls cost in the last 24 hours, per agent and model. Silent while nothing costs anything.', '0 18 * * *', 120, 4, 'night-reporter',
 'Report on what was spent on models in the last 24 hours, and on which agent and model it went.', '{"kind": "rule", "when": {"min_rows": 1}}', $$
select c.agent, c.model, count(*) as calls, sum(c.input_tokens + c.cache_read_tokens + c.cache_write_tokens) as input_tokens,
  sum(c.output_tokens) as output_tokens, sum(c.cost_usd) as cost_usd
from nightshift.llm_calls c join rhythm r using (project_id)
where c.created_at > r.now - interval '24 hours'
group by 1, 2 having sum(c.cost_usd) > 0 order by cost_usd desc$$),
('audit-verify-nightly', 'Verifies the whole audit log of the project every night and reports each finding.', '30 3 * * *', 300, 1, 'night-reporter',
 'The audit log does not verify. List each finding; these are signs of tampering or damage.', '{"kind": "rule", "when": {"min_rows": 1}}', $$
select f.finding ->> 'check' as check, f.finding ->> 'object' as object, f.finding ->> 'detail' as detail
from rhythm r cross join lateral (select nightshift.audit_verify(r.project_id) as result) v
cross join lateral jsonb_array_elements(v.result -> 'findings') as f (finding)$$),
('memory-maintenance', 'Collects what people taught the agents: notes on decided cards since the last run. The memory tables are not built yet, so the lessons are the task''s output and nothing is stored as memory.', '0 4 * * *', 300, 5, 'night-reporter',
 'People left these notes when they decided cards. Say, as points, which lasting lessons they hold for which agent.', '{"kind": "rule", "when": {"min_rows": 1}}', $$
select c.id as card, t.agent, c.title, c.verb, c.note
from nightshift.cards c join rhythm r using (project_id) join nightshift.tasks t on t.project_id = c.project_id and t.id = c.task_id
where c.status = 'decided' and c.decided_at > r.since and length(c.note) > 0
order by c.decided_at$$),
-- ── every hour or so ─────────────────────────────────────────────────────────────────────────────
('hourly-health', 'Whether tasks are stranded, workers silent, work waits without being claimed, or much of it fails.', '0 * * * *', 60, 1, 'night-reporter',
 'Health check: these things are wrong right now. Say what to look at first.', '{"kind": "changed", "min_rows": 1}', $$
select 'stranded: ' || v.reason as problem, v.id::text as what from nightshift.v_stranded v join rhythm r using (project_id)
union all
select 'its worker went silent', t.id::text from nightshift.tasks t join rhythm r using (project_id)
  where t.status = 'running' and t.lease_until < r.now - interval '2 minutes'
union all
select 'waits for more than 15 minutes without being claimed', 'queue ' || t.queue || ', lane ' || t.lane from nightshift.tasks t join rhythm r using (project_id)
  where t.status = 'pending' and t.run_at < r.now - interval '15 minutes' group by t.queue, t.lane
union all
select 'more than a fifth of its tasks failed within an hour', 'agent ' || t.agent from nightshift.tasks t join rhythm r using (project_id)
  where t.finished_at > r.now - interval '1 hour' group by t.agent
  having count(*) >= 5 and count(*) filter (where t.status = 'failed') * 5 > count(*)
order by 1, 2$$),
('inbox-triage', 'Looks every 30 minutes at tasks that came in and have not started, and says which are more urgent than their lane.', '*/30 * * * *', 60, 3, 'night-sorter',
 'New tasks that have not started. Verdicts: "raise" if it is clearly more urgent than its lane (0 urgent to 5 background), "lower" if clearly less, else "keep".',
 '{"kind": "rule", "when": {"min_rows": 1}}', $$
select t.id::text, t.agent, t.lane, t.labels, t.deadline_at, t.created_at, left(t.input::text, 500) as input
from nightshift.tasks t join rhythm r using (project_id)
where t.status = 'pending' and t.started_at is null and t.created_at > r.since and coalesce(t.idempotency_key, '') not like 'rhythm:%'
order by t.lane, t.id$$),
('stale-work-sweep', 'Live tasks without any progress for a day.', '15 */4 * * *', 120, 4, 'night-sorter',
 'These tasks are live and made no progress for a day. Verdicts: "cancel" if it has become pointless, "push" if somebody must do something, else "wait".',
 '{"kind": "changed", "min_rows": 1}', $$
select t.id::text, t.agent, t.status, t.lane, t.created_at, coalesce(t.progress_at, t.created_at) as last_progress, left(t.input::text, 300) as input
from nightshift.tasks t join rhythm r using (project_id)
where t.status in ('blocked', 'pending', 'running', 'awaiting_tool', 'awaiting_approval', 'awaiting_children')
  and coalesce(t.progress_at, t.created_at) < r.now - interval '24 hours'
order by last_progress$$),
('retry-candidates', 'Tasks that failed for a reason that may have passed: outside services, rate limits, lost workers.', '45 */2 * * *', 120, 4, 'night-sorter',
 'These tasks failed for a reason that may have passed. Verdicts: "retry" if trying again is likely to help and does no harm, else "leave".',
 '{"kind": "rule", "when": {"min_rows": 1}}', $$
select t.id::text, t.agent, t.failure_class, t.attempt, t.finished_at, left(t.error ->> 'message', 300) as message
from nightshift.tasks t join rhythm r using (project_id)
where t.status = 'failed' and t.failure_class in ('external', 'rate_limit', 'internal', 'stuck', 'context_loss') and t.finished_at > r.since
order by t.id$$),
('cost-outliers', 'Tasks that cost more than five times what their agent usually costs.', '30 * * * *', 60, 3, 'night-reporter',
 'These finished tasks cost far more than their agent usually does. Say which are worth a look and why.', '{"kind": "rule", "when": {"min_rows": 1}}', $$
select t.id, t.agent, t.status, t.spent_usd, usual.median_usd, t.step_count
from rhythm r join nightshift.tasks t using (project_id)
cross join lateral (
  select percentile_cont(0.5) within group (order by u.spent_usd) as median_usd, count(*) as tasks from nightshift.tasks u
  where u.project_id = t.project_id and u.agent = t.agent and u.finished_at > r.now - interval '30 days') usual
where t.finished_at > r.since and t.spent_usd > 0 and usual.tasks >= 5 and t.spent_usd > 5 * usual.median_usd
order by t.spent_usd desc$$),
('cards-waiting', 'Cards that have been waiting for a decision for two hours.', '0 */2 * * *', 60, 3, 'night-reporter',
 'These cards wait for a person. Say which expire first and what then happens.', '{"kind": "changed", "min_rows": 1}', $$
select c.id, c.title, c.risk, c.deadline_at, c.on_expiry, c.consequence, t.agent
from nightshift.cards c join rhythm r using (project_id) join nightshift.tasks t on t.project_id = c.project_id and t.id = c.task_id
where c.status = 'open' and c.created_at < r.now - interval '2 hours'
order by c.deadline_at nulls last$$),
-- ── every few minutes ────────────────────────────────────────────────────────────────────────────
('deadline-watch', 'Tasks whose deadline is within the hour and that nobody works on.', '*/10 * * * *', 0, 1, 'night-reporter',
 'These tasks miss their deadline within the hour unless something happens. Say what each one waits for.', '{"kind": "changed", "min_rows": 1}', $$
select t.id, t.agent, t.status, t.lane, t.deadline_at
from nightshift.tasks t join rhythm r using (project_id)
where t.deadline_at between r.now and r.now + interval '1 hour' and t.status not in ('running', 'completed', 'failed', 'cancelled')
order by t.deadline_at, t.id$$),
('queue-backlog-watch', 'Queues with more than 100 waiting tasks, or whose oldest has waited for 15 minutes.', '*/10 * * * *', 0, 2, 'night-reporter',
 'These queues fall behind. Say which and how badly.', '{"kind": "changed", "min_rows": 1}', $$
select t.queue, t.lane, case when count(*) > 1000 then 'more than 1000' when count(*) > 100 then 'more than 100' else 'up to 100' end as waiting,
  min(t.run_at) < r.now - interval '15 minutes' as late
from nightshift.tasks t join rhythm r using (project_id)
where t.status = 'pending'
group by t.queue, t.lane, r.now having count(*) > 100 or min(t.run_at) < r.now - interval '15 minutes'
order by 1, 2$$),
('model-error-watch', 'Models of which at least a fifth of the calls failed within an hour.', '*/15 * * * *', 0, 2, 'night-reporter',
 'Calls to these models fail. Say which models and what the errors have in common.', '{"kind": "changed", "min_rows": 1}', $$
select c.model, c.provider, case when count(c.error) * 2 > count(*) then 'more than half' else 'a fifth to a half' end as failing, left(max(c.error ->> 'message'), 300) as message
from nightshift.llm_calls c join rhythm r using (project_id)
where c.created_at > r.now - interval '1 hour'
group by 1, 2 having count(*) >= 5 and count(c.error) * 5 >= count(*)
order by 1$$),
('unsealed-log-watch', 'Audit events that have not been sealed for 15 minutes: the sweep stands still, or a transaction never ends.', '*/15 * * * *', 0, 1, 'night-reporter',
 'The audit log is not being sealed. Say since when.', '{"kind": "changed", "min_rows": 1}', $$
select min(e.at) as unsealed_since
from nightshift.audit_events e join rhythm r using (project_id)
where e.at between r.now - interval '2 days' and r.now - interval '15 minutes' and not exists (
  select from nightshift.audit_seals s where s.project_id = e.project_id and e.xid >= s.from_xid and e.xid < s.to_xid)
having count(*) > 0$$),
-- ── every week or month ──────────────────────────────────────────────────────────────────────────
('weekly-end-to-end-check', 'Sends one small task all the way through: schedule, queue, worker, model, output. Its task is the proof.', '0 5 * * mon', 300, 3, 'night-checker',
 'Weekly end-to-end check: did this question reach you?', '{"kind": "always"}', ''),
('weekly-self-improvement', 'Looks at failures and rejected cards of the week and proposes changes to agents, as cards only: nothing changes by itself.', '0 6 * * sun', 300, 5, 'night-improver',
 'How the agents failed last week and which of their actions people rejected.', '{"kind": "rule", "when": {"min_rows": 1}}', $$
select 'failed' as what, t.agent, t.failure_class as kind, count(*) as times, left(max(t.error ->> 'message'), 300) as example
from nightshift.tasks t join rhythm r using (project_id)
where t.status = 'failed' and t.finished_at > r.now - interval '7 days' group by t.agent, t.failure_class
union all
select 'rejected by a person', t.agent, c.action ->> 'tool', count(*), left(max(c.note), 300)
from nightshift.cards c join rhythm r using (project_id) join nightshift.tasks t on t.project_id = c.project_id and t.id = c.task_id
where c.verb = 'reject' and c.decided_at > r.now - interval '7 days' group by t.agent, c.action ->> 'tool'
order by times desc$$),
('slow-agent-report', 'Agents whose slow tasks (95th percentile) take half as long again as in the week before.', '0 6 * * mon', 300, 5, 'night-reporter',
 'These agents have become slow. Say by how much.', '{"kind": "rule", "when": {"min_rows": 1}}', $$
select w.agent, round(w.this_week::numeric, 1) as p95_seconds, round(w.week_before::numeric, 1) as p95_seconds_before, w.tasks
from (
  select t.agent, count(*) filter (where t.finished_at > r.now - interval '7 days') as tasks,
    count(*) filter (where t.finished_at <= r.now - interval '7 days') as tasks_before,
    percentile_cont(0.95) within group (order by extract(epoch from t.finished_at - t.started_at)) filter (where t.finished_at > r.now - interval '7 days') as this_week,
    percentile_cont(0.95) within group (order by extract(epoch from t.finished_at - t.started_at)) filter (where t.finished_at <= r.now - interval '7 days') as week_before
  from nightshift.tasks t join rhythm r using (project_id)
  where t.status = 'completed' and t.finished_at > r.now - interval '14 days' group by t.agent) w
where w.tasks >= 5 and w.tasks_before >= 5 and w.this_week > 1 and w.this_week > 1.5 * w.week_before
order by w.this_week desc$$),
('model-mix-report', 'Which models did the work of the week: calls, tokens, cost, errors, latency.', '30 6 * * mon', 300, 5, 'night-reporter',
 'Which models did the work of the last 7 days. Name expensive and slow ones.', '{"kind": "rule", "when": {"min_rows": 1}}', $$
select c.model, count(*) as calls, count(c.error) as errors, sum(c.input_tokens) as input_tokens, sum(c.output_tokens) as output_tokens,
  sum(c.cost_usd) as cost_usd, round((percentile_cont(0.95) within group (order by c.latency_ms))::numeric) as p95_ms
from nightshift.llm_calls c join rhythm r using (project_id)
where c.created_at > r.now - interval '7 days'
group by c.model order by cost_usd desc, calls desc$$),
('decision-review', 'How people decided the cards of the week, per agent and tool, and how long that took.', '0 16 * * fri', 300, 5, 'night-reporter',
 'How people decided cards in the last 7 days. Name actions that are always approved (is the card needed?) and often rejected (is the agent right?).',
 '{"kind": "rule", "when": {"min_rows": 1}}', $$
select t.agent, c.action ->> 'tool' as tool, count(*) filter (where c.verb = 'approve') as approved, count(*) filter (where c.verb = 'edit') as edited,
  count(*) filter (where c.verb = 'reject') as rejected, count(*) filter (where c.verb = 'respond') as answered, count(*) filter (where c.status = 'expired') as expired,
  round((percentile_cont(0.5) within group (order by extract(epoch from c.decided_at - c.created_at)))::numeric / 60, 1) as median_minutes
from nightshift.cards c join rhythm r using (project_id) join nightshift.tasks t on t.project_id = c.project_id and t.id = c.task_id
where c.status in ('decided', 'expired') and coalesce(c.decided_at, c.deadline_at) > r.now - interval '7 days'
group by 1, 2 order by rejected desc, approved desc$$),
('rhythm-review', 'Rhythms that failed or missed slots this week, or that never had anything to do.', '0 7 * * mon', 300, 5, 'night-reporter',
 'These rhythms did not do well last week: failures, missed slots, or nothing ever to do. Say which to repair, slow down or drop.',
 '{"kind": "rule", "when": {"min_rows": 1}}', $$
select h.name, h.schedule, count(*) filter (where n.outcome = 'acted') as acted, count(*) filter (where n.outcome = 'skipped') as skipped,
  count(*) filter (where n.outcome = 'missed') as missed, count(*) filter (where n.outcome = 'failed') as failed,
  max(n.reason) filter (where n.outcome = 'failed') as why
from nightshift.rhythms h join rhythm r using (project_id) join nightshift.rhythm_runs n on n.rhythm_id = h.id and n.project_id = h.project_id
where n.slot > r.now - interval '7 days' and n.slot < r.slot
group by h.name, h.schedule
having count(*) filter (where n.outcome in ('missed', 'failed')) > 0 or (count(*) >= 20 and count(*) filter (where n.outcome = 'acted') = 0)
order by failed desc, missed desc$$),
('access-review', 'Who was added, removed or changed in the last month, and which agents and tools were redefined.', '0 9 1 * *', 300, 5, 'night-reporter',
 'Access review: changes of members, agents and tools in the last month, with who made them. Name what somebody should confirm.',
 '{"kind": "rule", "when": {"min_rows": 1}}', $$
select e.action, e.object_id as what, e.meta ->> 'role' as role, e.actor, count(*) as times, max(e.at) as last
from nightshift.audit_events e join rhythm r using (project_id)
where e.at > r.now - interval '1 month' and e.object_type in ('members', 'agents', 'tools')
group by 1, 2, 3, 4 order by last desc$$)
) as v (name, description, schedule, jitter, lane, agent, ask, decide, query);

-- The definition that a template and overrides make, with its name; makes the agents it needs where the
-- project has none of the name, and leaves those it has alone.
create function nightshift_private.prepare_template(p_project uuid, p_template text, p_overrides jsonb) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_template jsonb;
  v_agent record;
begin
  perform nightshift_private.require_role(p_project, 'install rhythms', 'owner', 'operator');
  perform nightshift_private.check_payload('overrides', p_overrides);
  select pg_catalog.to_jsonb(t) into v_template from nightshift.rhythm_templates t where t.name = p_template;
  if v_template is null then perform nightshift_private.fault('NS074', coalesce(pg_catalog.left(p_template, 80), 'null')); end if;
  if pg_catalog.jsonb_typeof(p_overrides) is distinct from 'object' or pg_catalog.jsonb_typeof(coalesce(p_overrides -> 'act', '{}')) <> 'object' then
    perform nightshift_private.fault('NS001', 'overrides and overrides.act must be JSON objects');
  end if;
  v_template := v_template || p_overrides || pg_catalog.jsonb_build_object('act', (v_template -> 'act') || coalesce(p_overrides -> 'act', '{}'));
  for v_agent in
    select a.* from nightshift.agent_templates a
    where a.name in (v_template #>> '{act,agent}', v_template #>> '{decide,agent}')
      and not exists (select from nightshift.agents g where g.project_id = p_project and g.name = a.name and g.active)
  loop
    perform nightshift.set_tool(p_project, key, value) from pg_catalog.jsonb_each(v_agent.tools)
      where not exists (select from nightshift.tools t where t.project_id = p_project and t.name = key);
    perform nightshift.set_agent(p_project, v_agent.name, v_agent.definition);
  end loop;
  return v_template - 'needs_agents';
end
$$;

-- Makes a rhythm of a template; returns its id. overrides: name and any field of a definition, `act` field by
-- field, for example {"time_zone": "Europe/Berlin", "act": {"lane": 5}}. Missing agents are made on the way.
create function nightshift.install_rhythm(project uuid, template text, overrides jsonb default '{}', person uuid default null) returns bigint
language plpgsql set search_path = '' as $$
declare
  v_definition jsonb := nightshift_private.prepare_template(project, template, overrides);
begin
  return nightshift.set_rhythm(project, v_definition ->> 'name', v_definition - 'name', person);
end
$$;

grant execute on function nightshift_private.prepare_template(uuid, text, jsonb), nightshift.install_rhythm(uuid, text, jsonb, uuid) to authenticated, service_role;

revoke execute on all functions in schema nightshift, nightshift_private from public;
