-- What people are told, and what is counted for reports. Both are made from `course_events`.

create table notifications (
    id uuid primary key default gen_random_uuid(), -- also the id of its publication in the personal channel
    user_id uuid not null references users on delete cascade,
    key text not null, -- what it is about: nobody is told of it twice
    kind text not null,
    course_id uuid,
    data jsonb not null default '{}',
    created_at timestamptz not null default clock_timestamp(),
    told_at timestamptz, -- in the personal channel
    read_at timestamptz,
    unique (user_id, key)
);
create index notifications_by_user on notifications (user_id, created_at, id);
create index notifications_untold on notifications (created_at) where told_at is null;

-- Kept: a badge that counts rows would count them at each look.
create table notification_counts (
    user_id uuid primary key references users on delete cascade,
    unread integer not null default 0
);

create function count_notifications() returns trigger language plpgsql as $$
begin
    insert into notification_counts as c (user_id, unread)
    select user_id, n from (
        select user_id, count(*) filter (where read_at is null) as n from added group by user_id
    ) a order by user_id
    on conflict (user_id) do update set unread = c.unread + excluded.unread;
    return null;
end $$;
create trigger notifications_added after insert on notifications
    referencing new table as added for each statement execute function count_notifications();

-- What somebody does not want to be told. No row: they do.
create table notification_mutes (
    user_id uuid not null references users on delete cascade,
    kind text not null,
    primary key (user_id, kind)
);

-- Events by course, day and kind, added up as they come. `course_id` of zeros: the whole school.
create table activity (
    course_id uuid not null,
    day date not null,
    kind text not null,
    events bigint not null default 0,
    primary key (course_id, day, kind)
);
