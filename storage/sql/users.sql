-- name: create
insert into users (email, password_hash, name, role, email_verified_at)
values ($1, $2, $3, $4, case when $5 then now() end) returning *

-- name: by_email
select * from users where email = $1

-- name: by_id
select * from users where id = $1

-- name: list
select * from users
where $1::timestamptz is null or (created_at, id) > ($1, $2::uuid)
order by created_at, id limit $3

-- name: disable
update users set disabled_at = coalesce(disabled_at, now()) where id = $1 returning *

-- name: enable
update users set disabled_at = null where id = $1 returning *

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
