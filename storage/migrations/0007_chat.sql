-- What a chat keeps beside its log.

create extension if not exists btree_gin; -- trusted: the owner of the database may

alter table users add column last_seen_at timestamptz; -- when their last device went; set in batches
create index users_by_name on users (lower(name) text_pattern_ops);

alter table rooms
    add column open boolean not null default false, -- whether anybody with an account may find and join it
    add column updated_at timestamptz not null default now();
create index rooms_open on rooms (lower(title) text_pattern_ops) where open and archived_at is null;

-- Where the room's log stood when they came in: what was said before is not unread to them.
alter table room_members add column joined_offset bigint not null default 0;

-- The log itself refuses: a cached permission on each node would be late, and this costs a look at a row that is
-- locked already and at a table that is nearly always empty.
alter table channels add column closed boolean not null default false; -- takes events, but no messages
create table silenced (
    channel_id bigint not null references channels,
    sender_id text not null,
    until timestamptz not null, -- 'infinity': until somebody says otherwise
    primary key (channel_id, sender_id)
);

alter table messages
    add column target uuid, -- the message that an event is about
    add column search tsvector; -- words of the content; null for what nobody searches
create index messages_by_target on messages (channel_id, target) where target is not null;
create index messages_search on messages using gin (channel_id, search) where search is not null;

-- Who was mentioned where. Those beyond the cursor are the unread ones.
create table mentions (
    user_id uuid not null,
    channel_id bigint not null,
    "offset" bigint not null,
    primary key (user_id, channel_id, "offset")
);

create table reactions (
    channel_id bigint not null,
    message_id uuid not null,
    emoji text not null,
    user_id uuid not null,
    created_at timestamptz not null default now(),
    primary key (channel_id, message_id, emoji, user_id)
);

create table pins (
    channel_id bigint not null,
    message_id uuid not null,
    pinned_by uuid references users on delete set null,
    pinned_at timestamptz not null default now(),
    primary key (channel_id, message_id)
);

-- How far each member has read: a watermark, never a row a message. Redis is ahead of it by seconds.
create table read_cursors (
    channel_id bigint not null,
    user_id uuid not null references users on delete cascade,
    "offset" bigint not null,
    read_at timestamptz not null default now(),
    primary key (user_id, channel_id)
);
create index read_cursors_by_channel on read_cursors (channel_id, "offset");

-- Files are in the object store under their id; a row says whose they are and who may have them.
create table files (
    id uuid primary key,
    room_id uuid not null references rooms on delete cascade,
    owner_id uuid references users on delete set null,
    name text not null,
    content_type text not null default '',
    size bigint not null default 0, -- bytes
    sha256 bytea,
    width integer, -- of an image, in pixels
    height integer,
    thumbnail boolean not null default false,
    ready boolean not null default false, -- false while it is uploaded, and for ever when that is cut off
    message_id uuid, -- the message that carries it; null: nobody's yet, and swept in time
    created_at timestamptz not null default now()
);
create index files_unattached on files (created_at) where message_id is null;
create index files_by_room on files (room_id);
