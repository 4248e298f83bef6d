-- name: add_thread
insert into threads (id, course_id, author_id, title) values ($1, $2, $3, $4) on conflict (id) do nothing

-- name: threads
select h.*, u.name as author from threads h left join users u on u.id = h.author_id
where h.course_id = $1
  and ($2::boolean is null or (h.pinned, h.active_at, h.id) < ($2, $3::timestamptz, $4::uuid))
order by h.pinned desc, h.active_at desc, h.id desc limit $5

-- name: thread
select h.*, u.name as author, exists (
    select from thread_followers f where f.thread_id = h.id and f.user_id = $3) as following
from threads h left join users u on u.id = h.author_id where h.course_id = $1 and h.id = $2

-- name: lock_thread
select h.*, null::text as author, false as following from threads h where h.course_id = $1 and h.id = $2 for update

-- name: mark
update threads set pinned = $2, locked = $3, accepted_id = $4 where id = $1

-- name: rename
update threads set title = $2 where id = $1

-- name: add_post
with numbered as (
    update threads set posts = posts + 1, active_at = clock_timestamp() where id = $1 returning posts
)
insert into posts (thread_id, number, id, author_id, parent_id, content)
select $1, posts, $2, $3, $4, $5 from numbered returning *

-- name: post
select p.*, u.name as author from posts p left join users u on u.id = p.author_id where p.thread_id = $1 and p.id = $2

-- name: posts
select p.*, u.name as author from posts p left join users u on u.id = p.author_id
where p.thread_id = $1 and p.number > $2 order by p.number limit $3

-- name: edit
update posts set content = $3, edited_at = clock_timestamp() where thread_id = $1 and id = $2 and deleted_at is null

-- name: delete
update posts set content = '', deleted_at = coalesce(deleted_at, clock_timestamp()) where thread_id = $1 and id = $2

-- name: follow
insert into thread_followers (thread_id, user_id) values ($1, $2) on conflict do nothing

-- name: unfollow
delete from thread_followers where thread_id = $1 and user_id = $2

-- name: participants
select e.user_id from enrollments e
where e.course_id = $1 and e.user_id = any ($2::uuid[]) and e.status in ('active', 'completed')
