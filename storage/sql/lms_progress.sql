-- name: move
-- Opened, watched up to a place, done: what is completed stays so. Of the video 90 % are all of it: credits are not
-- watched.
with lesson as (
    select id, completion, duration from lessons
    where course_id = $1 and id = $3 and ($6 or status = 'published' and (release_at is null or release_at <= now()))
), before as (
    select completed_at from progress where course_id = $1 and user_id = $2 and lesson_id = $3
), moved as (
    insert into progress as p (course_id, user_id, lesson_id, position, completed_at)
    select $1, $2, l.id, coalesce($4::integer, 0),
           case when l.completion = 'open' or $5 and l.completion = 'done'
                     or l.completion = 'video' and l.duration is not null and $4::integer >= 0.9 * l.duration
                then now() end
    from lesson l
    on conflict (course_id, user_id, lesson_id) do update
    set position = coalesce($4::integer, p.position),
        completed_at = coalesce(p.completed_at, excluded.completed_at), updated_at = now()
    returning *
)
select m.lesson_id, m.opened_at, m.completed_at, m.position, l.completion, l.duration,
       m.completed_at is not null and (select completed_at from before) is null as completed_now,
       not exists (select from before) as opened_now
from moved m join lesson l on l.id = m.lesson_id

-- name: mine
select lesson_id, opened_at, completed_at, position from progress where course_id = $1 and user_id = $2

-- name: of_students
select e.user_id, u.name, e.lessons_done, e.active_at from enrollments e join users u on u.id = e.user_id
where e.course_id = $1 and e.role = 'student' and e.status in ('active', 'completed')
  and ($2::uuid is null or e.user_id > $2)
order by e.user_id limit $3

-- name: complete
-- The course is completed by whoever has done every lesson that there is for them.
update enrollments e set status = 'completed'
where e.course_id = $1 and e.user_id = $2 and e.status = 'active' and e.role = 'student' and e.lessons_done >= $3
returning true
