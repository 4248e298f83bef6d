-- name: add
insert into classes (id, course_id, title, starts_at, ends_at, media, created_by) values ($1, $2, $3, $4, $5, $6, $7)
on conflict (id) do nothing

-- name: lock
select * from classes where course_id = $1 and id = $2 for update

-- name: update
update classes set title = $2, starts_at = $3, ends_at = $4, media = $5 where id = $1

-- name: get
select * from classes where course_id = $1 and id = $2

-- name: list
select * from classes
where course_id = $1 and ($2::timestamptz is null or (starts_at, id) < ($2, $3::uuid))
order by starts_at desc, id desc limit $4

-- name: note
update classes set started_at = coalesce(started_at, $2), ended_at = coalesce(ended_at, $3),
    cancelled_at = coalesce(cancelled_at, $4)
where id = $1

-- name: state
select s.state from class_states s where s.class_id = $1

-- name: keep
with kept as (
    insert into class_states (class_id, "offset", state) select k.id, $2, $3 from classes k where k.id = $1
    on conflict (class_id) do update set "offset" = excluded."offset", state = excluded.state
    where class_states."offset" < excluded."offset"
    returning class_id -- whoever kept a later one has seen to what was refused before
)
update messages m set data = convert_to('{"type":"refused","id":"' || m.id || '"}', 'UTF8'), search = null
from kept k join channels c on c.name = 'class:' || k.class_id
where m.channel_id = c.id and m."offset" = any ($4::bigint[])

-- name: has_said
select exists (
    select from channels c join messages m on m.channel_id = c.id
    where c.name = $1 and m.id = $2 and m.sender_id = $3
)

-- name: standings
select i, course_id, role, name, seat, archived from class_standings($1, $2)

-- name: take_seats
select i, seat, head from take_seats($1, $2, $3)

-- name: give_up_seat
delete from class_seats where class_id = $1 and user_id = $2 and "offset" = $3

-- name: seats
-- The role is that of class_standings.
select s.user_id, u.name,
       case when e.role in ('teacher', 'assistant') then e.role::text
            when u.role = 'admin' then 'teacher'
            when c.status <> 'draft' then e.role::text end as role,
       s."offset" as seat, s.taken_at
from class_seats s join users u on u.id = s.user_id and u.disabled_at is null
join classes k on k.id = s.class_id
join courses c on c.id = k.course_id
left join enrollments e on e.course_id = k.course_id and e.user_id = s.user_id and e.status in ('active', 'completed')
where s.class_id = $1 and s."offset" >= $2 and ($3::timestamptz is null or (s.taken_at, s.user_id) > ($3, $4::uuid))
order by s.taken_at, s.user_id limit $5

-- name: open_seats
-- Also without a seat, where more was said than when the class is: somebody may have a role there.
select k.id, coalesce(s."offset", 0) as seat
from classes k left join class_seats s on s.class_id = k.id and s.user_id = $2
where k.course_id = $1 and k.ended_at is null and k.cancelled_at is null
  and (s.user_id is not null or exists (select from channels c where c.name = 'class:' || k.id and c.last_offset > 1))

-- name: seats_of_disabled
select s.class_id, s."offset" as seat
from users u join class_seats s on s.user_id = u.id join classes k on k.id = s.class_id
where u.id = $1 and u.disabled_at is not null and k.ended_at is null and k.cancelled_at is null

-- name: staff
-- Of the course, and the admins of the school who have come.
select user_id from enrollments where course_id = $2 and role in ('teacher', 'assistant') and status = 'active'
union
select s.user_id from class_seats s join users u on u.id = s.user_id and u.role = 'admin' where s.class_id = $1

-- name: count_seats
-- How many are in, and how many wait. Seats up to $2 are in (null: all), beyond it those of the staff and of $3. A seat that
-- is lost, up to an offset ($4 and $5 are users and offsets), counts nowhere.
select count(*) filter (where t.inside) as inside, count(*) filter (where not t.inside) as waiting
from (
    select $2::bigint is null or s."offset" <= $2 or s.user_id = any ($3::uuid[])
        or coalesce(e.role in ('teacher', 'assistant'), false) or u.role = 'admin' as inside
    from class_seats s join users u on u.id = s.user_id and u.disabled_at is null
    join classes k on k.id = s.class_id
    join courses c on c.id = k.course_id
    left join enrollments e on e.course_id = k.course_id and e.user_id = s.user_id and e.status in ('active', 'completed')
    left join unnest($4::uuid[], $5::bigint[]) as lost (user_id, "offset") on lost.user_id = s.user_id
    where s.class_id = $1 and s."offset" > coalesce(lost."offset", 0)
      and (u.role = 'admin' or e.role in ('teacher', 'assistant') or (e.role is not null and c.status <> 'draft'))
) t

-- name: add_poll
insert into class_polls (id, class_id, question, options, correct, anonymous, points, asked_by)
values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict (id) do nothing

-- name: same_poll
select exists (
    select from class_polls
    where id = $1 and class_id = $2 and question = $3 and options = $4 and correct is not distinct from $5
      and anonymous = $6 and points = $7
)

-- name: polls
select * from class_polls where id = any($1::uuid[])

-- name: cast
select i, counts, fresh, head from cast_votes($1, $2, $3)

-- name: counts
select exists (
    select from class_votes v join class_polls p on p.id = v.poll_id
    where p.class_id = $1 and p.id = $2 and v.user_id = $3 and v.option = $4 and v."offset" < coalesce(p.closed, $5)
)

-- name: take_back
delete from class_votes where poll_id = $1 and user_id = $2

-- name: close_poll
update class_polls set closed = $2 where id = $1 and closed is null

-- name: tallies
select v.poll_id, v.option, count(*) as votes from class_votes v join class_polls p on p.id = v.poll_id
where v.poll_id = any($1::uuid[]) and (p.closed is null or v."offset" < p.closed) group by v.poll_id, v.option

-- name: own_votes
select q.i, v.option from unnest($1::uuid[], $2::uuid[]) with ordinality as q (poll_id, user_id, i)
join class_votes v on v.poll_id = q.poll_id and v.user_id = q.user_id join class_polls p on p.id = v.poll_id
where p.closed is null or v."offset" < p.closed

-- name: votes
select v.user_id, u.name, v.option from class_votes v join users u on u.id = v.user_id
join class_polls p on p.id = v.poll_id
where v.poll_id = $1 and (p.closed is null or v."offset" < p.closed) and ($2::uuid is null or v.user_id > $2) order by v.user_id limit $3

-- name: grade
select count(put_grade(k.course_id, 'quiz', p.id, v.user_id, case when v.option = p.correct then p.points else 0 end))
from class_polls p join classes k on k.id = p.class_id join class_votes v on v.poll_id = p.id
join enrollments e on e.course_id = k.course_id and e.user_id = v.user_id and e.role = 'student'
where p.id = $1 and p.correct is not null and p.points > 0 and v."offset" < p.closed

-- name: grade_all
select count(put_grade(k.course_id, 'quiz', p.id, v.user_id, case when v.option = p.correct then p.points else 0 end))
from classes k join class_polls p on p.class_id = k.id join class_votes v on v.poll_id = p.id
join enrollments e on e.course_id = k.course_id and e.user_id = v.user_id and e.role = 'student'
where k.id = $1 and p.correct is not null and p.points > 0 and v."offset" < p.closed

-- name: attend
-- A class or an account may be gone: that must not cost the others.
select attend(array_agg(k.id), array_agg(u.id), $3)
from unnest($1::uuid[], $2::uuid[]) as t(class_id, person)
join classes k on k.id = t.class_id join users u on u.id = t.person

-- name: attendance
select a.user_id, u.name, u.email, a.first_at, a.last_at, a.seconds, a.joins
from class_attendance a join users u on u.id = a.user_id
where a.class_id = $1 and ($2::uuid is null or a.user_id > $2) order by a.user_id limit $3

-- name: course_attendance
select e.user_id, u.name, count(a.class_id) as classes, coalesce(sum(a.seconds), 0) as seconds,
       (select count(*) from classes k where k.course_id = $1 and k.started_at is not null) as of_classes
from enrollments e join users u on u.id = e.user_id
left join (class_attendance a join classes k on k.id = a.class_id and k.course_id = $1) on a.user_id = e.user_id
where e.course_id = $1 and e.role = 'student' and e.status in ('active', 'completed')
  and ($2::uuid is null or e.user_id > $2)
group by e.user_id, u.name order by e.user_id limit $3

-- name: overdue
select id from classes where ended_at is null and cancelled_at is null and started_at is not null and ends_at < $1 limit $2
