-- name: people
select id, email, name, role, created_at, disabled_at from users
where ($1::timestamptz is null or (created_at, id) > ($1, $2::uuid))
order by created_at, id limit $3

-- name: lock_admins
-- Two admins who take each other's role at once: the second one finds who is left.
select id from users where role = 'admin' and disabled_at is null order by id for update

-- name: role
select role from users where id = $1 for update

-- name: set_role
update users set role = $2 where id = $1

-- name: set_access
update users set disabled_at = case when $2 then null else coalesce(disabled_at, now()) end where id = $1

-- name: note
insert into audit (actor_id, act, subject_id, data) values ($1, $2, $3, $4)

-- name: audit
select a.id, a.at, a.actor_id, a.act, a.subject_id, a.data::text as data from audit a
where ($1::bigint is null or a.id < $1) and ($2::uuid is null or a.subject_id = $2)
order by a.id desc limit $3
