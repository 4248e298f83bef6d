-- What thousands ask at once when they come back: who may connect, to which rooms, and who is a member of what. Design
-- and numbers in docs/messaging.md. The planner settings are those of append_messages, for the same reason, and what is
-- looked up row by row is a subquery, not a join: a plan that was made while the tables were small began with all rooms
-- and took 180 ms a user when they were big.

-- A user's rooms that are not archived, at most so many, those with the newest talk.
create function newest_rooms(of_user uuid, most integer) returns uuid[] language sql stable
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
    select array(
        select m.room_id
        from room_members m
        where m.user_id = of_user and (select r.archived_at from rooms r where r.id = m.room_id) is null
        order by coalesce(
            (select (select l.created_at from messages l where l.channel_id = c.id and l."offset" = c.last_offset)
             from channels c where c.name = 'room:' || m.room_id),
            (select r.created_at from rooms r where r.id = m.room_id)) desc, m.room_id
        limit most
    )
$$;

-- One row a question: whether the user may connect, how far their personal channel had come, and at most so many of
-- their rooms. Which ones are the newest is looked up only where there are more. A user that is none of ours was let in
-- by another issuer's token.
create function entrances(user_ids uuid[], session_ids uuid[], mosts integer[])
returns table (i integer, allowed boolean, heard bigint, rooms uuid[]) language sql stable
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
    select t.i::integer,
           not exists (select from users u where u.id = t.user_id and u.disabled_at is not null)
           and (t.session_id is null or exists (
               select from sessions s
               where s.id = t.session_id and s.user_id = t.user_id and s.revoked_at is null and s.expires_at > now())),
           case when t.most > 0 then coalesce(
               (select c.last_offset from channels c where c.name = 'user:' || t.user_id), 0) end,
           case when t.most > 0 then (
               select case when count(*) <= t.most then array_agg(f.room_id) else newest_rooms(t.user_id, t.most) end
               from (
                   select m.room_id
                   from room_members m
                   where m.user_id = t.user_id
                     and (select r.archived_at from rooms r where r.id = m.room_id) is null
                   limit t.most + 1
               ) f
           ) end
    from unnest(user_ids, session_ids, mosts) with ordinality as t(user_id, session_id, most, i)
$$;

-- One row for each question that a member asks: where they came in, and the key of a direct room.
create function memberships(room_ids uuid[], user_ids uuid[])
returns table (i integer, joined_offset bigint, direct_key text) language sql stable
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
    select t.i::integer, m.joined_offset, r.direct_key
    from unnest(room_ids, user_ids) with ordinality as t(room_id, user_id, i)
    join room_members m on m.room_id = t.room_id and m.user_id = t.user_id
    join rooms r on r.id = t.room_id
$$;
