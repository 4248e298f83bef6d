-- name: open
-- Only while the password is the one that was given: whoever changes it ends the logins that there are, and waits for
-- this one.
with owner as (
    select id from users where id = $1 and ($5::text is null or password_hash = $5) and disabled_at is null for share
), session as (
    insert into sessions (user_id, user_agent, expires_at)
    select id, $2, now() + make_interval(secs => $3) from owner returning *
), token as (
    insert into refresh_tokens (token_hash, session_id) select $4, id from session
)
select * from session

-- name: use_token
-- Locks the token: of two uses at the same moment, one is the second.
select t.used_at, t.salt, t.used_at > now() - make_interval(secs => $2) as just_now, s.id, s.user_id,
       s.revoked_at is not null or s.expires_at <= now() or u.disabled_at is not null as ended
from refresh_tokens t join sessions s on s.id = t.session_id join users u on u.id = s.user_id
where t.token_hash = $1
for update of t

-- name: mark_used
update refresh_tokens set used_at = now(), salt = $2 where token_hash = $1

-- name: is_used
select used_at is not null from refresh_tokens where token_hash = $1

-- name: add_token
insert into refresh_tokens (token_hash, session_id) values ($1, $2)

-- name: prolong
update sessions set last_used_at = now(), expires_at = now() + make_interval(secs => $2)
where id = $1 and revoked_at is null
returning *

-- name: revoke
update sessions set revoked_at = now() where id = $1 and revoked_at is null

-- name: revoke_all
update sessions set revoked_at = now() where user_id = $1 and revoked_at is null and id is distinct from $2 returning id

-- name: by_token
select s.* from refresh_tokens t join sessions s on s.id = t.session_id where t.token_hash = $1

-- name: list
select * from sessions
where user_id = $1 and revoked_at is null and expires_at > now()
order by last_used_at desc, id

-- name: is_live
select exists (select from sessions where id = $1 and revoked_at is null and expires_at > now())

-- name: sweep
delete from sessions where expires_at < now() - make_interval(secs => $1)
