-- Forums of courses. What is said in a thread is a row of `posts`, and a publication of the durable channel
-- `thread:<course>:<thread>`, written in one transaction.

create table threads (
    id uuid primary key,
    course_id uuid not null references courses on delete cascade,
    author_id uuid references users on delete set null,
    title varchar(255) not null,
    pinned boolean not null default false,
    locked boolean not null default false,
    posts integer not null default 0, -- ever made: the number of the last one
    accepted_id uuid, -- the post that answers the question
    created_at timestamptz not null default now(),
    active_at timestamptz not null default clock_timestamp(), -- when the last post was made
    unique (course_id, id)
);
create index threads_by_activity on threads (course_id, pinned desc, active_at desc, id desc);

create table posts (
    thread_id uuid not null references threads on delete cascade,
    number integer not null, -- 1, 2, 3 …
    id uuid not null unique,
    author_id uuid references users on delete set null,
    parent_id uuid, -- what it answers
    content text not null,
    created_at timestamptz not null default clock_timestamp(),
    edited_at timestamptz,
    deleted_at timestamptz, -- its content is gone then; its number stays
    primary key (thread_id, number)
);

create table thread_followers (
    thread_id uuid not null references threads on delete cascade,
    user_id uuid not null references users on delete cascade,
    primary key (thread_id, user_id)
);

-- Whether somebody may be in threads, one row for each question to which the answer is yes.
create function thread_readers(course_ids uuid[], thread_ids uuid[], user_ids uuid[]) returns table (i integer)
language sql stable as $$
    select t.i::integer
    from unnest(course_ids, thread_ids, user_ids) with ordinality as t(course_id, thread_id, user_id, i)
    join threads h on h.course_id = t.course_id and h.id = t.thread_id
    join courses c on c.id = t.course_id
    join users u on u.id = t.user_id and u.disabled_at is null
    left join enrollments e on e.course_id = t.course_id and e.user_id = t.user_id and e.status in ('active', 'completed')
    where u.role = 'admin' or e.role in ('teacher', 'assistant') or e.role is not null and c.status <> 'draft'
$$;
