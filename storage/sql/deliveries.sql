-- name: deliver
-- What is to be sent of some notifications. An address that nobody has verified gets no mail: it may be a stranger's.
insert into deliveries (way, user_id, subscription_id, kind, course_id, data)
select 'mail', n.user_id, null, n.kind, n.course_id, n.data
from notifications n
join users u on u.id = n.user_id and u.disabled_at is null and u.email_verified_at is not null
join notification_kinds k on k.kind = n.kind
left join notification_ways w on w.user_id = n.user_id
where $2 and n.id = any ($1::uuid[]) and coalesce(n.kind = any (w.mail), k.mail)
union all
select 'push', n.user_id, p.id, n.kind, n.course_id, n.data
from notifications n
join push_subscriptions p on p.user_id = n.user_id
left join sessions s on s.id = p.session_id
join users u on u.id = n.user_id and u.disabled_at is null
join notification_kinds k on k.kind = n.kind
left join notification_ways w on w.user_id = n.user_id
where $3 and n.id = any ($1::uuid[]) and coalesce(n.kind = any (w.push), k.push)
  and (s.id is null or (s.revoked_at is null and s.expires_at > now()))

-- name: turn
-- Of those who ask at once one is the first.
select pg_advisory_xact_lock(hashtextextended($1::uuid || ' ' || $2::text, 0))

-- name: letter
-- A letter about the account. One a minute of each kind: whoever asks for more is told the same and sent nothing.
insert into deliveries (way, user_id, kind)
select 'mail', u.id, $2 from users u
where u.id = $1 and u.disabled_at is null and not exists (
    select from deliveries d where d.user_id = u.id and d.kind = $2 and d.created_at > now() - interval '1 minute')

-- name: any_due
select exists (
    select from deliveries where way = any ($1::text[]) and sent_at is null and failed_at is null and next_at <= now())

-- name: take
with due as materialized (
    select id from deliveries
    where way = $1 and sent_at is null and failed_at is null and next_at <= now()
    order by next_at limit $2 for update skip locked
), taken as (
    update deliveries d
    set attempts = d.attempts + 1,
        next_at = clock_timestamp() + make_interval(secs => least($3 * 2 ^ least(d.attempts, 20), 3600))
    from due where d.id = due.id
    returning d.*
)
select t.id, t.user_id, t.kind, t.course_id, t.data::text as data, t.created_at, t.attempts,
       u.email, u.name, u.password_hash, c.title as course,
       p.id as subscription_id, p.endpoint, p.p256dh, p.auth,
       u.disabled_at is not null or s.revoked_at is not null or s.expires_at <= now() as ended
from taken t
join users u on u.id = t.user_id
left join courses c on c.id = t.course_id
left join push_subscriptions p on p.id = t.subscription_id
left join sessions s on s.id = p.session_id

-- name: sent
update deliveries set sent_at = clock_timestamp(), error = '' where id = $1

-- name: failed
update deliveries set failed_at = clock_timestamp(), error = $2 where id = $1

-- name: delayed
-- Later than it would be, if whoever did not take it said so. What is two days old is given up.
update deliveries
set next_at = greatest(next_at, clock_timestamp() + make_interval(secs => $3)), error = $2,
    failed_at = case when created_at < now() - interval '2 days' then clock_timestamp() end
where id = $1

-- name: trim
delete from deliveries
where id in (
    select id from deliveries
    where (sent_at is not null or failed_at is not null) and created_at < now() - interval '7 days' limit 10000)

-- name: waiting
select count(*) as waiting, min(created_at) as oldest from (
    select created_at from deliveries where sent_at is null and failed_at is null limit 10000) d

-- name: failures
select id, way, user_id, kind, created_at, attempts, failed_at, error from deliveries
where error <> '' and sent_at is null order by created_at desc limit $1

-- name: ways
select k.kind, coalesce(k.kind = any (w.mail), k.mail) as mail, coalesce(k.kind = any (w.push), k.push) as push
from notification_kinds k left join notification_ways w on w.user_id = $1 order by k.kind

-- name: set_ways
insert into notification_ways as w (user_id, mail, push) values ($1, $2, $3)
on conflict (user_id) do update set mail = coalesce(excluded.mail, w.mail), push = coalesce(excluded.push, w.push)

-- name: subscribe
-- A browser has one endpoint, whoever is logged in there.
insert into push_subscriptions as p (user_id, session_id, endpoint, p256dh, auth)
select $1, s.id, $3, $4, $5
from (select 1) one left join sessions s on s.id = $2 and s.user_id = $1
on conflict (endpoint) do update
set user_id = excluded.user_id, session_id = excluded.session_id, p256dh = excluded.p256dh, auth = excluded.auth
returning id, endpoint, created_at

-- name: count_subscriptions
select count(*) from push_subscriptions where user_id = $1

-- name: subscriptions
select id, endpoint, created_at from push_subscriptions where user_id = $1 order by created_at, id

-- name: unsubscribe
delete from push_subscriptions where user_id = $1 and id = $2

-- name: gone
delete from push_subscriptions where id = $1
