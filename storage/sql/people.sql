-- name: find
select id, name from (
    (select id, name, 1 as rank from users where email = $2 and disabled_at is null)
    union all
    (select id, name, 2 from users
     where lower(name) like lower($1) and disabled_at is null
     order by lower(name) using ~<~, id limit $3)
) found
group by id, name
order by min(rank), lower(name) using ~<~, id
limit $3

-- name: known_to
select u.id, u.last_seen_at
from unnest($2::uuid[]) as t(id)
join users u on u.id = t.id
where u.id = $1 or exists (
    select from room_members mine
    join room_members theirs on theirs.room_id = mine.room_id and theirs.user_id = u.id
    where mine.user_id = $1)

-- name: seen
update users u set last_seen_at = t.moment
from (
    select k.id, k.moment
    from unnest($1::uuid[], $2::timestamptz[]) as k(id, moment)
    join users l on l.id = k.id
    where l.last_seen_at is null or l.last_seen_at < k.moment
    order by k.id for no key update of l -- in one order on all nodes
) t
where u.id = t.id

-- name: get
select * from users where id = $1 and disabled_at is null

-- name: lock
select avatar_id from users where id = $1 for no key update

-- name: take_avatar
-- Not before a month from now does the sweep look at it, and then it finds whose picture it is. A sweep that is about to
-- remove it holds the row, and one that saw it without its owner sees that its time has not come.
update files set sweep_at = greatest(sweep_at, now() + interval '30 days')
where id = $2 and owner_id = $1 and ready and removed_at is null and thumbnail
returning id

-- name: give_up_avatar
update files set sweep_at = now() where id = $1

-- name: update
update users set name = coalesce($2, name), bio = coalesce($3, bio), locale = coalesce($4, locale),
    time_zone = coalesce($5, time_zone), avatar_id = $6
where id = $1 returning *
