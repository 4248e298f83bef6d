-- The message log: design and numbers in docs/storage.md.

-- A channel without a row stands at epoch 0, offset 0. Rows are never deleted: a row that came back at offset 0 would
-- let a client recover across two histories.
create table channels (
    id bigint generated always as identity primary key,
    name text not null unique check (octet_length(name) <= 255),
    epoch integer not null default 0, -- one more each time the history is cleared
    last_offset bigint not null default 0,
    last_count bigint not null default 0, -- the last count_no given
    first_offset bigint not null default 1, -- the oldest message kept; last_offset + 1 when there is none
    history_size bigint not null default 0, -- messages kept; 0: all
    history_ttl bigint not null default 0 -- seconds they are kept; 0: for ever
) with (fillfactor = 70); -- room for HOT updates: each append updates the row and no index

create index channels_to_trim on channels (id) where history_size > 0 or history_ttl > 0;

create table messages (
    channel_id bigint not null, -- no foreign key: a check a row, of a channel that the same call has locked
    "offset" bigint not null,
    count_no bigint, -- numbers what people count; null for what they do not
    id uuid not null,
    sender_id text not null,
    type text not null,
    data bytea not null, -- JSON, but as jsonb a \u0000 or 1e999999 in one message would fail the whole batch
    info bytea,
    tags bytea,
    created_at timestamptz not null,
    edited_at timestamptz,
    deleted_at timestamptz,
    primary key (channel_id, "offset"),
    unique (channel_id, id)
);

create index messages_by_age on messages (created_at); -- the sweep: which channels changed since the last look

-- Which history this is. It differs after a restore from backup (another system identifier, timeline, database or
-- table), so that nobody recovers across two histories.
create function log_generation() returns text language sql stable parallel safe as $$
    select substr(encode(sha256(convert_to(concat_ws('/',
        (select system_identifier from pg_control_system()),
        case when pg_is_in_recovery() then (select timeline_id from pg_control_checkpoint())
             -- The control file names the new timeline only after the first checkpoint of a promoted server.
             else ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::integer end,
        (select oid from pg_database where datname = current_database()),
        'messages'::regclass::oid
    ), 'UTF8')), 'hex'), 1, 8)
$$;

-- Append a batch. Row i of the arrays is one message. Answers one row a message: status 0 new, 1 stored before by the
-- same sender (with what is stored), 2 the id belongs to another sender. Where a message has two answers, the first
-- one holds.
--
-- Three statements under READ COMMITTED, because each takes its own snapshot: what the second waited for (another
-- writer's commit), the third must see. In a single statement, 293 of 300 concurrent retries of one id failed.
--
-- The planner settings keep the plan that the tables need when they are big, also where it was cached while they were
-- empty.
create function append_messages(
    names text[], ids uuid[], senders text[], types text[], datas bytea[], infos bytea[], tag_sets bytea[],
    counteds boolean[], sizes bigint[], ttls bigint[]
) returns table (
    i integer, status integer, "offset" bigint, epoch integer, created_at timestamptz,
    data bytea, info bytea, tags bytea
) language plpgsql volatile
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
#variable_conflict use_column
declare
    moment timestamptz;
    fresh integer;
begin
    insert into channels (name)
    select distinct n collate "C" from unnest(names) n
    where not exists (select from channels c where c.name = n)
    order by 1 -- two writers that add the same channels wait for each other in one order
    on conflict (name) do nothing;

    perform from channels c where c.name = any (names) order by c.id for no key update;

    -- After the lock: in each channel, created_at follows the offset as well as the clock does.
    moment := clock_timestamp();

    return query
    with input as materialized (
        select t.i::integer as i, c.id as channel_id, c.epoch, c.last_offset, c.last_count,
               t.id, t.sender, t.type, t.data, t.info, t.tags, t.counted, t.size, t.ttl,
               row_number() over (partition by c.id, t.id order by t.i) as turn
        from unnest(names, ids, senders, types, datas, infos, tag_sets, counteds, sizes, ttls) with ordinality
             as t(name, id, sender, type, data, info, tags, counted, size, ttl, i)
        join channels c on c.name = t.name
    ), placed as materialized (
        select n.*,
               n.last_offset + row_number() over w as new_offset,
               n.last_count + count(*) filter (where n.counted) over w as new_count
        from input n
        where n.turn = 1
          and not exists (select from messages m where m.channel_id = n.channel_id and m.id = n.id)
        window w as (partition by n.channel_id order by n.i)
    ), stored as (
        insert into messages (channel_id, "offset", count_no, id, sender_id, type, data, info, tags, created_at)
        select p.channel_id, p.new_offset, case when p.counted then p.new_count end, p.id, p.sender, p.type,
               p.data, p.info, p.tags, moment
        from placed p
    ), moved as (
        update channels c
        set last_offset = h.last_offset, last_count = h.last_count, history_size = h.size, history_ttl = h.ttl
        from (
            select p.channel_id, max(p.new_offset) as last_offset, max(p.new_count) as last_count,
                   max(p.size) as size, max(p.ttl) as ttl
            from placed p group by p.channel_id
        ) h
        where c.id = h.channel_id
    )
    select p.i, 0, p.new_offset, p.epoch, moment, null::bytea, null::bytea, null::bytea from placed p;

    get diagnostics fresh = row_count;
    if fresh < cardinality(ids) then
        return query
        select t.i::integer, case when m.sender_id = t.sender then 1 else 2 end, m."offset", c.epoch, m.created_at,
               m.data, m.info, m.tags
        from unnest(names, ids, senders) with ordinality as t(name, id, sender, i)
        join channels c on c.name = t.name
        join messages m on m.channel_id = c.id and m.id = t.id;
    end if;
end $$;

-- The oldest offset of a channel that its history rules still keep; the rows below it may not be gone yet.
create function kept_from(
    channel_id bigint, first_offset bigint, last_offset bigint, history_size bigint, history_ttl bigint
) returns bigint language sql stable
set enable_seqscan = off as $$
    select case when history_ttl = 0 then bound.low
                else coalesce((
                    select m."offset" from messages m
                    where m.channel_id = kept_from.channel_id and m."offset" >= bound.low
                      and m.created_at > statement_timestamp() - make_interval(secs => history_ttl)
                    order by m.channel_id, m."offset" limit 1), last_offset + 1) end
    from (select greatest(first_offset,
                          case when history_size > 0 then last_offset - history_size + 1 else 1 end) as low) bound
$$;

-- Read parts of several channels and their heads in one snapshot, one row a message; a request without messages has
-- one row with a null offset. Request i wants messages beyond `afters` (oldest first) or, where `backs` is set, below
-- it (newest first), at most `limits`, and stops before the one whose data would pass `byte_limits`.
create function read_channels(names text[], afters bigint[], limits integer[], byte_limits bigint[], backs boolean[])
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
            select r.*, sum(octet_length(r.data)) over (order by r."offset") as bytes
            from (
                select * from messages m
                where not t.back and t.n > 0 and m.channel_id = c.id and m."offset" > greatest(t.after, c.low - 1)
                order by m.channel_id, m."offset" limit t.n
            ) r
        ) f
        where f.bytes <= t.bytes
        union all
        select b."offset", b.created_at, b.data, b.info, b.tags
        from (
            select * from messages m
            where t.back and t.n > 0 and m.channel_id = c.id and m."offset" < t.after and m."offset" >= c.low
            order by m.channel_id desc, m."offset" desc limit t.n
        ) b
    ) m on true
$$;
