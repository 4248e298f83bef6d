-- Search in what was said.

-- Without the channel: with it, a word that many messages have was looked up once for each of a user's rooms (2.3 s with
-- 5,000 rooms, 5 ms now). What waits to be sorted into the index is sorted in by an append: 1 MiB of it takes that
-- append 60 ms, the default of 4 MiB took 160 ms.
drop index messages_search;
create index messages_search on messages using gin (search) with (gin_pending_list_limit = 1024)
where search is not null;

-- What people type, as a query: words that all have to be there, "phrases", or, -without. With `unfinished`, the last
-- word is also the beginning of longer ones. Null for what names no word that a message has to have.
create function search_query(words text, unfinished boolean) returns tsquery language plpgsql immutable as $$
declare
    found tsquery;
begin
    found := websearch_to_tsquery('simple', words);
    if numnode(found) = 0 or ''::tsvector @@ found then
        return null;
    end if;
    return case when unfinished and found::text like '%''' then (found::text || ':*')::tsquery else found end;
exception
    when internal_error then
        return null; -- "tsquery stack too small": more than 32 minus signs in a row
end $$;

-- At most `most` messages with the words, newest first: of one room of the user's, or of all of them; those beyond the
-- message that was created at `since` in channel `since_channel` with offset `since_offset`, where that is given.
--
-- The plans are made for the words at hand, because a word is in ten messages or in half of them. In one room, common
-- words are found by walking back through it. In all rooms the hits are collected first: walking back through the log of
-- everybody would find a quiet room's last message behind millions of others.
create function search_messages(
    reader uuid, words text, unfinished boolean, room uuid,
    since timestamptz, since_channel bigint, since_offset bigint, most integer
) returns table (
    channel_id bigint, "offset" bigint, id uuid, sender_id text, type text, data bytea,
    created_at timestamptz, edited_at timestamptz, deleted_at timestamptz
) language plpgsql stable
set plan_cache_mode = force_custom_plan as $$
#variable_conflict use_column
declare
    wanted tsquery := search_query(words, unfinished);
    rooms bigint[] := array(
        select c.id from room_members r join channels c on c.name = 'room:' || r.room_id
        where r.user_id = reader and (room is null or r.room_id = room));
begin
    if wanted is null or rooms = '{}' then
        return;
    end if;
    if room is not null then
        return query
        select m.channel_id, m."offset", m.id, m.sender_id, m.type, m.data, m.created_at, m.edited_at, m.deleted_at
        from messages m
        where m.channel_id = rooms[1] and m.search @@ wanted and (since is null or m."offset" < since_offset)
        order by m.channel_id desc, m."offset" desc limit most;
        return;
    end if;
    return query
    with hits as materialized (
        select m.channel_id, m."offset", m.created_at from messages m
        where m.channel_id = any (rooms) and m.search @@ wanted
          and (since is null or (m.created_at, m.channel_id, m."offset") < (since, since_channel, since_offset))
    ), newest as materialized (
        select h.channel_id, h."offset" from hits h
        order by h.created_at desc, h.channel_id desc, h."offset" desc limit most
    )
    select m.channel_id, m."offset", m.id, m.sender_id, m.type, m.data, m.created_at, m.edited_at, m.deleted_at
    from newest n join messages m on m.channel_id = n.channel_id and m."offset" = n."offset"
    order by m.created_at desc, m.channel_id desc, m."offset" desc;
end $$;
