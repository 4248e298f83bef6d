-- name: standings
select t.i::integer as i, coalesce(c.last_offset, 0) as head, coalesce(r."offset", 0) as cursor,
       coalesce(c.closed, false) or exists (
           select from silenced s
           where s.channel_id = c.id and s.sender_id = t.user_id::text and s.until > now()) as silent
from unnest($1::uuid[], $2::uuid[]) with ordinality as t(room_id, user_id, i)
join room_members m on m.room_id = t.room_id and m.user_id = t.user_id
left join channels c on c.name = 'room:' || t.room_id
left join read_cursors r on r.user_id = t.user_id and r.channel_id = c.id

-- name: move
-- Whoever has left meanwhile has no cursor any more. In one order on all nodes, or two of them wait for each other.
insert into read_cursors (channel_id, user_id, "offset")
select c.id, m.user_id, least(t."offset", c.last_offset)
from unnest($1::uuid[], $2::uuid[], $3::bigint[]) as t(room_id, user_id, "offset")
join room_members m on m.room_id = t.room_id and m.user_id = t.user_id
join channels c on c.name = 'room:' || t.room_id
order by c.id, m.user_id
on conflict (user_id, channel_id) do update
set "offset" = greatest(read_cursors."offset", excluded."offset"), read_at = now()
where read_cursors."offset" < excluded."offset"

-- name: unread
-- What comes after the place where somebody is begins a count of its own: the row before it may be long gone.
select m.room_id, p.cursor, coalesce(r."offset", 0) as stored, c.last_count - n.seen as unread,
       (select count(*) from mentions t
        where t.user_id = m.user_id and t.channel_id = c.id and t."offset" > greatest(p.cursor, m.joined_offset)) as mentions
from room_members m
join rooms o on o.id = m.room_id and o.archived_at is null
join channels c on c.name = 'room:' || m.room_id
left join read_cursors r on r.user_id = m.user_id and r.channel_id = c.id
left join unnest($2::uuid[], $3::bigint[]) as k(room_id, "offset") on k.room_id = m.room_id
cross join lateral (
    select greatest(0, r."offset", case when k."offset" <= c.last_offset then k."offset" end) as cursor
) p
cross join lateral (
    select coalesce((
        select x.count_no - x.counted::integer from messages x
        where x.channel_id = c.id and x."offset" > greatest(p.cursor, m.joined_offset)
        order by x.channel_id, x."offset" limit 1), c.last_count) as seen
) n
where m.user_id = $1

-- name: of_room
select m.user_id, coalesce(r."offset", 0) as "offset"
from room_members m
left join channels c on c.name = 'room:' || m.room_id
left join read_cursors r on r.user_id = m.user_id and r.channel_id = c.id
where m.room_id = $1
limit $2

-- name: readers
-- The author has read their message, whether their cursor is here yet or not.
select t.i::integer as i, h."offset",
       (select count(*) from read_cursors r
        where r.channel_id = c.id and r."offset" >= h."offset" and r.user_id is distinct from a.id)
       + exists (select from room_members m where m.room_id = t.room_id and m.user_id = a.id)::integer as readers
from unnest($1::uuid[], $2::bigint[]) with ordinality as t(room_id, "offset", i)
join channels c on c.name = 'room:' || t.room_id
cross join lateral (select coalesce(t."offset", nullif(c.last_message, 0)) as "offset") h
left join lateral (
    select case when x.sender_id ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then x.sender_id::uuid end as id
    from messages x where x.channel_id = c.id and x."offset" = h."offset" and x.counted
) a on true
where h."offset" is not null

-- name: sizes
select t.i::integer as i,
       (select count(*) from (select from room_members m where m.room_id = t.room_id limit $2) s) as size
from unnest($1::uuid[]) with ordinality as t(room_id, i)
