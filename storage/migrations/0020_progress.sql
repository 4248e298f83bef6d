-- How far students have come. What a list of students shows is counted as it happens: reading it counts nothing.

alter table courses add column lessons integer not null default 0; -- published ones, released or not yet
alter table enrollments
    add column lessons_done integer not null default 0, -- of those
    add column completed_at timestamptz, -- when all of them were, for the first time
    add column active_at timestamptz; -- when a lesson was last opened or completed
update courses c set lessons = (select count(*) from lessons l where l.course_id = c.id and l.status = 'published');

-- Everybody in a course by id: without it a page of a list sorts the whole course.
create index enrollments_taking_part on enrollments (course_id, user_id) where status in ('active', 'completed');

create table progress (
    user_id uuid not null references users on delete cascade,
    course_id uuid not null,
    lesson_id uuid not null,
    opened_at timestamptz not null default now(),
    completed_at timestamptz,
    position integer not null default 0, -- seconds into the video, where the student was last: where to go on
    furthest integer not null default 0, -- seconds: the highest of the positions
    seen_at timestamptz, -- when `position` was said, by the clock of the node that heard it
    primary key (course_id, user_id, lesson_id),
    foreign key (course_id, lesson_id) references lessons (course_id, id) on delete cascade
) with (fillfactor = 80); -- positions move: in their page, without the indexes
create index progress_by_lesson on progress (course_id, lesson_id);

-- A lesson of a student is opened and, where `done`, completed: because it is to be opened only, or because the caller
-- says so. No row: students do not see the lesson, or the person is none of the course's. Asked again, it tells how
-- things stand.
--
-- The lesson is locked first, so that nobody completes what is being withdrawn: `count_lesson` counts back those who
-- had completed it.
create function open_lesson(course uuid, lesson uuid, person uuid, done boolean) returns table (
    opened_at timestamptz, completed_at timestamptz, "position" integer, furthest integer, seen_at timestamptz
) language plpgsql volatile as $$
#variable_conflict use_column
declare
    l lessons;
    e enrollments;
    p progress;
    opened boolean;
    completes boolean;
    about jsonb;
begin
    select * into l from lessons
    where course_id = course and id = lesson and status = 'published' and (release_at is null or release_at <= now())
    for share;
    if not found then
        return;
    end if;
    select * into e from enrollments
    where course_id = course and user_id = person and role = 'student' and status in ('active', 'completed')
    for no key update;
    if not found then
        return;
    end if;

    insert into progress (user_id, course_id, lesson_id) values (person, course, lesson) on conflict do nothing;
    opened := found;
    select * into p from progress where user_id = person and course_id = course and lesson_id = lesson for update;
    completes := p.completed_at is null and (done or l.completion = 'open');
    if completes then
        update progress set completed_at = now()
        where user_id = person and course_id = course and lesson_id = lesson;
        p.completed_at := now();
    end if;
    if opened or completes then
        update enrollments
        set lessons_done = lessons_done + completes::integer, active_at = now() where id = e.id;
        perform complete_courses(course, person);
        about := (select jsonb_build_object('course', c.title, 'lesson', l.title) from courses c where c.id = course);
        if opened then
            perform record_event('lesson.opened', course, person, lesson, about);
        end if;
        if completes then
            perform record_event('lesson.completed', course, person, lesson, about);
        end if;
    end if;
    return query select p.opened_at, p.completed_at, p.position, p.furthest, p.seen_at;
end $$;

-- Whoever has completed every lesson has completed the course: one student, or all of them (null). It stays so when
-- lessons are added.
create function complete_courses(course uuid, person uuid) returns void language sql volatile as $$
    update enrollments e set status = 'completed', completed_at = coalesce(e.completed_at, now())
    from courses c
    where c.id = course and e.course_id = course and (person is null or e.user_id = person)
      and e.role = 'student' and e.status = 'active' and c.lessons > 0 and e.lessons_done >= c.lessons;
$$;

-- A lesson that comes or goes changes how many there are, and how many each student has completed. The course is locked
-- by whoever changes its lessons.
create function count_lesson() returns trigger language plpgsql as $$
declare
    was integer := 0;
    becomes integer := 0;
    of_course uuid;
    lesson uuid;
begin
    if tg_op <> 'INSERT' then
        was := (old.status = 'published')::integer;
        of_course := old.course_id;
        lesson := old.id;
    end if;
    if tg_op <> 'DELETE' then
        becomes := (new.status = 'published')::integer;
        of_course := new.course_id;
        lesson := new.id;
    end if;
    if was <> becomes then
        update courses c set lessons = c.lessons + becomes - was where c.id = of_course;
        if tg_op <> 'INSERT' then
            update enrollments e set lessons_done = e.lessons_done + becomes - was
            from progress p
            where p.course_id = of_course and p.lesson_id = lesson and p.completed_at is not null
              and e.course_id = of_course and e.user_id = p.user_id;
        end if;
        if becomes < was then
            perform complete_courses(of_course, null);
        end if;
    end if;
    return case when tg_op = 'DELETE' then old else new end;
end $$;
create trigger lessons_counted after insert or update of status on lessons
    for each row execute function count_lesson();
create trigger lessons_uncounted before delete on lessons -- before: what was completed goes with the lesson
    for each row execute function count_lesson();
