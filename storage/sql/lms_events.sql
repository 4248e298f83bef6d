-- name: next
select id, xid::text as xid, kind, course_id, actor_id, subject_id, data::text as data, at from next_events($1, $2)

-- name: move
update event_cursors set xid = $2::text::xid8, id = $3 where consumer = $1

-- name: trim
-- What every consumer has passed.
delete from course_events e using (
    select xid, id from event_cursors where consumer = any ($1::text[]) order by xid, id limit 1
) c
where (e.xid, e.id) <= (c.xid, c.id)
  and (select count(*) from event_cursors where consumer = any ($1::text[])) = cardinality($1::text[])

-- name: count
insert into activity as a (course_id, day, kind, events)
select * from unnest($1::uuid[], $2::date[], $3::text[], $4::bigint[]) as t(course_id, day, kind, events)
order by 1, 2, 3
on conflict (course_id, day, kind) do update set events = a.events + excluded.events

-- name: activity
select day, kind, events from activity where course_id = $1 and day >= $2 order by day, kind

-- name: totals
select kind, sum(events)::bigint as events from activity where course_id = $1 group by kind order by kind

-- name: pending
select exists (select from notifications where told_at is null) or exists (
    select from unnest($1::text[]) as w(consumer)
    left join event_cursors c on c.consumer = w.consumer
    where exists (
        select from course_events e
        where (e.xid, e.id) > (coalesce(c.xid, '0'), coalesce(c.id, 0))
          and e.xid < pg_snapshot_xmin(pg_current_snapshot())))

-- name: count_lessons
-- Lessons that are gone meanwhile are left out.
insert into lesson_numbers as n (course_id, lesson_id, opened, completed)
select t.course_id, t.lesson_id, t.opened, t.completed
from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[]) as t(course_id, lesson_id, opened, completed)
join lessons l on l.course_id = t.course_id and l.id = t.lesson_id
order by 1, 2
on conflict (course_id, lesson_id) do update
set opened = n.opened + excluded.opened, completed = n.completed + excluded.completed

-- name: count_grades
insert into grade_spreads as s (course_id, item_id, tenth, grades, percent)
select course_id, item_id, tenth_of(percent), sum(sign), sum(sign * percent)
from unnest($1::uuid[], $2::uuid[], $3::numeric[], $4::integer[]) as t(course_id, item_id, percent, sign)
group by 1, 2, 3 order by 1, 2, 3
on conflict (course_id, item_id, tenth) do update
set grades = s.grades + excluded.grades, percent = s.percent + excluded.percent

-- name: count_messages
-- The room's log counts its messages itself: what it has counted since the last look is new.
with looking as materialized (
    select pg_advisory_xact_lock(hashtextextended('message_marks', 0))
), added as materialized (
    select c.id, h.last_count, h.last_count - coalesce(m.counted, 0) as messages
    from looking, courses c
    join channels h on h.name = 'room:' || c.room_id
    left join message_marks m on m.course_id = c.id
    where h.last_count <> coalesce(m.counted, 0)
    order by c.id limit $1
), marked as (
    insert into message_marks (course_id, counted) select id, last_count from added
    on conflict (course_id) do update set counted = excluded.counted
), counted as (
    insert into activity as a (course_id, day, kind, events)
    select place, current_date, 'message.sent', sum(messages)
    from added cross join lateral (values (added.id), ($2::uuid)) p(place)
    where messages > 0 group by place order by place
    on conflict (course_id, day, kind) do update set events = a.events + excluded.events
)
select count(*) from added

-- name: lessons
select l.id, l.title, coalesce(n.opened, 0) as opened, coalesce(n.completed, 0) as completed
from lessons l
join modules m on m.id = l.module_id
left join lesson_numbers n on n.course_id = l.course_id and n.lesson_id = l.id
where l.course_id = $1 and l.status = 'published'
order by m.position, l.position

-- name: spreads
select s.item_id, coalesce(i.title, 'all') as title, coalesce(i.kind, '') as kind, s.tenth, s.grades, s.percent
from grade_spreads s
left join (
    select id, title, 'assignment' as kind, created_at from assignments where course_id = $1
    union all
    select id, title, 'quiz', created_at from quizzes where course_id = $1
    union all
    select p.id, left(p.question, 255), 'quiz', p.asked_at
    from classes k join class_polls p on p.class_id = k.id where k.course_id = $1 and p.points > 0
) i on i.id = s.item_id
where s.course_id = $1 and (s.item_id = $2 or i.id is not null)
order by i.created_at nulls first, s.item_id, s.tenth

-- name: students
select students from courses where id = $1
