-- Keys with which programs act for whoever made them. Of a key itself its SHA-256 alone is kept.
create table api_keys (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null references users on delete cascade,
    name text not null,
    prefix text not null, -- how it begins, to tell it from others
    key_hash bytea not null unique check (octet_length(key_hash) = 32),
    scopes text[] not null check (cardinality(scopes) > 0),
    created_at timestamptz not null default now(),
    expires_at timestamptz, -- null: never
    last_used_at timestamptz -- to the minute
);
create index api_keys_by_user on api_keys (user_id, created_at, id);
