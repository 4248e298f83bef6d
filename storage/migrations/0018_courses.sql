-- Courses: what is taught, who takes part, and what happened. What builds on them has migrations of its own.

alter table rooms
    drop constraint rooms_kind_check,
    add constraint rooms_kind_check check (kind in ('direct', 'group', 'course'));

create table courses (
    id uuid primary key default gen_random_uuid(),
    title varchar(255) not null,
    description text not null default '',
    instructor_id uuid references users (id) on delete set null,
    status varchar(50) not null default 'draft' check (status in ('draft', 'published', 'archived')),
    publish_at timestamptz, -- a draft is published then
    admission varchar(20) not null default 'code' check (admission in ('open', 'code', 'closed')),
    code text unique, -- opens the course to whoever has it
    capacity integer check (capacity > 0), -- of students; null: no limit
    students integer not null default 0, -- active ones; kept, because a list of courses would count them each time
    metadata jsonb not null default '{}', -- tags, difficulty
    search tsvector generated always as (to_tsvector('simple', title || ' ' || description)) stored,
    room_id uuid references rooms on delete set null, -- its discussion
    version integer not null default 1, -- one more with each change of the course, its modules or its lessons
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create index courses_catalogue on courses (created_at, id) where status = 'published' and admission <> 'closed';
create index courses_by_metadata on courses using gin (metadata jsonb_path_ops);
create index courses_by_instructor on courses (instructor_id);
create index courses_search on courses using gin (search);
create index courses_due on courses (publish_at) where status = 'draft' and publish_at is not null;

create table modules (
    id uuid primary key default gen_random_uuid(),
    course_id uuid not null references courses on delete cascade,
    title varchar(255) not null,
    position integer not null,
    unique (course_id, position) deferrable initially deferred,
    unique (course_id, id)
);

create table lessons (
    id uuid primary key default gen_random_uuid(),
    course_id uuid not null,
    module_id uuid not null,
    title varchar(255) not null,
    position integer not null,
    content jsonb not null default '[]', -- blocks
    video_url text,
    duration integer check (duration >= 0), -- seconds
    status varchar(50) not null default 'draft' check (status in ('draft', 'published')),
    release_at timestamptz, -- students see it from then on; null: as soon as it is published
    completion varchar(20) not null default 'open' check (completion in ('open', 'video', 'done')),
    version integer not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    foreign key (course_id, module_id) references modules (course_id, id) on delete cascade,
    unique (module_id, position) deferrable initially deferred,
    unique (course_id, id)
);
create index lessons_by_course on lessons (course_id);
create index lessons_by_content on lessons using gin (content jsonb_path_ops);

-- Everybody who takes part, teachers and assistants too: a person has one role in a course.
create table enrollments (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null references users (id) on delete cascade,
    course_id uuid not null references courses (id) on delete cascade,
    role varchar(20) not null default 'student' check (role in ('student', 'assistant', 'teacher')),
    status varchar(50) not null default 'active' check (status in ('active', 'completed', 'dropped', 'removed')),
    enrolled_at timestamptz not null default now(),
    ended_at timestamptz,
    unique (user_id, course_id)
);
create index idx_enrollments_user on enrollments (user_id, enrolled_at, course_id);
create index idx_enrollments_course on enrollments (course_id, role, status, user_id);

-- Files of courses. `audience`: `course` is for whoever takes part, `staff` for the owner and who teaches.
alter table files
    add column course_id uuid references courses on delete set null,
    add column audience text check (audience in ('course', 'staff')),
    add column attached boolean not null default false; -- something of the course refers to it
create index files_by_course on files (course_id) where course_id is not null;

-- What happened, written in the transaction in which it happened. Notifications and reports read it, each from its own
-- cursor, so nothing is told that was rolled back and nothing is forgotten when a worker dies.
create table course_events (
    id bigint generated always as identity primary key,
    xid xid8 not null default pg_current_xact_id(),
    kind text not null,
    course_id uuid,
    actor_id uuid, -- who did it; null: the clock
    subject_id uuid, -- the assignment, thread, lesson … that it is about
    data jsonb not null default '{}',
    at timestamptz not null default clock_timestamp()
);
-- Ids are given before transactions commit: a reader goes by the transaction, and stops below the oldest that runs.
create index course_events_in_order on course_events (xid, id);

create table event_cursors (
    consumer text primary key,
    xid xid8 not null default '0',
    id bigint not null default 0
);

create function record_event(kind text, course uuid, actor uuid, subject uuid, data jsonb default '{}')
returns void language sql volatile as $$
    insert into course_events (kind, course_id, actor_id, subject_id, data) values (kind, course, actor, subject, data);
$$;

-- The next events of a consumer, oldest first, and its cursor locked until the end of the transaction: two workers of
-- one consumer take turns. Move the cursor in the same transaction.
create function next_events(reader text, most integer) returns setof course_events language plpgsql volatile as $$
declare
    seen event_cursors;
begin
    insert into event_cursors (consumer) values (reader) on conflict do nothing;
    select * into seen from event_cursors c where c.consumer = reader for update;
    return query
    select e.* from course_events e
    where (e.xid, e.id) > (seen.xid, seen.id) and e.xid < pg_snapshot_xmin(pg_current_snapshot())
    order by e.xid, e.id limit most;
end $$;

-- How somebody stands to the school and, where one is named, to a course, in one look: what rights are decided by.
create function standing_of(person uuid, course uuid) returns table (
    school_role text, course_role text, course_status text, admission text, students integer
) language sql stable as $$
    select u.role::text, e.role::text, c.status::text, c.admission::text, c.students
    from users u
    left join courses c on c.id = course
    left join enrollments e on e.course_id = c.id and e.user_id = u.id and e.status in ('active', 'completed')
    where u.id = person
$$;

-- Lock a course's discussion, the personal channel of somebody who comes or goes, and the course, in the order in which
-- everything locks: channels, then rows. What it gives is what `lock_room` gives, and the course.
create function lock_course_room(course uuid, actor uuid, subject uuid) returns table (
    id uuid, kind text, title text, open boolean, created_by uuid, created_at timestamptz, updated_at timestamptz,
    archived_at timestamptz, members integer, channel_id bigint, last_offset bigint,
    actor_role text, actor_name text, subject_role text, subject_name text, muted_until timestamptz,
    course_title text, course_status text, admission text, code text, capacity integer, students integer,
    enrolled_role text, enrolled_status text
) language plpgsql volatile as $$
#variable_conflict use_column
declare
    room uuid := (select c.room_id from courses c where c.id = course);
begin
    perform lock_channels(array['room:' || room, 'user:' || subject]);
    perform from courses c where c.id = course for update;

    return query
    select r.id, r.kind, r.title, r.open, r.created_by, r.created_at, r.updated_at, r.archived_at, r.members,
           h.id, h.last_offset, a.role, u.name, s.role, o.name, null::timestamptz,
           c.title::text, c.status::text, c.admission::text, c.code, c.capacity, c.students,
           e.role::text, e.status::text
    from courses c
    join rooms r on r.id = c.room_id
    join channels h on h.name = 'room:' || r.id
    join users u on u.id = actor
    left join room_members a on a.room_id = r.id and a.user_id = actor
    left join room_members s on s.room_id = r.id and s.user_id = subject
    left join users o on o.id = subject and (o.disabled_at is null or s.role is not null)
    left join enrollments e on e.course_id = c.id and e.user_id = subject
    where c.id = course;
end $$;
