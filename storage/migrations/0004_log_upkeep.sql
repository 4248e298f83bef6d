-- Remove what the history rules of the channels no longer keep; returns the number of messages. Ids in order, as in
-- append_messages: both lock several channels.
create function trim_channels(ids bigint[]) returns bigint language plpgsql volatile as $$
declare
    c channels;
    low bigint;
    removed bigint;
    total bigint := 0;
begin
    for c in select * from channels where id = any (ids) order by id loop
        low := kept_from(c.id, c.first_offset, c.last_offset, c.history_size, c.history_ttl);
        continue when low <= c.first_offset;
        -- The row says so before the messages go: who reads meanwhile sees both or neither.
        update channels set first_offset = greatest(first_offset, low) where id = c.id;
        delete from messages m where m.channel_id = c.id and m."offset" < low;
        get diagnostics removed = row_count;
        total := total + removed;
    end loop;
    return total;
end $$;

-- Remove a channel's history. The new epoch makes every earlier position unrecoverable; offsets go on.
create function clear_channel(channel text) returns table (epoch integer, last_offset bigint)
language plpgsql volatile as $$
#variable_conflict use_column
declare
    c channels;
begin
    update channels set epoch = channels.epoch + 1, first_offset = channels.last_offset + 1
    where name = channel and channels.last_offset > 0
    returning * into c;
    delete from messages m where m.channel_id = c.id;
    return query select coalesce(c.epoch, 0), coalesce(c.last_offset, 0);
end $$;

-- The heads of the channels that have messages created since a moment.
create function changed_channels(since timestamptz) returns table (name text, epoch integer, last_offset bigint)
language sql stable
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
    select c.name, c.epoch, c.last_offset
    from (select distinct m.channel_id from messages m where m.created_at >= since) m
    join channels c on c.id = m.channel_id
$$;
