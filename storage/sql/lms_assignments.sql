-- name: add
insert into assignments (id, course_id, title, description, status, due_date, late_policy, late_percent, late_until,
                         points, weight, attempts, rubric)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
on conflict (id) do nothing returning *

-- name: list
select * from assignments
where course_id = $1 and ($2 or status = 'published')
  and ($3::timestamptz is null or (created_at, id) > ($3, $4::uuid))
order by created_at, id limit $5

-- name: get
select a.*, coalesce(e.due_date, a.due_date) as due_for_me, now() as now
from assignments a left join extensions e on e.assignment_id = a.id and e.user_id = $3
where a.course_id = $1 and a.id = $2

-- name: lock
select * from assignments where course_id = $1 and id = $2 for update

-- name: update
update assignments
set title = $3, description = $4, status = $5, due_date = $6, late_policy = $7, late_percent = $8, late_until = $9,
    points = $10, weight = $11, attempts = $12, rubric = $13, version = version + 1, updated_at = clock_timestamp()
where course_id = $1 and id = $2 returning *

-- name: delete
delete from assignments where course_id = $1 and id = $2

-- name: has_submissions
select exists (select from submissions where assignment_id = $1)

-- name: extend
insert into extensions (assignment_id, user_id, due_date, granted_by) values ($1, $2, $3, $4)
on conflict (assignment_id, user_id) do update set due_date = excluded.due_date, granted_by = excluded.granted_by

-- name: takes_part
select exists (
    select from enrollments
    where course_id = $1 and user_id = $2 and role = 'student' and status in ('active', 'completed'))

-- name: turn
-- One after the other: whoever hands the same thing in twice at once has one attempt after the other, or is refused. The
-- lock is of this person and this assignment alone.
select pg_advisory_xact_lock(hashtextextended($1::uuid || ' ' || $2::uuid, 0))

-- name: attempts
select count(*) from submissions where assignment_id = $1 and student_id = $2

-- name: submission
select s.*, u.name as student, a.title, a.points as out_of, a.late_percent, a.late_policy
from submissions s
join users u on u.id = s.student_id
join assignments a on a.id = s.assignment_id
where s.course_id = $1 and s.id = $2

-- name: submit
insert into submissions (id, course_id, assignment_id, student_id, attempt, text, files, days_late)
values ($1, $2, $3, $4, $5, $6, $7, $8)

-- name: of_student
select s.*, u.name as student, a.title, a.points as out_of, a.late_percent, a.late_policy
from submissions s
join users u on u.id = s.student_id
join assignments a on a.id = s.assignment_id
where s.assignment_id = $1 and s.course_id = $3 and s.student_id = $2
order by s.attempt

-- name: of_all
-- The last attempt of each student.
select distinct on (s.student_id) s.*, u.name as student, a.title, a.points as out_of, a.late_percent, a.late_policy
from submissions s
join users u on u.id = s.student_id
join assignments a on a.id = s.assignment_id
where s.assignment_id = $1 and s.course_id = $2 and ($3::uuid is null or s.student_id > $3)
order by s.student_id, s.attempt desc limit $4

-- name: lock_rules
-- What a submission is held against does not change while it is graded. Before the submission itself, as `forgive` does.
select from assignments
where id = (select assignment_id from submissions where course_id = $1 and id = $2) for share

-- name: lock_submission
select * from submissions where course_id = $1 and id = $2 for update

-- name: grade
update submissions
set grade = $2, feedback = $3, scores = $4, graded_by = $5, graded_at = clock_timestamp(), version = version + 1
where id = $1

-- name: return
update submissions
set returned_at = clock_timestamp(), returned_grade = grade, returned_feedback = feedback, version = version + 1
where id = $1

-- name: remember
insert into grade_history (submission_id, grade, feedback, graded_by)
select id, grade, feedback, graded_by from submissions where id = $1

-- name: history
select h.grade, h.feedback, h.graded_by, h.returned_at from grade_history h
join submissions s on s.id = h.submission_id
where s.course_id = $1 and s.id = $2 order by h.id

-- name: forgive
-- Whoever has more time now was less late. Nobody becomes later than their receipt says.
update submissions s set days_late = t.days, version = s.version + 1
from (
    select m.id, greatest(0, ceil(extract(epoch from m.submitted_at - coalesce(e.due_date, a.due_date)) / 86400)) as days
    from submissions m
    join assignments a on a.id = m.assignment_id
    left join extensions e on e.assignment_id = a.id and e.user_id = m.student_id
    where m.assignment_id = $1 and ($2::uuid is null or m.student_id = $2)
) t
where s.id = t.id and s.days_late > t.days

-- name: count
-- What counts: the best of the returned attempts, less what being late costs.
select put_grade(s.course_id, 'assignment', s.assignment_id, s.student_id, max(
    s.returned_grade * (100 - case when a.late_policy = 'reduce'
                                   then least(100, s.days_late * a.late_percent) else 0 end) / 100))
from submissions s join assignments a on a.id = s.assignment_id
where s.assignment_id = $1 and ($2::uuid is null or s.student_id = $2) and s.returned_at is not null
group by s.course_id, s.assignment_id, s.student_id order by s.student_id

-- name: items
select id, title, points, weight, created_at from assignments where course_id = $1 and status = 'published'
union all
select id, title, points, weight, created_at from quizzes where course_id = $1 and status = 'published'
union all -- those of live classes, once they were graded
select p.id, left(p.question, 255), p.points, 1, p.asked_at from classes k join class_polls p on p.class_id = k.id
where k.course_id = $1 and p.correct is not null and p.points > 0
  and exists (select from grades g where g.course_id = $1 and g.kind = 'quiz' and g.item_id = p.id)
order by created_at, id

-- name: gradebook
select e.user_id, u.name, u.email,
       coalesce(jsonb_object_agg(g.item_id, g.points) filter (where g.item_id is not null), '{}') as points
from (
    select user_id from enrollments
    where course_id = $1 and role = 'student' and status in ('active', 'completed')
      and ($2::uuid is null or user_id > $2) and ($4::uuid is null or user_id = $4)
    order by user_id limit $3
) e
join users u on u.id = e.user_id
left join grades g on g.course_id = $1 and g.student_id = e.user_id
group by e.user_id, u.name, u.email order by e.user_id
