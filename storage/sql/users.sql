-- name: create
insert into users (email, password_hash, name, role) values ($1, $2, $3, $4) returning *

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

-- name: set_password_hash
update users set password_hash = $2 where id = $1
