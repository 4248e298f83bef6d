-- name: standing
-- What a room is to one of its members; no row for anybody else.
select m.role, r.kind, case when r.kind = 'direct' then coalesce((
    select o.user_id from room_members o where o.room_id = r.id and o.user_id <> $2), $2) end as peer
from room_members m join rooms r on r.id = m.room_id
where m.room_id = $1 and m.user_id = $2

-- name: room_of_two
select id from rooms where direct_key = $1

-- name: page
-- At most $3 messages and system lines below offset $4 and at most $5 from offset $6 on, in a room of the user's; one
-- row at least for a member, and none for anybody else.
with room as (
    select c.id, coalesce(c.epoch, 0) as epoch, coalesce(c.last_offset, 0) as last_offset, c.first_offset
    from room_members m left join channels c on c.name = 'room:' || $1::uuid
    where m.room_id = $1 and m.user_id = $2
)
select r.epoch, r.last_offset, (select log_generation()) as generation, p.*
from room r left join lateral (
    (select m."offset", m.id, m.sender_id, m.type, m.data, m.created_at, m.edited_at, m.deleted_at from messages m
     where m.channel_id = r.id and m.target is null and m."offset" < $4::bigint and m."offset" >= r.first_offset
     order by m."offset" desc limit $3)
    union all
    (select m."offset", m.id, m.sender_id, m.type, m.data, m.created_at, m.edited_at, m.deleted_at from messages m
     where m.channel_id = r.id and m.target is null and m."offset" >= greatest($6::bigint, r.first_offset)
     order by m."offset" limit $5)
) p on true
order by p."offset"

-- name: get
-- A message or system line of a room, and what the room is to the user; no row for anybody but members.
select s.role, s.kind, p.* from (
    select m.role, r.kind, c.id as channel_id, c.first_offset
    from room_members m join rooms r on r.id = m.room_id left join channels c on c.name = 'room:' || r.id
    where m.room_id = $1 and m.user_id = $2
) s left join lateral (
    select m."offset", m.id, m.sender_id, m.type, m.data, m.created_at, m.edited_at, m.deleted_at from messages m
    where m.channel_id = s.channel_id and m.id = $3 and m.target is null and m."offset" >= s.first_offset
) p on true

-- name: names
select id, name from users where id = any ($1::uuid[])

-- name: change
select c.*, (select log_generation()) as generation from change_message($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) c

-- name: delete
select c.*, (select log_generation()) as generation from delete_message($1, $2, $3, $4, $5, $6, $7, $8, $9) c

-- name: refer
-- What a message of user $2's in room $1 names: the message $4 it replies to, the users $5 it mentions, the file $6 (an
-- image, where $7 says so), which it carries from here on. A file whose message was never stored may be sent again.
-- Nothing is asked of a message that is there already ($3).
with room as (select id from channels where name = 'room:' || $1::uuid),
attached as (
    update files f set message_id = $3, sweep_at = now() + make_interval(secs => $8)
    where f.id = $6 and f.room_id = $1 and f.owner_id = $2 and f.ready and f.removed_at is null
      and (not $7 or f.width is not null)
      and (f.message_id is null or f.message_id = $3
           or not exists (select from messages m join room r on m.channel_id = r.id where m.id = f.message_id))
    returning f.id, f.name, f.size, f.content_type, f.width, f.height, f.thumbnail
)
select exists (select from messages m join room r on m.channel_id = r.id where m.id = $3) as stored,
       $4::uuid is null or exists (
           select from messages m join room r on m.channel_id = r.id
           where m.id = $4 and m.target is null and m.type <> 'system') as replies,
       array(select u from unnest($5::uuid[]) u
             where not exists (select from room_members m where m.room_id = $1 and m.user_id = u)) as strangers,
       a.*
from (select) one left join attached a on true
