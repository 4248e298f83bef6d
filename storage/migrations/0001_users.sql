-- People and their logins.

create table users (
    id uuid primary key default gen_random_uuid(),
    email varchar(255) not null unique, -- in lower case: storage/users.py sees to it
    password_hash varchar(255) not null,
    name text not null default '',
    role varchar(50) not null,
    created_at timestamptz not null default now(),
    disabled_at timestamptz
);

create index users_by_age on users (created_at, id);

-- A login on one device. Its refresh token changes at each use; every token it ever had stays below, so that a second
-- use of one is noticed.
create table sessions (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null references users on delete cascade,
    user_agent text not null default '',
    created_at timestamptz not null default now(),
    last_used_at timestamptz not null default now(),
    expires_at timestamptz not null,
    revoked_at timestamptz
);

create index sessions_by_user on sessions (user_id);
create index sessions_by_expiry on sessions (expires_at);

create table refresh_tokens (
    token_hash bytea primary key check (octet_length(token_hash) = 32), -- SHA-256 of the token
    session_id uuid not null references sessions on delete cascade,
    created_at timestamptz not null default now(),
    used_at timestamptz
);

create index refresh_tokens_by_session on refresh_tokens (session_id);
