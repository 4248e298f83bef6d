-- Live classes. What a class is at a moment is a fold of its log, the channel `class:<id>` (realtime/classroom.py); here
-- is what the fold does not hold: what is one row a person, and where the fold has come to.

create table classes (
    id uuid primary key,
    course_id uuid not null references courses on delete cascade,
    title varchar(255) not null,
    starts_at timestamptz not null,
    ends_at timestamptz not null check (ends_at > starts_at),
    media varchar(20) not null default 'p2p',
    created_by uuid references users on delete set null,
    created_at timestamptz not null default now(),
    started_at timestamptz, -- as the fold has it; written by every node that folds it
    ended_at timestamptz,
    cancelled_at timestamptz
);
create index classes_by_course on classes (course_id, starts_at desc, id desc);
create index classes_open on classes (ends_at) where ended_at is null and cancelled_at is null;

-- The fold at an offset, so that a node that takes over does not begin at the first one.
create table class_states (
    class_id uuid primary key references classes on delete cascade,
    "offset" bigint not null,
    state bytea not null
);

-- Who has come. "offset" is the first of the log's that they saw: what the fold says before it decides whether they are in.
create table class_seats (
    class_id uuid not null references classes on delete cascade,
    user_id uuid not null references users on delete cascade,
    "offset" bigint not null,
    taken_at timestamptz not null default clock_timestamp(),
    primary key (class_id, user_id)
);
create index class_seats_in_order on class_seats (class_id, taken_at, user_id);

create table class_polls (
    id uuid primary key,
    class_id uuid not null references classes on delete cascade,
    question text not null,
    options text[] not null,
    correct integer, -- of a quiz; from 0
    anonymous boolean not null,
    points numeric not null default 0,
    asked_by uuid references users on delete set null,
    asked_at timestamptz not null default clock_timestamp()
);
create index class_polls_by_class on class_polls (class_id, asked_at);

create table class_votes (
    poll_id uuid not null references class_polls on delete cascade,
    user_id uuid not null references users on delete cascade,
    option integer not null,
    voted_at timestamptz not null default clock_timestamp(),
    primary key (poll_id, user_id)
);

create table class_attendance (
    class_id uuid not null references classes on delete cascade,
    user_id uuid not null references users on delete cascade,
    first_at timestamptz not null default clock_timestamp(),
    last_at timestamptz not null default clock_timestamp(),
    seconds double precision not null default 0, -- present
    joins integer not null default 1, -- those who were back within a minute have not been away
    primary key (class_id, user_id)
);

-- How people stand to classes, one row for each question about a class that there is. As in 0025 the planner has no
-- choice, and plans once.
create function class_standings(class_ids uuid[], people uuid[]) returns table (
    i integer, course_id uuid, role text, name text, seat bigint
) language sql stable
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan as $$
    select t.i::integer, k.course_id,
           case when e.role in ('teacher', 'assistant') then e.role::text
                when u.role = 'admin' then 'teacher'
                when e.role is not null and c.status <> 'draft' then e.role::text end,
           u.name, s."offset"
    from unnest(class_ids, people) with ordinality as t(class_id, person, i)
    join classes k on k.id = t.class_id
    join courses c on c.id = k.course_id
    left join users u on u.id = t.person and u.disabled_at is null
    left join enrollments e on e.course_id = k.course_id and e.user_id = u.id and e.status in ('active', 'completed')
    left join class_seats s on s.class_id = k.id and s.user_id = u.id
$$;

-- Take seats, or take them anew where `again` says that one is lost. One row each, with the seat's offset, and the
-- offset of the log in the snapshot in which it was taken.
create function take_seats(class_ids uuid[], people uuid[], again boolean[]) returns table (i integer, seat bigint, head bigint)
language sql volatile as $$
    with input as (
        select t.i::integer as i, t.class_id, t.person, t.anew, coalesce(c.last_offset, 0) as head
        from unnest(class_ids, people, again) with ordinality as t(class_id, person, anew, i)
        left join channels c on c.name = 'class:' || t.class_id
    ), taken as (
        insert into class_seats (class_id, user_id, "offset")
        select n.class_id, n.person, n.head + 1 from input n order by n.class_id, n.person
        on conflict (class_id, user_id) do update
        set "offset" = case when exists (
                select from input n where n.class_id = class_seats.class_id and n.person = class_seats.user_id and n.anew)
            then greatest(class_seats."offset", excluded."offset") else class_seats."offset" end,
            taken_at = case when class_seats."offset" < excluded."offset" and exists (
                select from input n where n.class_id = class_seats.class_id and n.person = class_seats.user_id and n.anew)
            then excluded.taken_at else class_seats.taken_at end
        returning *
    )
    select n.i, t."offset", n.head from input n join taken t on t.class_id = n.class_id and t.user_id = n.person
$$;

-- Somebody's first answer to a poll counts. One row each: the one that counts, and the offset of the log.
create function cast_votes(poll_ids uuid[], people uuid[], picks integer[]) returns table (
    i integer, counts integer, fresh boolean, head bigint
) language sql volatile as $$
    with input as (
        select t.i::integer as i, t.poll_id, t.person, t.pick, coalesce(c.last_offset, 0) as head
        from unnest(poll_ids, people, picks) with ordinality as t(poll_id, person, pick, i)
        join class_polls p on p.id = t.poll_id
        left join channels c on c.name = 'class:' || p.class_id
    ), cast_ as (
        insert into class_votes (poll_id, user_id, option)
        select n.poll_id, n.person, n.pick from input n order by n.poll_id, n.person, n.i
        on conflict (poll_id, user_id) do nothing returning *
    )
    select n.i, coalesce(t.option, v.option), t.option is not null, n.head
    from input n
    left join cast_ t on t.poll_id = n.poll_id and t.user_id = n.person
    left join class_votes v on v.poll_id = n.poll_id and v.user_id = n.person
$$;

-- People are present now. Who was last seen less than `merge` seconds ago has been there since.
create function attend(class_ids uuid[], people uuid[], merge double precision) returns void language sql volatile as $$
    insert into class_attendance as a (class_id, user_id)
    select distinct t.class_id, t.person from unnest(class_ids, people) as t(class_id, person) order by 1, 2
    on conflict (class_id, user_id) do update
    set seconds = a.seconds + case when clock_timestamp() - a.last_at <= make_interval(secs => merge)
                              then greatest(extract(epoch from clock_timestamp() - a.last_at), 0) else 0 end,
        joins = a.joins + case when clock_timestamp() - a.last_at <= make_interval(secs => merge) then 0 else 1 end,
        last_at = greatest(a.last_at, clock_timestamp())
$$;

-- Quizzes of classes have points like those of courses, and are counted with them.
create or replace function item_points(item_kind text, item uuid) returns numeric language sql stable as $$
    select case item_kind
        when 'quiz' then coalesce((select points from quizzes where id = item), (select points from class_polls where id = item))
        else (select points from assignments where id = item) end
$$;
