-- name: lock
select * from lock_course_room($1, $2, $3)

-- name: admit
select admit($1, $2, $3, $4, $5, $6, $7)

-- name: admit_students
select * from admit_students($1, $2, $3, $4)

-- name: by_code
select id from courses where code = $1 and admission <> 'closed' and status = 'published'

-- name: enter
insert into enrollments (user_id, course_id, role) values ($1, $2, $3)
on conflict (user_id, course_id) do update set role = excluded.role, ended_at = null,
    status = case when excluded.role = 'student' and enrollments.completed_at is not null then 'completed' else 'active' end,
    enrolled_at = case when enrollments.status in ('active', 'completed') then enrollments.enrolled_at else now() end

-- name: take_seat
update courses set students = students + 1 where id = $1 and (capacity is null or students < capacity) returning students

-- name: free_seat
update courses set students = students - 1 where id = $1

-- name: end
update enrollments set status = $3, ended_at = now() where user_id = $1 and course_id = $2

-- name: add_room
insert into rooms (id, kind, title, created_by) values ($1, 'course', $2, $3) returning *

-- name: give_room
update courses set room_id = $2 where id = $1

-- name: other_teacher
select exists (
    select from enrollments where course_id = $1 and role = 'teacher' and status = 'active' and user_id <> $2)

-- name: participants
select e.user_id, u.name, e.role, e.status, e.enrolled_at from enrollments e join users u on u.id = e.user_id
where e.course_id = $1 and e.status in ('active', 'completed') and ($2::uuid is null or e.user_id > $2)
order by e.user_id limit $3

-- name: by_emails
select id, email from users where email = any ($1::text[]) and disabled_at is null
