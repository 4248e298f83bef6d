-- name: add
insert into quizzes (id, course_id, title, description, status, opens_at, due_date, time_limit, attempts, shuffle,
                     answers, questions, points, weight)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
on conflict (id) do nothing returning *

-- name: list
-- Without the questions: a page of long quizzes is tens of megabytes.
select id, course_id, title, description, status, opens_at, due_date, time_limit, attempts, shuffle, answers,
       '[]'::jsonb as questions, number_of_questions, points, weight, version, created_at
from quizzes
where course_id = $1 and ($2 or status = 'published')
  and ($3::timestamptz is null or (created_at, id) > ($3, $4::uuid))
order by created_at, id limit $5

-- name: get
select *, clock_timestamp() as now from quizzes where course_id = $1 and id = $2

-- name: lock
-- Attempts begin under the weaker lock, so nobody begins one while the questions change.
select * from quizzes where course_id = $1 and id = $2 for update

-- name: share
select *, clock_timestamp() as now from quizzes where course_id = $1 and id = $2 for share

-- name: update
update quizzes
set title = $3, description = $4, status = $5, opens_at = $6, due_date = $7, time_limit = $8, attempts = $9,
    shuffle = $10, answers = $11, questions = $12, points = $13, weight = $14,
    version = version + 1, updated_at = clock_timestamp()
where course_id = $1 and id = $2 returning *

-- name: delete
delete from quizzes where course_id = $1 and id = $2

-- name: has_attempts
select exists (select from quiz_attempts where quiz_id = $1)

-- name: takes_part
select exists (
    select from enrollments
    where course_id = $1 and user_id = $2 and role = 'student' and status in ('active', 'completed'))

-- name: turn
-- Whoever begins twice at once has one attempt.
select pg_advisory_xact_lock(hashtextextended($1::uuid || ' ' || $2::uuid, 0))

-- name: begin
insert into quiz_attempts (id, course_id, quiz_id, student_id, attempt, started_at, ends_at)
values ($1, $2, $3, $4, $5, $6, $7) returning *

-- name: attempt
select a.*, u.name as student, clock_timestamp() as now from quiz_attempts a join users u on u.id = a.student_id
where a.course_id = $1 and a.quiz_id = $2 and a.id = $3

-- name: of_student
select a.*, u.name as student from quiz_attempts a join users u on u.id = a.student_id
where a.quiz_id = $1 and a.student_id = $2 and a.course_id = $3 order by a.attempt

-- name: of_all
select a.*, u.name as student from quiz_attempts a join users u on u.id = a.student_id
where a.quiz_id = $1 and a.course_id = $2 and ($3::uuid is null or (a.student_id, a.attempt) > ($3, $4::integer))
order by a.student_id, a.attempt limit $5

-- name: lock_attempt
select a.*, u.name as student, clock_timestamp() as now from quiz_attempts a join users u on u.id = a.student_id
where a.course_id = $1 and a.quiz_id = $2 and a.id = $3 for update of a

-- name: save
update quiz_attempts set answers = answers || $2, saved_at = clock_timestamp() where id = $1 returning answers

-- name: close
update quiz_attempts set handed_in_at = $2, points = $3, marks = $4 where id = $1

-- name: best
select max(points) from quiz_attempts where quiz_id = $1 and student_id = $2 and handed_in_at is not null

-- name: put_grade
select put_grade($1, 'quiz', $2, $3, $4)

-- name: over
-- Attempts whose time is up; two workers have different ones. By `clock_timestamp()` no index could be asked, and all
-- that run were read every 2 s.
select a.*, u.name as student from quiz_attempts a join users u on u.id = a.student_id
where a.handed_in_at is null and a.ends_at <= statement_timestamp()
order by a.ends_at limit $1 for update of a skip locked

-- name: quizzes
select * from quizzes where id = any ($1::uuid[])

-- name: any_over
select exists (select from quiz_attempts where handed_in_at is null and ends_at <= statement_timestamp())
