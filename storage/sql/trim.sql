-- name: some
-- Those of the named channels that keep only a part of their history.
select trim_channels(array(
    select id from channels where name = any ($1::text[]) and (history_size > 0 or history_ttl > 0) order by id))

-- name: next
-- The next $2 such channels after id $1; null at the end.
with part as materialized (
    select id from channels
    where id > $1 and (history_size > 0 or history_ttl > 0) and first_offset <= last_offset
    order by id limit $2
)
select max(id) as last, trim_channels(coalesce(array_agg(id order by id), '{}')) as removed from part

-- name: clear
select c.*, (select log_generation()) as generation from clear_channel($1) c
