-- name: find
select i, user_id, name, role, said from identities_of($1, $2)

-- name: lock
-- Two nodes that meet somebody at the same moment, or hear of another role: one after the other.
select pg_advisory_xact_lock(hashtextextended($1::text || ' ' || $2::text, 0))

-- name: get
select user_id, made, role from identities where issuer = $1 and subject = $2

-- name: by_address
select id, role, email_verified_at is not null as verified from users where email = $1 for update

-- name: prove
-- The issuer has shown whose the address is. Whoever made the account with it never did.
update users set password_hash = $2, email_verified_at = now() where id = $1

-- name: end_sessions
update sessions set revoked_at = now() where user_id = $1 and revoked_at is null returning id

-- name: end_keys
delete from api_keys where user_id = $1

-- name: make_account
insert into users (id, email, password_hash, name, role, email_verified_at)
values ($1, $2, $3, $4, $5, case when $6 then now() end) on conflict do nothing

-- name: add
insert into identities (issuer, subject, user_id, made, role) values ($1, $2, $3, $4, $5)

-- name: say_role
update identities set role = $3 where issuer = $1 and subject = $2

-- name: give_role
update users u set role = $2 from (select id, role from users where id = $1 for update) old
where u.id = old.id and old.role <> $2 returning old.role

-- name: note
insert into audit (act, subject_id, data) values ($1, $2, $3)
