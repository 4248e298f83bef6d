-- name: add
insert into rooms (id, kind, title, open, direct_key, created_by)
values (coalesce($1, gen_random_uuid()), $2, $3, $4, $5, $6)
on conflict do nothing returning *

-- name: by_direct_key
select id from rooms where direct_key = $1

-- name: names
select id, name from users where id = any ($1::uuid[]) and disabled_at is null

-- name: lock_channels
select lock_channels($1)

-- name: lock
select * from lock_room($1, $2, $3, $4)

-- name: head
select id, last_offset from channels where name = $1

-- name: add_members
insert into room_members (room_id, user_id, role, joined_offset)
select $1, t.user_id, t.role, t.joined_offset from unnest($2::uuid[], $3::text[], $4::bigint[])
    as t(user_id, role, joined_offset)

-- name: remove_member
with unread as ( -- who has gone is no reader of what follows
    delete from read_cursors r using channels c
    where c.name = 'room:' || $1::uuid and r.channel_id = c.id and r.user_id = $2
)
delete from room_members where room_id = $1 and user_id = $2

-- name: set_role
update room_members set role = $3 where room_id = $1 and user_id = $2

-- name: other_owner
select exists (select from room_members where room_id = $1 and role = 'owner' and user_id <> $2)

-- name: heir
select m.user_id, u.name, m.role from room_members m join users u on u.id = m.user_id
where m.room_id = $1 and m.user_id <> $2
order by u.disabled_at is not null, m.role = 'moderator' desc, m.joined_at, m.user_id limit 1

-- name: update
update rooms set title = $2, open = $3, updated_at = greatest(clock_timestamp(), updated_at + interval '1 microsecond')
where id = $1 returning updated_at

-- name: archive
with closed as (update channels set closed = $3 where id = $2)
update rooms
set archived_at = case when $3 then clock_timestamp() end,
    updated_at = greatest(clock_timestamp(), updated_at + interval '1 microsecond')
where id = $1

-- name: mute
insert into silenced (channel_id, sender_id, until)
values ($1, $2, coalesce(clock_timestamp() + make_interval(secs => $3), 'infinity'))
on conflict (channel_id, sender_id) do update set until = excluded.until
returning until

-- name: unmute
delete from silenced where channel_id = $1 and sender_id = $2

-- name: role
select role from room_members where room_id = $1 and user_id = $2

-- name: members
select m.user_id, m.role, m.joined_at, u.name, s.until as muted_until
from room_members m
join users u on u.id = m.user_id
left join channels c on c.name = 'room:' || m.room_id
left join silenced s on s.channel_id = c.id and s.sender_id = m.user_id::text and s.until > now()
where m.room_id = $1 and ($2::uuid is null or m.user_id > $2)
order by m.user_id limit $3

-- name: find
select id, title, members, created_at, lower(title) as sort from rooms
where open and archived_at is null
  and lower(title) ~>=~ lower($1) and lower(title) ~<~ (lower($1) || chr(1114111))
  and ($2::text is null or (lower(title) ~>=~ $2 and (lower(title) ~>~ $2 or id > $3)))
order by lower(title) using ~<~, id limit $4

-- name: summaries
-- One's rooms, or one of them ($2), as a list shows them. What comes after the place where somebody is begins a count of
-- its own: the row before it may be long gone.
with mine as (
    select r.*, m.user_id, m.role, m.joined_offset, c.id as channel_id, c.epoch, c.last_offset, c.last_count,
           l."offset" as talk_offset, l.created_at as talked_at, l.data, l.sender_id,
           coalesce(l.created_at, r.created_at) as sort
    from room_members m
    join rooms r on r.id = m.room_id
    left join channels c on c.name = 'room:' || r.id
    left join messages l on l.channel_id = c.id and l."offset" = c.last_message
    where m.user_id = $1
      and ($2::uuid is null or m.room_id = $2)
      and ($3::boolean is null or (r.archived_at is not null) = $3)
), page as (
    select * from mine where $4::timestamptz is null or (sort, id) < ($4, $5::uuid)
    order by sort desc, id desc limit $6
)
select p.*, (select log_generation()) as generation, w.place, s.until as muted_until, o.user_id as peer_id,
       o.name as peer_name, a.id as author_id, a.name as author_name, coalesce(p.last_count, 0) - coalesce(n.seen, 0) as unread,
       (select count(*) from mentions t
        where t.user_id = p.user_id and t.channel_id = p.channel_id
          and t."offset" > greatest(w.place, p.joined_offset)) as mentions
from page p
left join silenced s on s.channel_id = p.channel_id and s.sender_id = p.user_id::text and s.until > now()
left join lateral (
    select y.user_id, u.name from room_members y join users u on u.id = y.user_id
    where p.kind = 'direct' and y.room_id = p.id and y.user_id <> p.user_id limit 1
) o on true
-- Whoever sends over the server API need not be a user of ours.
left join users a on a.id = case when p.sender_id ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then p.sender_id::uuid end
left join read_cursors d on d.user_id = p.user_id and d.channel_id = p.channel_id
left join unnest($7::uuid[], $8::bigint[]) as k(room_id, "offset") on k.room_id = p.id and k."offset" <= p.last_offset
cross join lateral (select greatest(0, d."offset", k."offset") as place) w
left join lateral (
    select coalesce((
        select x.count_no - x.counted::integer from messages x
        where x.channel_id = p.channel_id and x."offset" > greatest(w.place, p.joined_offset)
        order by x.channel_id, x."offset" limit 1), p.last_count) as seen
) n on true
order by p.sort desc, p.id desc
