-- Supabase Vault (0.3) as a stand-in: the same schema, signatures and rights.
-- It is no safe: secrets are enciphered so that no dump or table scan shows them in plain text, but
-- the key stands in this file. The hosted extension keeps its key outside the database.

create schema if not exists vault;

-- The hosted table, down to the partial unique index; `key_id` is unused there too.
create table if not exists vault.secrets (
  id uuid primary key default gen_random_uuid(),
  name text,
  description text not null default '',
  secret text not null,
  key_id uuid,
  nonce bytea default extensions.gen_random_bytes(16),
  created_at timestamptz not null default current_timestamp,
  updated_at timestamptz not null default current_timestamp
);
create unique index if not exists secrets_name_idx on vault.secrets (name) where name is not null;

create or replace function vault._crypto_aead_det_encrypt(
  message bytea, additional bytea, key_id bigint, context bytea default 'pgsodium', nonce bytea default null
) returns bytea
language sql immutable
set search_path = ''
as $$
  select extensions.encrypt_iv(message, 'stand-in, no safe', nonce, 'aes')
$$;
comment on function vault._crypto_aead_det_encrypt is
  'Enciphers for vault.create_secret; hosted it also authenticates "additional"';

create or replace function vault._crypto_aead_det_decrypt(
  message bytea, additional bytea, key_id bigint, context bytea default 'pgsodium', nonce bytea default null
) returns bytea
language sql immutable
set search_path = ''
as $$
  select extensions.decrypt_iv(message, 'stand-in, no safe', nonce, 'aes')
$$;
comment on function vault._crypto_aead_det_decrypt is
  'Deciphers for the view; a role that reads vault.decrypted_secrets needs execute here as well';

create or replace view vault.decrypted_secrets as
select
  s.id,
  s.name,
  s.description,
  s.secret,
  convert_from(
    vault._crypto_aead_det_decrypt(
      decode(s.secret, 'base64'), convert_to(s.id::text, 'utf8'), 0, 'pgsodium', s.nonce
    ),
    'utf8'
  ) as decrypted_secret,
  s.key_id,
  s.nonce,
  s.created_at,
  s.updated_at
from vault.secrets s;

create or replace function vault.create_secret(
  new_secret text, new_name text default null, new_description text default '', new_key_id uuid default null
) returns uuid
language plpgsql security definer
set search_path = ''
as $$
declare
  v_id uuid := gen_random_uuid();
  v_nonce bytea := extensions.gen_random_bytes(16);
begin
  insert into vault.secrets (id, name, description, nonce, secret)
  values (
    v_id,
    new_name,
    new_description,
    v_nonce,
    encode(
      vault._crypto_aead_det_encrypt(
        convert_to(new_secret, 'utf8'), convert_to(v_id::text, 'utf8'), 0, 'pgsodium', v_nonce
      ),
      'base64'
    )
  );
  return v_id;
end
$$;
comment on function vault.create_secret is
  'Stores a secret and returns its id; a name that exists raises 23505';

create or replace function vault.update_secret(
  secret_id uuid,
  new_secret text default null,
  new_name text default null,
  new_description text default null,
  new_key_id uuid default null
) returns void
language plpgsql security definer
set search_path = ''
as $$
begin
  update vault.secrets s
  set
    secret = coalesce(
      encode(
        vault._crypto_aead_det_encrypt(
          convert_to(new_secret, 'utf8'), convert_to(s.id::text, 'utf8'), 0, 'pgsodium', s.nonce
        ),
        'base64'
      ),
      s.secret
    ),
    name = coalesce(new_name, s.name),
    description = coalesce(new_description, s.description),
    updated_at = now()
  where s.id = secret_id;
end
$$;
comment on function vault.update_secret is
  'Changes what is not null; an unknown id changes nothing and raises nothing';

-- Rights as hosted: `postgres` and `service_role` read and delete, writing goes through the functions,
-- everyone else has nothing.
revoke all on function
  vault._crypto_aead_det_encrypt,
  vault._crypto_aead_det_decrypt,
  vault.create_secret,
  vault.update_secret
from public;
grant usage on schema vault to postgres with grant option;
grant select, delete, truncate, references on vault.secrets, vault.decrypted_secrets
  to postgres with grant option;
grant execute on function vault.create_secret, vault.update_secret, vault._crypto_aead_det_decrypt
  to postgres with grant option;
grant usage on schema vault to service_role;
grant select, delete on vault.secrets, vault.decrypted_secrets to service_role;
grant execute on function vault.create_secret, vault.update_secret, vault._crypto_aead_det_decrypt
  to service_role;
