-- Quizzes: questions that are marked by themselves, and who has answered what in which time.

create table quizzes (
    id uuid primary key,
    course_id uuid not null references courses on delete cascade,
    title varchar(255) not null,
    description text not null default '',
    status varchar(50) not null default 'draft' check (status in ('draft', 'published')),
    opens_at timestamptz, -- null: as soon as it is published
    due_date timestamptz, -- the end of every attempt; null: none
    time_limit integer check (time_limit > 0), -- seconds of one attempt; null: none
    attempts integer not null default 1 check (attempts > 0),
    shuffle boolean not null default true,
    answers varchar(20) not null default 'after' check (answers in ('never', 'after', 'due')), -- when right ones are shown
    questions jsonb not null default '[]', -- with the right answers
    number_of_questions integer generated always as (jsonb_array_length(questions)) stored, -- for lists
    points numeric not null check (points > 0), -- of all questions
    weight numeric not null default 1 check (weight >= 0), -- of the grade of the course
    version integer not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (course_id, id)
);
create index quizzes_by_course on quizzes (course_id, created_at, id);

create table quiz_attempts (
    id uuid primary key,
    course_id uuid not null,
    quiz_id uuid not null,
    student_id uuid not null references users on delete cascade,
    attempt integer not null check (attempt > 0),
    started_at timestamptz not null default clock_timestamp(),
    ends_at timestamptz, -- by the clock of this database; null: no limit
    answers jsonb not null default '{}', -- by question
    saved_at timestamptz,
    handed_in_at timestamptz, -- and marked: by the student, or by the clock
    points numeric,
    marks jsonb not null default '{}', -- points by question
    foreign key (course_id, quiz_id) references quizzes (course_id, id),
    unique (quiz_id, student_id, attempt)
);
create index quiz_attempts_by_student on quiz_attempts (course_id, student_id, quiz_id);
create index quiz_attempts_running on quiz_attempts (ends_at) where handed_in_at is null and ends_at is not null;
-- The reminders look for what is due within a day.
create index assignments_due on assignments (due_date) where status = 'published';
create index quizzes_due on quizzes (due_date) where status = 'published';
create index extensions_due on extensions (due_date);
