-- Reactions and pins. Both functions take the lock of the room's log before anything else, decide, and let change_message
-- write. They answer as it does, and beyond that:
--   7  it is so already
--   8  there are as many as there may be

-- Give an emoji to a message (`adding`), or take it back. The message's data ends with the summary: of each emoji how
-- many gave it, and the first `most_listed` of them. A thousand may react to one message at once, so the summary is
-- counted on here; as a compare-and-swap, two nodes that took turns at it within themselves still failed eight times in
-- a row. `event_data` lacks its end, the count. At most `most_emoji` different ones.
create function change_reaction(
    channel text, message uuid, event uuid, actor uuid, event_data bytea, given text, adding boolean,
    most_emoji integer, most_listed integer
) returns table (
    status integer, "offset" bigint, epoch integer, created_at timestamptz, data bytea, info bytea, tags bytea
) language plpgsql volatile
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
#variable_conflict use_column
declare
    member constant bytea := convert_to(',"reactions":', 'UTF8');
    room bigint;
    found record;
    verdict integer;
    place integer;
    summary jsonb := '{}';
    total integer;
    listed jsonb;
    told bytea := event_data;
    done record;
begin
    select c.id into room from channels c where c.name = channel for no key update;
    select m.data, m.deleted_at into found
    from messages m where m.channel_id = room and m.id = message and m.target is null;

    if not exists (select from messages m where m.channel_id = room and m.id = event) and found.data is not null then
        -- Inside a string of JSON the quotation marks would be escaped: only the member itself reads like this.
        place := position(member in found.data);
        if place > 0 then
            summary := convert_from(substring(
                found.data from place + octet_length(member)
                for octet_length(found.data) - place - octet_length(member)), 'UTF8');
        else
            place := octet_length(found.data);
        end if;
        total := coalesce((summary -> given ->> 'count')::integer, 0);
        listed := coalesce(summary -> given -> 'users', '[]');

        verdict := case
            when adding = exists (
                select from reactions r
                where r.channel_id = room and r.message_id = message and r.emoji = given and r.user_id = actor) then 7
            when found.deleted_at is not null then 6
            when adding and total = 0 and (select count(*) from jsonb_object_keys(summary)) >= most_emoji then 8
        end;
        if verdict is not null then
            return query select verdict, 0::bigint, 0, null::timestamptz, null::bytea, null::bytea, null::bytea;
            return;
        end if;

        if adding then
            total := total + 1;
            if jsonb_array_length(listed) < most_listed then
                listed := listed || to_jsonb(actor::text);
            end if;
        else
            total := total - 1;
            listed := listed - actor::text;
            if jsonb_array_length(listed) < least(total, most_listed) then
                listed := (
                    select jsonb_agg(f.user_id) from (
                        select r.user_id from reactions r
                        where r.channel_id = room and r.message_id = message and r.emoji = given and r.user_id <> actor
                        order by r.created_at, r.user_id limit most_listed) f);
            end if;
        end if;
        summary := case when total = 0 then summary - given
                        else summary || jsonb_build_object(given, jsonb_build_object('count', total, 'users', listed)) end;
        told := event_data || convert_to(format(',"count":%s}', total), 'UTF8');
    end if;

    select * into done
    from change_message(
        channel, message, found.data,
        substring(found.data for place - 1)
            || case when summary <> '{}' then member || convert_to(summary::text, 'UTF8') else '' end || '}',
        event, actor::text, told, true) c;
    if done.status = 0 and adding then
        insert into reactions (channel_id, message_id, emoji, user_id, created_at)
        values (room, message, given, actor, done.created_at);
    elsif done.status = 0 then
        delete from reactions r
        where r.channel_id = room and r.message_id = message and r.emoji = given and r.user_id = actor;
    end if;
    return query
    select done.status, done."offset", done.epoch, done.created_at,
           case when done.status = 0 then told else done.data end, done.info, done.tags;
end $$;

-- Pin a message (`adding`), at most `most` of a room, or unpin it. The message itself stays as it is.
create function change_pin(
    channel text, message uuid, event uuid, actor uuid, event_data bytea, adding boolean, most integer
) returns table (
    status integer, "offset" bigint, epoch integer, created_at timestamptz, data bytea, info bytea, tags bytea
) language plpgsql volatile
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
#variable_conflict use_column
declare
    room bigint;
    found record;
    verdict integer;
    done record;
begin
    select c.id into room from channels c where c.name = channel for no key update;
    select m.data, m.deleted_at into found
    from messages m where m.channel_id = room and m.id = message and m.target is null;

    if not exists (select from messages m where m.channel_id = room and m.id = event) then
        verdict := case
            when adding = exists (select from pins p where p.channel_id = room and p.message_id = message) then 7
            when found.deleted_at is not null then 6
            when adding and (select count(*) from pins p where p.channel_id = room) >= most then 8
        end;
        if verdict is not null then
            return query select verdict, 0::bigint, 0, null::timestamptz, null::bytea, null::bytea, null::bytea;
            return;
        end if;
    end if;

    select * into done
    from change_message(channel, message, found.data, found.data, event, actor::text, event_data, true) c;
    if done.status = 0 and adding then
        insert into pins (channel_id, message_id, pinned_by, pinned_at) values (room, message, actor, done.created_at);
    elsif done.status = 0 then
        delete from pins p where p.channel_id = room and p.message_id = message;
    end if;
    return query select done.status, done."offset", done.epoch, done.created_at, done.data, done.info, done.tags;
end $$;
