-- What reports read, added up as it happens: who has come how far, and what grades there are.

-- By lesson: how many students have opened it and how many have completed it.
create table lesson_numbers (
    course_id uuid not null,
    lesson_id uuid not null,
    opened bigint not null default 0,
    completed bigint not null default 0,
    primary key (course_id, lesson_id),
    foreign key (course_id, lesson_id) references lessons (course_id, id) on delete cascade
);
insert into lesson_numbers (course_id, lesson_id, opened, completed)
select course_id, lesson_id, count(*), count(completed_at) from progress group by course_id, lesson_id;
-- What happened and was not read for the reports yet is added when it is.
update lesson_numbers n set opened = n.opened - e.opened, completed = n.completed - e.completed
from (
    select course_id, subject_id, count(*) filter (where kind = 'lesson.opened') as opened,
           count(*) filter (where kind = 'lesson.completed') as completed
    from course_events
    where (xid, id) > (select coalesce(max(xid), '0'), coalesce(max(id), 0) from event_cursors where consumer = 'reports')
    group by course_id, subject_id
) e
where e.course_id = n.course_id and e.subject_id = n.lesson_id;

-- By item of the gradebook, by course (`item_id` of zeros) and for the school (both of zeros): how many grades there are
-- in each tenth of the points, 10 being all of them, and their sum in per cent.
create table grade_spreads (
    course_id uuid not null,
    item_id uuid not null,
    tenth smallint not null check (tenth between 0 and 10),
    grades bigint not null default 0,
    percent numeric not null default 0,
    primary key (course_id, item_id, tenth)
);

create function item_points(item_kind text, item uuid) returns numeric language sql stable as $$
    select case item_kind when 'quiz' then (select points from quizzes where id = item)
                          else (select points from assignments where id = item) end
$$;

create function tenth_of(percent numeric) returns smallint language sql immutable as $$
    select greatest(0, least(10, floor(percent / 10)))::smallint
$$;

insert into grade_spreads (course_id, item_id, tenth, grades, percent)
select place.course_id, place.item_id, tenth_of(g.percent), count(*), sum(g.percent)
from (select course_id, item_id, 100 * points / item_points(kind, item_id) as percent from grades) g
cross join lateral (values
    (g.course_id, g.item_id),
    (g.course_id, '00000000-0000-0000-0000-000000000000'::uuid),
    ('00000000-0000-0000-0000-000000000000'::uuid, '00000000-0000-0000-0000-000000000000'::uuid)
) as place(course_id, item_id)
where g.percent is not null
group by 1, 2, 3;

-- Grades change in the requests of many; they are added up by one, from what it says here.
create function note_grade() returns trigger language plpgsql as $$
declare
    out_of numeric := item_points(new.kind, new.item_id);
    was numeric;
begin
    if tg_op = 'UPDATE' then
        if old.points = new.points then
            return null;
        end if;
        was := 100 * old.points / out_of;
    end if;
    perform record_event('grade.changed', new.course_id, null, new.item_id,
                         jsonb_build_object('student_id', new.student_id, 'was', was, 'percent', 100 * new.points / out_of));
    return null;
end $$;
create trigger grades_noted after insert or update on grades for each row execute function note_grade();

-- How many messages of a course's room are in the reports already.
create table message_marks (
    course_id uuid primary key references courses on delete cascade,
    counted bigint not null
);
insert into message_marks (course_id, counted)
select c.id, h.last_count from courses c join channels h on h.name = 'room:' || c.room_id;
insert into activity as a (course_id, day, kind, events)
select place, current_date, 'message.sent', sum(m.counted)
from message_marks m cross join lateral (values (m.course_id), ('00000000-0000-0000-0000-000000000000'::uuid)) p(place)
where m.counted > 0 group by place
on conflict (course_id, day, kind) do update set events = a.events + excluded.events;

-- Whoever completes a course for the first time is counted.
create or replace function complete_courses(course uuid, person uuid) returns void language sql volatile as $$
    with done as (
        select e.id, e.user_id, e.completed_at is null as first
        from enrollments e join courses c on c.id = e.course_id
        where c.id = course and (person is null or e.user_id = person)
          and e.role = 'student' and e.status = 'active' and c.lessons > 0 and e.lessons_done >= c.lessons
        order by e.id for update of e
    ), marked as (
        update enrollments e set status = 'completed', completed_at = coalesce(e.completed_at, now())
        from done d where e.id = d.id
    )
    select record_event('course.completed', course, d.user_id, course) from done d where d.first;
$$;
insert into activity as a (course_id, day, kind, events)
select place, e.completed_at::date, 'course.completed', count(*)
from enrollments e cross join lateral (values (e.course_id), ('00000000-0000-0000-0000-000000000000'::uuid)) p(place)
where e.completed_at is not null group by place, e.completed_at::date
on conflict (course_id, day, kind) do update set events = a.events + excluded.events;
