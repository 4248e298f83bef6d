-- name: new_batches
insert into click_batches (id, streamed_at) select * from unnest($1::uuid[], $2::timestamptz[]) order by 1
on conflict do nothing
returning id

-- name: links
select short_code, id from urls where short_code = any($1::text[]) and deleted_at is null

-- name: count
select * from count_clicks($1, $2, $3, $4, $5, $6, $7, $8, $9)

-- name: forget_batches
delete from click_batches where streamed_at < $1 and stored_at < now() - interval '1 hour'

-- name: times
select at, clicks, bots from link_times where url_id = $1 and unit = $2 and at >= $3 order by at

-- name: values
select kind, value, clicks from (
    select kind, value, clicks, row_number() over (partition by kind order by clicks desc, value) as place
    from link_values where url_id = $1
) v
where place <= $2
order by kind, place

-- name: trim
delete from clicks where id in (select id from clicks where clicked_at < now() - make_interval(days => $1) limit 5000)

-- name: trim_hours
delete from link_times where unit = 'hour' and at < now() - interval '90 days'

-- name: to_clear
select id, short_code from urls where deleted_at is not null and not cleared
order by id limit 1 for update skip locked

-- name: clear
with gone as (delete from clicks where id in (select id from clicks where short_code = $1 limit 5000) returning 1)
select count(*) from gone

-- name: clear_times
delete from link_times where url_id = $1

-- name: clear_values
delete from link_values where url_id = $1

-- name: cleared
update urls set cleared = true where id = $1

-- name: lock
select id from urls where short_code = $1 and deleted_at is null for no key update

-- name: reset
update urls set click_count = 0, bot_count = 0 where id = $1

-- name: of_link
select id, clicked_at, user_agent, country, referrer, browser, system, device, bot from clicks
where short_code = $1 and id > $2 order by id limit $3

-- name: judge
update clicks c set browser = g.browser, system = g.system, device = g.device, bot = g.bot
from unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[]) g (id, browser, system, device, bot)
where c.id = g.id
