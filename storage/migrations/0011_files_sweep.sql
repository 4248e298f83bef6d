-- When a file is looked at again, and what happens to those that nobody wants.

alter table files
    add column sweep_at timestamptz not null default now(), -- when to ask whether a message carries it
    add column removed_at timestamptz, -- nobody gets it any more: its objects go, then this row
    alter column room_id drop not null,
    drop constraint files_room_id_fkey,
    -- A row that went with its room would leave its objects for ever: only the row knows of them.
    add constraint files_room_id_fkey foreign key (room_id) references rooms on delete set null;

drop index files_unattached;
create index files_by_sweep on files (sweep_at);
