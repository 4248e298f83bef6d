-- What people say of themselves.
alter table users
    add column bio text not null default '',
    add column locale varchar(35) not null default '', -- BCP 47
    add column time_zone varchar(64) not null default '', -- a name of the IANA's database
    add column avatar_id uuid references files on delete set null; -- an image of theirs, which the sweep leaves alone
create index users_by_avatar on users (avatar_id) where avatar_id is not null;
