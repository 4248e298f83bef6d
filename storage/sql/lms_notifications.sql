-- name: tell_people
insert into notifications (user_id, key, kind, course_id, data)
select u.id, $2, $3, $4, $5 from users u
where u.id = any ($1::uuid[]) and u.disabled_at is null
  and not exists (select from notification_mutes m where m.user_id = u.id and m.kind = $3)
on conflict (user_id, key) do nothing

-- name: tell_students
insert into notifications (user_id, key, kind, course_id, data)
select e.user_id, $2, $3, $1, $4 from enrollments e
where e.course_id = $1 and e.role = 'student' and e.status in ('active', 'completed')
  and not exists (select from notification_mutes m where m.user_id = e.user_id and m.kind = $3)
order by e.user_id
on conflict (user_id, key) do nothing

-- name: tell_due
-- Whose work is due within a day, by their own due date, and not handed in.
insert into notifications (user_id, key, kind, course_id, data)
select e.user_id, 'due ' || a.id || ' ' || t.due, 'assignment.due', a.course_id,
       jsonb_build_object('assignment_id', a.id, 'title', a.title, 'due_date', t.due)
from assignments a
join courses c on c.id = a.course_id and c.status = 'published'
join enrollments e on e.course_id = a.course_id and e.role = 'student' and e.status in ('active', 'completed')
left join extensions x on x.assignment_id = a.id and x.user_id = e.user_id
cross join lateral (select coalesce(x.due_date, a.due_date) as due) t
where a.status = 'published' and (
        a.due_date between now() and now() + interval '1 day'
        or a.id in (select assignment_id from extensions where due_date between now() and now() + interval '1 day'))
  and t.due between now() and now() + interval '1 day'
  and not exists (select from submissions s where s.assignment_id = a.id and s.student_id = e.user_id)
  and not exists (select from notification_mutes m where m.user_id = e.user_id and m.kind = 'assignment.due')
on conflict (user_id, key) do nothing

-- name: tell_quizzes
-- Whose quiz ends within a day, and was not begun.
insert into notifications (user_id, key, kind, course_id, data)
select e.user_id, 'due ' || q.id || ' ' || q.due_date, 'quiz.due', q.course_id,
       jsonb_build_object('quiz_id', q.id, 'title', q.title, 'due_date', q.due_date)
from quizzes q
join courses c on c.id = q.course_id and c.status = 'published'
join enrollments e on e.course_id = q.course_id and e.role = 'student' and e.status in ('active', 'completed')
where q.status = 'published' and q.due_date between now() and now() + interval '1 day'
  and coalesce(q.opens_at, now()) <= now()
  and not exists (select from quiz_attempts a where a.quiz_id = q.id and a.student_id = e.user_id)
  and not exists (select from notification_mutes m where m.user_id = e.user_id and m.kind = 'quiz.due')
on conflict (user_id, key) do nothing

-- name: tell_classes
-- Whose class begins within a quarter of an hour, by the time that it has now; when that changes they are told anew.
insert into notifications (user_id, key, kind, course_id, data)
select e.user_id, 'class ' || l.id || ' ' || l.starts_at, 'class.soon', l.course_id,
       jsonb_build_object('class_id', l.id, 'title', l.title, 'starts_at', l.starts_at)
from classes l
join courses c on c.id = l.course_id and c.status = 'published'
join enrollments e on e.course_id = l.course_id and e.status in ('active', 'completed')
where l.started_at is null and l.ended_at is null and l.cancelled_at is null
  and l.starts_at between now() and now() + interval '15 minutes'
  and not exists (select from notification_mutes m where m.user_id = e.user_id and m.kind = 'class.soon')
order by e.user_id
on conflict (user_id, key) do nothing

-- name: untold
select id, user_id, kind, course_id, data::text as data, created_at from notifications
where told_at is null order by created_at limit $1 for update skip locked

-- name: told
update notifications set told_at = now() where id = any ($1::uuid[])

-- name: list
select n.id, n.kind, n.course_id, n.data::text as data, n.created_at, n.read_at
from notifications n
where n.user_id = $1 and ($2::timestamptz is null or (n.created_at, n.id) < ($2, $3::uuid))
order by n.created_at desc, n.id desc limit $4

-- name: unread
select coalesce((select unread from notification_counts where user_id = $1), 0)

-- name: read
with read as (
    update notifications set read_at = now()
    where user_id = $1 and read_at is null and ($2::uuid is null or id = $2) returning 1
)
update notification_counts set unread = unread - (select count(*) from read) where user_id = $1 returning unread

-- name: mutes
select kind from notification_mutes where user_id = $1 order by kind

-- name: unmute
delete from notification_mutes where user_id = $1

-- name: mute
insert into notification_mutes (user_id, kind) select $1, k from unnest($2::text[]) k

-- name: tell_followers
-- Who follows a thread and still takes part, but for whoever wrote and whoever is told of it as mentioned.
insert into notifications (user_id, key, kind, course_id, data)
select f.user_id, $3, $4, $2, $5 from thread_followers f
join enrollments e on e.course_id = $2 and e.user_id = f.user_id and e.status in ('active', 'completed')
where f.thread_id = $1 and not f.user_id = any ($6::uuid[])
  and not exists (select from notification_mutes m where m.user_id = f.user_id and m.kind = $4)
order by f.user_id
on conflict (user_id, key) do nothing
