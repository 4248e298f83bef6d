-- name: ids
select nextval('urls_id_seq') from generate_series(1, $1::int)

-- name: create
insert into urls (
    id, short_code, original_url, user_id, title, tags, expires_at, max_visits, password_hash, origin
)
select g.id, g.short_code, g.original_url, g.user_id, g.title, coalesce(string_to_array(nullif(g.tags, ''), E'\n'), '{}'),
       g.expires_at, g.max_visits, g.password_hash, g.origin
from unnest(
    $1::bigint[], $2::text[], $3::text[], $4::uuid[], $5::text[], $6::text[], $7::timestamptz[], $8::int[], $9::text[],
    $10::uuid[]
) g (id, short_code, original_url, user_id, title, tags, expires_at, max_visits, password_hash, origin)
order by g.short_code
on conflict do nothing
returning *

-- name: by_origins
select * from urls where origin = any($1::uuid[])

-- name: by_code
select * from urls where short_code = $1

-- name: by_codes
select * from urls where short_code = any($1::text[])

-- name: lock
select * from urls where short_code = $1 and deleted_at is null for no key update

-- name: by_target
select * from urls
where user_id is not distinct from $1 and md5(original_url) = md5($2) and original_url = $2 and deleted_at is null
  and disabled_at is null and expires_at is null and max_visits is null and password_hash is null
order by id limit 1

-- name: list
select * from urls
where user_id = $1 and deleted_at is null
  and ($2::bigint is null or id < $2)
  and ($3::text is null or tags @> array[$3])
  and ($4::text is null or title ilike $4 or original_url ilike $4 or short_code ilike $4)
order by id desc limit $5

-- name: update
update urls set
    original_url = $2, title = $3, tags = $4, expires_at = $5, max_visits = $6, password_hash = $7, disabled_at = $8,
    origin = $9, version = version + 1, updated_at = now()
where id = $1
returning *

-- name: delete
update urls set
    original_url = '', title = '', tags = '{}', password_hash = null, origin = null, deleted_at = now(),
    version = version + 1, updated_at = now()
where id = $1

-- name: visit
update urls set visits = visits + 1
where short_code = $1 and deleted_at is null and disabled_at is null
  and (expires_at is null or expires_at > clock_timestamp())
  and (max_visits is null or visits < max_visits)
returning original_url
