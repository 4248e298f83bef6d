-- A page is bounded in bytes in both directions, all that is sent of a message counted, and never empty for that
-- reason alone: whoever turns the pages would not come past a large message.
create or replace function read_channels(
    names text[], afters bigint[], limits integer[], byte_limits bigint[], backs boolean[]
)
returns table (
    i integer, epoch integer, last_offset bigint, first_offset bigint,
    "offset" bigint, created_at timestamptz, data bytea, info bytea, tags bytea
) language sql stable
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
    select t.i::integer, c.epoch, c.last_offset, c.low, m."offset", m.created_at, m.data, m.info, m.tags
    from unnest(names, afters, limits, byte_limits, backs) with ordinality as t(name, after, n, bytes, back, i)
    left join lateral (
        select c.id, c.epoch, c.last_offset, case
                   when c.history_size = 0 and c.history_ttl = 0 then c.first_offset
                   else kept_from(c.id, c.first_offset, c.last_offset, c.history_size, c.history_ttl) end as low
        from channels c where c.name = t.name
    ) c on true
    left join lateral (
        -- octet_length does not fetch a long value that lies beside the table; only what fits is fetched.
        select f."offset", f.created_at, f.data, f.info, f.tags
        from (
            select r.*, row_number() over upwards as nth,
                   sum(octet_length(r.data) + coalesce(octet_length(r.info), 0) + coalesce(octet_length(r.tags), 0))
                       over upwards as bytes
            from (
                select * from messages m
                where not t.back and t.n > 0 and m.channel_id = c.id and m."offset" > greatest(t.after, c.low - 1)
                order by m.channel_id, m."offset" limit t.n
            ) r
            window upwards as (order by r."offset")
        ) f
        where f.bytes <= t.bytes or f.nth = 1
        union all
        select b."offset", b.created_at, b.data, b.info, b.tags
        from (
            select r.*, row_number() over downwards as nth,
                   sum(octet_length(r.data) + coalesce(octet_length(r.info), 0) + coalesce(octet_length(r.tags), 0))
                       over downwards as bytes
            from (
                select * from messages m
                where t.back and t.n > 0 and m.channel_id = c.id and m."offset" < t.after and m."offset" >= c.low
                order by m.channel_id desc, m."offset" desc limit t.n
            ) r
            window downwards as (order by r."offset" desc)
        ) b
        where b.bytes <= t.bytes or b.nth = 1
    ) m on true
$$;
