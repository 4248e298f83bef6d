-- name: create
-- A role is given on the server's machine alone, by nobody with an account.
with made as (
    insert into users (email, password_hash, name, role, email_verified_at)
    values ($1, $2, $3, $4, case when $5 then now() end) returning *
), noted as (
    insert into audit (act, subject_id, data) select 'user.added', id, jsonb_build_object('role', role)
    from made where role <> 'student'
)
select * from made

-- name: by_email
select * from users where email = $1

-- name: by_id
select * from users where id = $1

-- name: list
select * from users
where $1::timestamptz is null or (created_at, id) > ($1, $2::uuid)
order by created_at, id limit $3

-- name: disable
with old as materialized (
    select id, disabled_at is null as was_in from users where id = $1 for update
), changed as (
    update users u set disabled_at = coalesce(u.disabled_at, now()) from old where u.id = old.id returning u.*
), noted as (
    insert into audit (act, subject_id) select 'user.disabled', id from old where was_in
)
select * from changed

-- name: enable
with old as materialized (
    select id, disabled_at is null as was_in from users where id = $1 for update
), changed as (
    update users u set disabled_at = null from old where u.id = old.id returning u.*
), noted as (
    insert into audit (act, subject_id) select 'user.enabled', id from old where not was_in
)
select * from changed

-- name: replace_password
-- By a link ($4) it may be somebody else who knew the old one, and what they have made opens nothing any more.
with changed as (
    update users
    set password_hash = $3, email_verified_at = case when $4 then coalesce(email_verified_at, now()) else email_verified_at end
    where id = $1 and password_hash = $2
    returning id
), revoked as (
    delete from api_keys k using changed c where k.user_id = c.id and $4
)
select count(*) from changed

-- name: verified
update users set email_verified_at = coalesce(email_verified_at, now()) where id = $1
