-- name: open
select * from open_lesson($1, $2, $3, $4)

-- name: move
-- The last position counts, and the furthest. Those of lessons that were never opened, or are gone, are dropped. Locked
-- in order: two nodes may write for the same people.
with moved as materialized (
    select p.user_id, p.course_id, p.lesson_id, t.position, t.furthest, t.seen_at
    from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::integer[], $5::integer[], $6::timestamptz[])
        as t(user_id, course_id, lesson_id, position, furthest, seen_at)
    join progress p using (user_id, course_id, lesson_id)
    order by p.course_id, p.user_id, p.lesson_id for update of p
)
update progress p
set position = case when p.seen_at is null or p.seen_at <= m.seen_at then m.position else p.position end,
    seen_at = greatest(p.seen_at, m.seen_at),
    furthest = greatest(p.furthest, m.furthest)
from moved m
where p.user_id = m.user_id and p.course_id = m.course_id and p.lesson_id = m.lesson_id

-- name: lessons
select lesson_id, opened_at, completed_at, position, furthest, seen_at from progress
where course_id = $1 and user_id = $2

-- name: student
select e.user_id, u.name, e.status, e.enrolled_at, e.lessons_done, c.lessons, e.completed_at, e.active_at
from enrollments e join users u on u.id = e.user_id join courses c on c.id = e.course_id
where e.course_id = $1 and e.user_id = $2 and e.role = 'student'

-- name: students
select e.user_id, u.name, e.status, e.enrolled_at, e.lessons_done, c.lessons, e.completed_at, e.active_at
from enrollments e join users u on u.id = e.user_id join courses c on c.id = e.course_id
where e.course_id = $1 and e.role = 'student' and e.status in ('active', 'completed')
  and ($2::uuid is null or e.user_id > $2)
order by e.user_id limit $3

-- name: staff
-- Those of some people who see what the staff of a course sees.
select u.id from users u
where u.id = any ($2::uuid[]) and u.disabled_at is null and (u.role = 'admin' or exists (
    select from enrollments e
    where e.course_id = $1 and e.user_id = u.id and e.role in ('teacher', 'assistant') and e.status = 'active'))
