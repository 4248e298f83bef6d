-- Members alone change messages: `change_message` asks, under the lock that a removal takes as well, so that nothing is
-- changed after it. Its caller asked before, and may have waited for the lock behind the removal. One answer more:
--   9  the actor is not a member of the room
create or replace function change_message(
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
        if not exists (
            select from room_members m where m.room_id = split_part(channel, ':', 2)::uuid and m.user_id = actor::uuid
        ) then
            return query select 9, 0::bigint, 0, null::timestamptz, null::bytea, null::bytea, null::bytea;
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
