-- name: begin
insert into files (id, room_id, owner_id, name, sweep_at)
select $1, $2, $3, $4, now() + 2 * $5::float8 * interval '1 second'
where exists (select from room_members where room_id = $2 and user_id = $3)

-- name: finish
update files
set content_type = $2, size = $3, sha256 = $4, width = $5, height = $6, thumbnail = $7, ready = true,
    sweep_at = now() + $8::float8 * interval '1 second'
where id = $1 and removed_at is null
returning *

-- name: visible
-- To members of the room; what a course refers to, to admins of the school as well.
select f.* from files f
join users u on u.id = $2 and u.disabled_at is null
left join room_members m on m.room_id = f.room_id and m.user_id = u.id
where f.id = $1 and f.ready and f.removed_at is null
  and (m.user_id is not null and (f.message_id is not null or f.owner_id = $2
           or f.attached and (f.audience = 'course' or m.role in ('owner', 'moderator')))
       or f.attached and f.course_id is not null and u.role = 'admin')

-- name: avatar
select f.* from users u join files f on f.id = u.avatar_id
where u.id = $1 and u.disabled_at is null and f.ready and f.removed_at is null

-- name: forget
delete from files where id = $1

-- name: due
with due as (
    select f.id, f.attached or exists (
        select from channels c join messages m on m.channel_id = c.id and m.id = f.message_id
        where c.name = 'room:' || f.room_id and m.deleted_at is null)
        or exists (select from users u where u.avatar_id = f.id) as carried
    from files f where f.sweep_at <= now()
    order by f.sweep_at limit $1 for update of f skip locked)
update files f
set removed_at = case when due.carried then f.removed_at else coalesce(f.removed_at, now()) end,
    sweep_at = now() + case when due.carried and f.removed_at is null then interval '30 days'
                            else interval '10 minutes' end
from due where f.id = due.id
returning f.id, f.removed_at is not null as removed

-- name: attach
-- Files of a course's room that its work refers to now; those that the person may not attach are not among the answers.
update files f set attached = true, audience = $4, course_id = $1
from courses c
where c.id = $1 and f.room_id = c.room_id and f.id = any ($2::uuid[]) and f.ready and f.removed_at is null
  and (f.owner_id = $3 or f.attached and f.audience = $4 and $4 = 'course')
returning f.id, f.content_type

-- name: detach
-- What no lesson refers to any more: swept in time.
update files f set attached = false, sweep_at = now()
where f.course_id = $1 and f.id = any ($2::uuid[]) and f.audience = 'course'
  and not exists (
      select from lessons l where l.course_id = $1
        and l.content @> jsonb_build_array(jsonb_build_object('file_id', f.id)))
