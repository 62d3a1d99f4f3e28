-- Models: the catalog that routing reads, as rows. Adding a model is one row.

create table nightshift.models (
  name text primary key,
  provider text not null check (provider in ('anthropic', 'openai', 'openrouter', 'practice')),
  provider_model text not null,
  protocol text not null check (protocol in ('anthropic', 'openai')),
  tier text not null check (tier in ('ultra', 'mid', 'cheap', 'reasoning', 'embed')),
  rank smallint not null,
  input_usd numeric(12, 6) not null check (input_usd >= 0),
  output_usd numeric(12, 6) not null check (output_usd >= 0),
  cache_read_usd numeric(12, 6) not null check (cache_read_usd >= 0),
  cache_write_usd numeric(12, 6) not null check (cache_write_usd >= 0),
  context_tokens int not null,
  region text not null,
  processor text not null,
  active boolean not null default true,
  unique (tier, rank)
);
comment on table nightshift.models is 'Model catalog: tier and waterfall rank, USD per million tokens, region and processor.';

alter table nightshift.models enable row level security;
create policy everyone_reads_models on nightshift.models for select to authenticated using (true);
grant select on nightshift.models to authenticated, service_role;

-- Prices as @pydantic/genai-prices 0.1.8 knows them (MIT). Practice models stand last in each tier: the
-- router takes the first whose provider has a key, so they answer only where no key is configured, at
-- no cost, and are marked as practice everywhere.
insert into nightshift.models (name, provider, provider_model, protocol, tier, rank, input_usd, output_usd,
  cache_read_usd, cache_write_usd, context_tokens, region, processor) values
  ('claude-opus-5-5', 'anthropic', 'claude-opus-5-5', 'anthropic', 'ultra', 10, 4, 20, 0.2, 5, 1000000, 'us', 'Anthropic PBC'),
  ('claude-sonnet-4-6', 'anthropic', 'claude-sonnet-4-6', 'anthropic', 'mid', 10, 3, 15, 0.3, 3.75, 1000000, 'us', 'Anthropic PBC'),
  ('claude-haiku-4-5', 'anthropic', 'claude-haiku-4-5', 'anthropic', 'cheap', 10, 1, 5, 0.1, 1.25, 200000, 'us', 'Anthropic PBC'),
  ('gpt-5.5', 'openai', 'gpt-5.5', 'openai', 'reasoning', 10, 10, 30, 1, 10, 1000000, 'us', 'OpenAI OpCo LLC'),
  ('gpt-5.4-mini', 'openai', 'gpt-5.4-mini', 'openai', 'mid', 20, 0.75, 4.5, 0.075, 0.75, 400000, 'us', 'OpenAI OpCo LLC'),
  ('gpt-5-mini', 'openai', 'gpt-5-mini', 'openai', 'cheap', 20, 0.25, 2, 0.025, 0.25, 400000, 'us', 'OpenAI OpCo LLC'),
  ('practice-ultra', 'practice', 'practice-ultra', 'anthropic', 'ultra', 1000, 0, 0, 0, 0, 200000, 'local', 'practice'),
  ('practice-mid', 'practice', 'practice-mid', 'anthropic', 'mid', 1000, 0, 0, 0, 0, 200000, 'local', 'practice'),
  ('practice-cheap', 'practice', 'practice-cheap', 'openai', 'cheap', 1000, 0, 0, 0, 0, 200000, 'local', 'practice'),
  ('practice-reasoning', 'practice', 'practice-reasoning', 'openai', 'reasoning', 1000, 0, 0, 0, 0, 200000, 'local', 'practice');
