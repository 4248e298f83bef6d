-- name: lock_owner
-- Keys of one person are made one after the other, so that they are counted.
select id from users where id = $1 and disabled_at is null for no key update

-- name: count
select count(*) from api_keys where user_id = $1

-- name: add
insert into api_keys (user_id, name, prefix, key_hash, scopes, expires_at) values ($1, $2, $3, $4, $5, $6) returning *

-- name: list
select * from api_keys where user_id = $1 order by created_at, id

-- name: revoke
delete from api_keys where user_id = $1 and id = $2

-- name: revoke_of
with gone as (delete from api_keys where user_id = $2 and id = $3 returning *)
insert into audit (actor_id, act, subject_id, data)
select $1, 'key.revoked', user_id, jsonb_build_object('key_id', id, 'name', name, 'prefix', prefix) from gone

-- name: use
-- Its use is noted once a minute, by one of those who use it at once.
with found as (
    select k.id, k.scopes, k.last_used_at, k.user_id, u.name, u.role
    from api_keys k join users u on u.id = k.user_id
    where k.key_hash = $1 and u.disabled_at is null and (k.expires_at is null or k.expires_at > now())
), noted as (
    update api_keys k set last_used_at = now()
    from (
        select a.id from api_keys a join found f on f.id = a.id
        where a.last_used_at is null or a.last_used_at < now() - interval '1 minute'
        for no key update of a skip locked
    ) t
    where k.id = t.id
)
select user_id, name, role, scopes from found
