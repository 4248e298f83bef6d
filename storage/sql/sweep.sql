-- name: heads
with look as materialized (
    select (extract(epoch from statement_timestamp()) * 1000000)::bigint as now
), changed as (
    select distinct m.channel_id
    from look, messages m
    where m.created_at >= to_timestamp(greatest(coalesce($1::bigint, look.now), look.now - $2::bigint) / 1000000.0)
)
select look.now, log_generation() as generation, c.name, c.epoch, c.last_offset
from look left join (changed join channels c on c.id = changed.channel_id) on true
