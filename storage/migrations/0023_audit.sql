-- What those in charge did to whom. Rows are added, and never changed.
create table audit (
    id bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    actor_id uuid, -- no reference: the row outlives whoever it is about
    act text not null,
    subject_id uuid,
    data jsonb not null default '{}'
);
create index audit_by_subject on audit (subject_id, id);
