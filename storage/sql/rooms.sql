-- name: create
insert into rooms (kind, title, direct_key, created_by) values ($1, $2, $3, $4)
on conflict (direct_key) do nothing returning *

-- name: by_direct_key
select * from rooms where direct_key = $1

-- name: get
select * from rooms where id = $1

-- name: list_for_user
select r.* from room_members m join rooms r on r.id = m.room_id
where m.user_id = $1 and r.archived_at is null
  and ($2::timestamptz is null or (r.created_at, r.id) < ($2, $3::uuid))
order by r.created_at desc, r.id desc limit $4

-- name: archive
update rooms set archived_at = coalesce(archived_at, now()) where id = $1 returning *

-- name: put_member
insert into room_members (room_id, user_id, role) values ($1, $2, $3)
on conflict (room_id, user_id) do update set role = excluded.role where room_members.role <> excluded.role

-- name: remove_member
delete from room_members where room_id = $1 and user_id = $2

-- name: role
select role from room_members where room_id = $1 and user_id = $2

-- name: members
select m.user_id, m.role, m.joined_at, u.name from room_members m join users u on u.id = m.user_id
where m.room_id = $1 and ($2::uuid is null or m.user_id > $2)
order by m.user_id limit $3

-- name: has_event
select exists (
    select from channels c join messages m on m.channel_id = c.id and m.id = $2 where c.name = $1)
