-- Rooms: how many are in them, who is above the others there, and one change after the other.

-- Kept, because a list of rooms would count 19,000 rows of a big one each time.
alter table rooms add column members integer not null default 0;
update rooms r set members = (select count(*) from room_members m where m.room_id = r.id);

create function count_members() returns trigger language plpgsql as $$
begin
    update rooms r set members = r.members + case tg_op when 'INSERT' then c.n else -c.n end
    from (select room_id, count(*) as n from changed group by room_id) c
    where r.id = c.room_id;
    return null;
end $$;
create trigger members_added after insert on room_members
    referencing new table as changed for each statement execute function count_members();
create trigger members_removed after delete on room_members
    referencing old table as changed for each statement execute function count_members();

create index room_members_in_charge on room_members (room_id, role, joined_at) where role <> 'member';

-- Lock channels until the end of the transaction, the missing ones made: first the names in order, then the ids in
-- order, as append_messages does. Rows of other tables are locked after them.
create function lock_channels(names text[]) returns void language plpgsql volatile as $$
begin
    insert into channels (name)
    select distinct n collate "C" from unnest(names) n
    where not exists (select from channels c where c.name = n)
    order by 1
    on conflict (name) do nothing;

    perform from channels c where c.name = any (names) order by c.id for no key update;
end $$;

-- Lock a room, and personal channels with it, and tell how things stand: between the actor, the room and the subject
-- of a change. No row, and no lock, when the room is not one that the actor is in or may join: strangers shall not
-- hold it up.
create function lock_room(room uuid, actor uuid, subject uuid, personal uuid[]) returns table (
    id uuid, kind text, title text, open boolean, created_by uuid, created_at timestamptz, updated_at timestamptz,
    archived_at timestamptz, members integer, channel_id bigint, last_offset bigint,
    actor_role text, actor_name text, subject_role text, subject_name text, muted_until timestamptz
) language plpgsql volatile as $$
#variable_conflict use_column
begin
    if not exists (select from room_members m where m.room_id = room and m.user_id = actor)
       and not exists (select from rooms r where r.id = room and r.open) then
        return;
    end if;

    perform lock_channels('room:' || room || array(select 'user:' || p from unnest(personal) p));

    return query
    select r.id, r.kind, r.title, r.open, r.created_by, r.created_at, r.updated_at, r.archived_at, r.members,
           c.id, c.last_offset, a.role, u.name, s.role, o.name, q.until
    from rooms r
    join channels c on c.name = 'room:' || r.id
    join users u on u.id = actor
    left join room_members a on a.room_id = r.id and a.user_id = actor
    left join room_members s on s.room_id = r.id and s.user_id = subject
    left join users o on o.id = subject and (o.disabled_at is null or s.role is not null)
    left join silenced q on q.channel_id = c.id and q.sender_id = subject::text and q.until > now()
    where r.id = room;
end $$;
