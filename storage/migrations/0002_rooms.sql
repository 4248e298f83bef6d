-- Rooms and who is in them. What is said in a room is in the log of the channel `room:<id>`.

create table rooms (
    id uuid primary key default gen_random_uuid(),
    kind text not null check (kind in ('direct', 'group')),
    title text not null default '',
    -- The two people of a direct room, smaller id first: one room a pair, however often it is asked for.
    direct_key text unique check ((kind = 'direct') = (direct_key is not null)),
    created_by uuid references users on delete set null,
    created_at timestamptz not null default now(),
    archived_at timestamptz
);

create table room_members (
    room_id uuid not null references rooms on delete cascade,
    user_id uuid not null references users on delete cascade,
    role text not null check (role in ('owner', 'moderator', 'member')),
    joined_at timestamptz not null default now(),
    primary key (room_id, user_id)
);

create index room_members_by_user on room_members (user_id, room_id);
