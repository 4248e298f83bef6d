-- Changes of stored messages: edits, deletions, and what reactions and pins build on.

-- Lists show messages and system lines. In a room with a thousand reactions to one message, this skips their events.
create index messages_shown on messages (channel_id, "offset") where target is null;

create index files_by_message on files (message_id) where message_id is not null;

-- Replace a message's data, if it is still what the caller has read, and tell of it by an event in the channel's log.
-- One row, like one of append_messages for the event:
--   0  done
--   1  done before: the event is there already, and here is what is stored of it
--   2  the event's id belongs to another sender
--   3  refused: the channel is closed to messages
--   4  refused: the actor is silenced, created_at says until when (null: without end)
--   5  there is no such message: no row of that id, or one that is an event
--   6  changed meanwhile: read again, decide again
-- `spoken` says that the change is something said (an edit, a reaction), which closed rooms and silenced people do not
-- get to do; a deletion is none. `words` is the new text to index (empty: none; null: as before).
--
-- It locks the channel's row, as append_messages does, and holds it to the end of the transaction: call it as a
-- statement of its own. A function around it may call it and write what goes with the change, such as the row of a
-- reaction, when the answer is 0.
create function change_message(
    channel text, message uuid, expected bytea, changed bytea,
    event uuid, actor text, event_data bytea, spoken boolean,
    words text default null, edited timestamptz default null
) returns table (
    status integer, "offset" bigint, epoch integer, created_at timestamptz, data bytea, info bytea, tags bytea
) language plpgsql volatile
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
#variable_conflict use_column
declare
    room channels;
    found_data bytea;
    silence timestamptz;
begin
    select * into room from channels c where c.name = channel for no key update;

    -- A statement after the lock, so that it sees what the lock waited for. What was done is told again before anything
    -- else is asked: the message may have changed since, and the room may be closed.
    if not exists (select from messages m where m.channel_id = room.id and m.id = event) then
        select m.data into found_data
        from messages m where m.channel_id = room.id and m.id = message and m.target is null;
        if not found then
            return query select 5, 0::bigint, 0, null::timestamptz, null::bytea, null::bytea, null::bytea;
            return;
        end if;
        if spoken and room.closed then
            return query select 3, 0::bigint, 0, null::timestamptz, null::bytea, null::bytea, null::bytea;
            return;
        end if;
        if spoken then
            select s.until into silence from silenced s
            where s.channel_id = room.id and s.sender_id = actor and s.until > clock_timestamp();
            if found then
                return query select 4, 0::bigint, 0, nullif(silence, 'infinity'), null::bytea, null::bytea, null::bytea;
                return;
            end if;
        end if;
        if found_data <> expected then
            return query select 6, 0::bigint, 0, null::timestamptz, null::bytea, null::bytea, null::bytea;
            return;
        end if;
        update messages m
        set data = changed,
            edited_at = coalesce(edited, m.edited_at),
            search = case when words is null then m.search when words <> '' then to_tsvector('simple', words) end
        where m.channel_id = room.id and m.id = message;
    end if;

    return query
    select a.status, a."offset", a.epoch, a.created_at, a.data, a.info, a.tags
    from append_messages(
        array[channel], array[event], array[actor], array['event'], array[event_data], array[null::bytea],
        array[null::bytea], array[false], array[0::bigint], array[0::bigint], array[''], array[message]) a;
end $$;

-- Delete a message: what is left of it is `changed`. Nothing stays by which it could be found or read: the events that
-- edited it keep their places in the log, with `blank` in place of all that follows their id.
create function delete_message(
    channel text, message uuid, expected bytea, changed bytea,
    event uuid, actor text, event_data bytea, deleted timestamptz, blank bytea
) returns table (
    status integer, "offset" bigint, epoch integer, created_at timestamptz, data bytea, info bytea, tags bytea
) language plpgsql volatile
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
#variable_conflict use_column
declare
    done record;
    room bigint;
    place bigint;
begin
    select * into done
    from change_message(channel, message, expected, changed, event, actor, event_data, false, '') c;
    if done.status = 0 then
        select c.id into room from channels c where c.name = channel;
        update messages m set deleted_at = deleted where m.channel_id = room and m.id = message
        returning m."offset" into place;
        update messages m set data = convert_to('{"id":"' || m.id || '",', 'UTF8') || blank
        where m.channel_id = room and m.target = message
          -- Inside a string of JSON the quotation marks would be escaped: only the member itself reads like this.
          and position(convert_to('"event":"message_edited"', 'UTF8') in m.data) > 0;
        delete from mentions t where t.channel_id = room and t."offset" = place;
        delete from reactions r where r.channel_id = room and r.message_id = message;
        delete from pins p where p.channel_id = room and p.message_id = message;
        -- The sweep removes what nobody carries. Ids are made by clients: another room may have a message of this one.
        update files f set message_id = null, removed_at = now(), sweep_at = now()
        where f.message_id = message and 'room:' || f.room_id = channel;
    end if;
    return query select done.status, done."offset", done.epoch, done.created_at, done.data, done.info, done.tags;
end $$;
