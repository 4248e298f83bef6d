-- A restore that leaves no trace (the copied files of the stopped server: same system identifier, same timeline) is
-- declared by `insert into log_histories default values`.
create table log_histories (
    id bigint generated always as identity primary key,
    began_at timestamptz not null default now()
);

create or replace function log_generation() returns text language sql stable parallel safe as $$
    select substr(encode(sha256(convert_to(concat_ws('/',
        (select system_identifier from pg_control_system()),
        case when pg_is_in_recovery() then (select timeline_id from pg_control_checkpoint())
             else ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::integer end,
        (select oid from pg_database where datname = current_database()),
        'messages'::regclass::oid,
        (select max(id) from log_histories)
    ), 'UTF8')), 'hex'), 1, 8)
$$;
