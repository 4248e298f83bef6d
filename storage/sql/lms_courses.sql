-- name: standings
select i, school_role, course_role, course_status, admission, students, version from standings($1, $2)

-- name: create
insert into courses (id, title, description, instructor_id, admission, code, capacity, metadata)
values ($1, $2, $3, $4, $5, $6, $7, $8)
on conflict (id) do nothing returning *

-- name: get
select c.*, coalesce((
    select jsonb_agg(jsonb_build_object('id', m.id, 'title', m.title, 'lessons', coalesce((
        select jsonb_agg(jsonb_build_object(
            'id', l.id, 'title', l.title, 'videoUrl', l.video_url, 'duration', l.duration, 'status', l.status,
            'release_at', l.release_at, 'completion', l.completion) order by l.position)
        from lessons l where l.module_id = m.id), '[]')) order by m.position)
    from modules m where m.course_id = c.id), '[]') as modules
from courses c where c.id = $1

-- name: catalogue
-- What anybody may come into, newest first.
select c.* from courses c
where c.status = 'published' and c.admission <> 'closed'
  and ($1::timestamptz is null or (c.created_at, c.id) < ($1, $2::uuid))
order by c.created_at desc, c.id desc limit $3

-- name: search
-- By words of title and description, and by a tag; newest first. What is found is bounded by the index, then sorted.
select c.* from courses c
where c.status = 'published' and c.admission <> 'closed'
  and ($4::text is null or c.search @@ websearch_to_tsquery('simple', $4))
  and ($5::text is null or c.metadata @> jsonb_build_object('tags', jsonb_build_array($5::text)))
  and ($6::text is null or c.metadata @> jsonb_build_object('difficulty', $6::text))
  and ($1::timestamptz is null or (c.created_at, c.id) < ($1, $2::uuid))
order by c.created_at desc, c.id desc limit $3

-- name: mine
select c.*, e.role as my_role, e.enrolled_at from enrollments e join courses c on c.id = e.course_id
where e.user_id = $1 and e.status in ('active', 'completed')
  and (e.role <> 'student' or c.status <> 'draft')
  and ($2::timestamptz is null or (e.enrolled_at, e.course_id) < ($2, $3::uuid))
order by e.enrolled_at desc, e.course_id desc limit $4

-- name: lock
select * from courses where id = $1 for update

-- name: update
update courses
set title = $2, description = $3, admission = $4, code = $5, capacity = $6, metadata = $7, publish_at = $8,
    version = version + 1, updated_at = clock_timestamp()
where id = $1 returning *

-- name: set_status
update courses
set status = $2, publish_at = null, version = version + 1, updated_at = clock_timestamp()
where id = $1 returning *

-- name: touch
update courses set version = version + 1, updated_at = clock_timestamp() where id = $1 returning version

-- name: used_by
select
    (select count(*) from (select from enrollments e where e.course_id = $1 and e.role = 'student' limit 1) s) as students,
    (select count(*) from (select from lessons l where l.course_id = $1 limit 1) l) as lessons,
    (select count(*) from (select from assignments a where a.course_id = $1 limit 1) a) as assignments,
    (select count(*) from (select from quizzes q where q.course_id = $1 limit 1) q) as quizzes,
    (select count(*) from (select from threads t where t.course_id = $1 limit 1) t) as threads,
    (select count(*) from (select from classes k where k.course_id = $1 and k.started_at is not null and k.ended_at is null
                           limit 1) k) as "a class that goes on"

-- name: delete
delete from courses where id = $1

-- name: due
-- Drafts whose time has come; another worker takes others.
select id from courses where status = 'draft' and publish_at <= now()
order by publish_at limit $1 for update skip locked

-- name: event
select record_event($1, $2, $3, $4, $5)

-- name: add_module
insert into modules (id, course_id, title, position)
select $2, $1, $3, coalesce(max(position) + 1, 0) from modules where course_id = $1
returning id, title

-- name: rename_module
update modules set title = $3 where course_id = $1 and id = $2 returning id, title

-- name: delete_module
delete from modules where course_id = $1 and id = $2
  and not exists (select from lessons where module_id = $2)

-- name: module
select id, title from modules where course_id = $1 and id = $2

-- name: count_modules
select count(*) from modules where course_id = $1

-- name: count_lessons
select count(*) from lessons where course_id = $1

-- name: add_lesson
insert into lessons (id, course_id, module_id, title, position, content, video_url, duration, status, release_at, completion)
select $2, $1, $3, $4, coalesce(max(l.position) + 1, 0), $5, $6, $7, $8, $9, $10 from lessons l where l.module_id = $3
returning *

-- name: lesson
select * from lessons where course_id = $1 and id = $2

-- name: lock_lesson
select * from lessons where course_id = $1 and id = $2 for update

-- name: update_lesson
update lessons
set title = $3, content = $4, video_url = $5, duration = $6, status = $7, release_at = $8, completion = $9,
    version = version + 1, updated_at = clock_timestamp()
where course_id = $1 and id = $2 returning *

-- name: delete_lesson
delete from lessons where course_id = $1 and id = $2

-- name: outline
select m.id as module_id, l.id as lesson_id from modules m left join lessons l on l.module_id = m.id where m.course_id = $1

-- name: order_modules
update modules m set position = t.i - 1
from unnest($2::uuid[]) with ordinality as t(id, i) where m.id = t.id and m.course_id = $1

-- name: order_lessons
update lessons l set module_id = t.module_id, position = t.position
from unnest($2::uuid[], $3::uuid[], $4::integer[]) as t(id, module_id, position)
where l.id = t.id and l.course_id = $1
