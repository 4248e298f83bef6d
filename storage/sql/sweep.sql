-- name: heads
-- The channels with messages created since $1 (Unix microseconds; null: in the last $2), but at most $3 back, and $4
-- more for a clock that was set back.
with look as materialized (
    select (extract(epoch from statement_timestamp()) * 1000000)::bigint as now, pg_current_snapshot() as snapshot,
           pg_current_xact_id() as own
)
select look.now, pg_snapshot_xmin(look.snapshot)::text::bigint, look.own::text::bigint,
       (select log_generation()), c.name, c.epoch, c.last_offset
from look left join lateral changed_channels(to_timestamp(
    greatest(coalesce($1::bigint, look.now - $2::bigint) - $4::bigint, look.now - $3::bigint) / 1000000.0)) c on true
