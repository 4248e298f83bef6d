-- name: next
select id, xid::text as xid, kind, course_id, actor_id, subject_id, data::text as data, at from next_events($1, $2)

-- name: move
update event_cursors set xid = $2::text::xid8, id = $3 where consumer = $1

-- name: trim
-- What every consumer has passed.
delete from course_events e using (
    select xid, id from event_cursors where consumer = any ($1::text[]) order by xid, id limit 1
) c
where (e.xid, e.id) <= (c.xid, c.id)
  and (select count(*) from event_cursors where consumer = any ($1::text[])) = cardinality($1::text[])

-- name: count
insert into activity as a (course_id, day, kind, events)
select * from unnest($1::uuid[], $2::date[], $3::text[], $4::bigint[]) as t(course_id, day, kind, events)
order by 1, 2, 3
on conflict (course_id, day, kind) do update set events = a.events + excluded.events

-- name: activity
select day, kind, events from activity where course_id = $1 and day >= $2 order by day, kind

-- name: totals
select kind, sum(events)::bigint as events from activity where course_id = $1 group by kind order by kind

-- name: pending
select exists (select from notifications where told_at is null) or exists (
    select from unnest($1::text[]) as w(consumer)
    left join event_cursors c on c.consumer = w.consumer
    where exists (
        select from course_events e
        where (e.xid, e.id) > (coalesce(c.xid, '0'), coalesce(c.id, 0))
          and e.xid < pg_snapshot_xmin(pg_current_snapshot())))
