-- The log decides who may write, counts what people count, and keeps what a message is found by.

-- From here on count_no is the number of counted messages up to and including the row, on every row: what is unread
-- beyond any offset is one look at the primary key. `counted` says whether the row is one of them.
alter table messages add column counted boolean not null default true;
update messages m
set counted = false,
    count_no = coalesce(
        (select p.count_no from messages p
         where p.channel_id = m.channel_id and p."offset" < m."offset" and p.count_no is not null
         order by p."offset" desc limit 1),
        (select n.count_no - 1 from messages n
         where n.channel_id = m.channel_id and n."offset" > m."offset" and n.count_no is not null
         order by n."offset" limit 1),
        (select c.last_count from channels c where c.id = m.channel_id))
where m.count_no is null;
alter table messages alter column count_no set not null;

-- Where the last counted message is, so that a list of rooms by their talk does not look for it behind the events.
alter table channels add column last_message bigint not null default 0;
update channels c set last_message = coalesce(
    (select max(m."offset") from messages m where m.channel_id = c.id and m.counted), 0);

create index mentions_by_message on mentions (channel_id, "offset"); -- a deleted message mentions nobody

-- Append a batch. Row i of the arrays is one message; message mention_rows[k] mentions mention_users[k]. Answers one row
-- a message:
--   0  new
--   1  stored before by the same sender (with what is stored)
--   2  the id belongs to another sender
--   3  refused: the channel is closed to messages
--   4  refused: the sender is silenced, created_at says until when (null: without end)
-- What is stored already is never refused: its first attempt came through. What is not counted is never refused: a
-- closed room still takes its own events. A refused message has no offset and leaves no hole. Where a message has two
-- answers, the first one holds.
--
-- Three statements under READ COMMITTED, because each takes its own snapshot: what the second waited for (another
-- writer's commit, or a moderator's), the third must see. In a single statement, 293 of 300 concurrent retries of one
-- id failed.
--
-- The planner settings keep the plan that the tables need when they are big, also where it was cached while they were
-- empty.
drop function append_messages(
    text[], uuid[], text[], text[], bytea[], bytea[], bytea[], boolean[], bigint[], bigint[]);
create function append_messages(
    names text[], ids uuid[], senders text[], types text[], datas bytea[], infos bytea[], tag_sets bytea[],
    counteds boolean[], sizes bigint[], ttls bigint[], texts text[], targets uuid[],
    mention_rows integer[] default '{}', mention_users uuid[] default '{}'
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
        select t.i::integer as i, c.id as channel_id, c.epoch, c.last_offset, c.last_count, c.closed,
               t.id, t.sender, t.type, t.data, t.info, t.tags, t.counted, t.size, t.ttl, t.text, t.target,
               (select s.until from silenced s
                where t.counted and s.channel_id = c.id and s.sender_id = t.sender and s.until > moment) as until
        from unnest(names, ids, senders, types, datas, infos, tag_sets, counteds, sizes, ttls, texts, targets)
             with ordinality
             as t(name, id, sender, type, data, info, tags, counted, size, ttl, text, target, i)
        join channels c on c.name = t.name
    ), judged as materialized (
        select n.*, case when n.counted and n.closed then 3 when n.until is not null then 4 else 0 end as verdict
        from input n
        where not exists (select from messages m where m.channel_id = n.channel_id and m.id = n.id)
    ), accepted as (
        select n.*, row_number() over (partition by n.channel_id, n.id order by n.i) as turn
        from judged n where n.verdict = 0
    ), placed as materialized (
        select n.*,
               n.last_offset + row_number() over w as new_offset,
               n.last_count + count(*) filter (where n.counted) over w as new_count
        from accepted n
        where n.turn = 1
        window w as (partition by n.channel_id order by n.i)
    ), stored as (
        insert into messages (channel_id, "offset", count_no, counted, id, sender_id, type, data, info, tags,
                              created_at, target, search)
        select p.channel_id, p.new_offset, p.new_count, p.counted, p.id, p.sender, p.type, p.data, p.info, p.tags,
               moment, p.target, case when p.text <> '' then to_tsvector('simple', p.text) end
        from placed p
    ), mentioned as (
        insert into mentions (user_id, channel_id, "offset")
        select distinct u.user_id, p.channel_id, p.new_offset
        from unnest(mention_rows, mention_users) as u(i, user_id) join placed p on p.i = u.i
        where u.user_id::text <> p.sender -- nobody is told of themselves
    ), moved as (
        update channels c
        set last_offset = h.last_offset, last_count = h.last_count, history_size = h.size, history_ttl = h.ttl,
            last_message = coalesce(h.last_message, c.last_message)
        from (
            select p.channel_id, max(p.new_offset) as last_offset, max(p.new_count) as last_count,
                   max(p.new_offset) filter (where p.counted) as last_message,
                   max(p.size) as size, max(p.ttl) as ttl
            from placed p group by p.channel_id
        ) h
        where c.id = h.channel_id
    )
    select p.i, 0, p.new_offset, p.epoch, moment, null::bytea, null::bytea, null::bytea from placed p
    union all
    select n.i, n.verdict, 0, n.epoch, case when n.verdict = 4 then nullif(n.until, 'infinity') end, null, null, null
    from judged n where n.verdict > 0;

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

-- Remove a channel's history. The new epoch makes every earlier position unrecoverable; offsets go on.
create or replace function clear_channel(channel text) returns table (epoch integer, last_offset bigint)
language plpgsql volatile as $$
#variable_conflict use_column
declare
    c channels;
begin
    update channels set epoch = channels.epoch + 1, first_offset = channels.last_offset + 1
    where name = channel and channels.last_offset > 0
    returning * into c;
    delete from messages m where m.channel_id = c.id;
    delete from mentions m where m.channel_id = c.id;
    delete from reactions r where r.channel_id = c.id;
    delete from pins p where p.channel_id = c.id;
    return query select coalesce(c.epoch, 0), coalesce(c.last_offset, 0);
end $$;
