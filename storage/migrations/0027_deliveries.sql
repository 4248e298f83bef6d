-- Mail and web push: what is to be sent, to whom, and what became of it.

alter table users add column email_verified_at timestamptz; -- the person has shown that the address is theirs

-- A browser that takes pushes (W3C Push API). It goes with its login.
create table push_subscriptions (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null references users on delete cascade,
    session_id uuid references sessions on delete cascade, -- null: made with a token of no login
    endpoint text not null unique,
    p256dh bytea not null check (octet_length(p256dh) = 65), -- the browser's public key
    auth bytea not null check (octet_length(auth) = 16), -- and its secret
    created_at timestamptz not null default now()
);
create index push_subscriptions_by_user on push_subscriptions (user_id);
create index push_subscriptions_by_session on push_subscriptions (session_id);

-- An outbox. Rows are written in the transaction that makes the notification; whoever takes one moves `next_at` on, so
-- that it is taken again if the worker dies before it says what became of it.
create table deliveries (
    id uuid primary key default gen_random_uuid(), -- also in the Message-ID
    way varchar(10) not null check (way in ('mail', 'push')),
    user_id uuid not null references users on delete cascade,
    subscription_id uuid references push_subscriptions on delete cascade,
    kind text not null,
    course_id uuid,
    data jsonb not null default '{}',
    created_at timestamptz not null default clock_timestamp(),
    next_at timestamptz not null default clock_timestamp(),
    attempts integer not null default 0,
    sent_at timestamptz,
    failed_at timestamptz, -- for good
    error text not null default ''
);
create index deliveries_waiting on deliveries (way, next_at) where sent_at is null and failed_at is null;
create index deliveries_done on deliveries (created_at) where sent_at is not null or failed_at is not null;
create index deliveries_by_user on deliveries (user_id, kind, created_at);
create index deliveries_by_subscription on deliveries (subscription_id) where subscription_id is not null;

-- By which ways people are told of a kind unless they say otherwise.
create table notification_kinds (
    kind text primary key,
    mail boolean not null,
    push boolean not null
);
insert into notification_kinds (kind, mail, push) values
    ('enrollment.added', true, false),
    ('assignment.published', true, true),
    ('assignment.due', true, true),
    ('submission.graded', true, true),
    ('quiz.published', true, true),
    ('quiz.due', true, true),
    ('quiz.marked', true, true),
    ('post.created', false, true),
    ('post.mentioned', true, true),
    ('post.accepted', false, true);

-- What somebody says otherwise. Null: as above.
create table notification_ways (
    user_id uuid primary key references users on delete cascade,
    mail text[],
    push text[]
);
