-- Assignments, what is handed in, and grades.

create table assignments (
    id uuid primary key default gen_random_uuid(),
    course_id uuid not null references courses on delete cascade,
    title varchar(255) not null,
    description text not null default '',
    status varchar(50) not null default 'draft' check (status in ('draft', 'published')),
    due_date timestamptz, -- null: none
    late_policy varchar(20) not null default 'accept' check (late_policy in ('refuse', 'accept', 'reduce')),
    late_percent numeric not null default 0 check (late_percent between 0 and 100), -- of the grade, for each day begun
    late_until timestamptz, -- nothing is taken after it; null: no end
    points numeric not null default 100 check (points > 0),
    weight numeric not null default 1 check (weight >= 0), -- of the grade of the course
    attempts integer not null default 1 check (attempts > 0),
    rubric jsonb not null default '[]', -- criteria with their points
    version integer not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (course_id, id)
);
create index assignments_by_course on assignments (course_id, created_at, id);

-- More time for one person.
create table extensions (
    assignment_id uuid not null references assignments on delete cascade,
    user_id uuid not null references users on delete cascade,
    due_date timestamptz not null,
    granted_by uuid references users on delete set null,
    primary key (assignment_id, user_id)
);

create table submissions (
    id uuid primary key,
    course_id uuid not null,
    assignment_id uuid not null,
    student_id uuid not null references users on delete cascade,
    attempt integer not null check (attempt > 0),
    text text not null default '',
    files uuid[] not null default '{}',
    submitted_at timestamptz not null default clock_timestamp(),
    days_late integer not null default 0, -- begun; by the due date that held for this person then
    grade numeric, -- as given, before what being late costs; null: not graded
    scores jsonb not null default '{}', -- points by criterion of the rubric
    feedback text not null default '',
    graded_by uuid references users on delete set null,
    graded_at timestamptz,
    returned_at timestamptz, -- the student sees what was returned from then on; a new draft is not seen
    returned_grade numeric,
    returned_feedback text not null default '',
    version integer not null default 1,
    foreign key (course_id, assignment_id) references assignments (course_id, id),
    unique (assignment_id, student_id, attempt)
);
create index submissions_by_student on submissions (course_id, student_id, assignment_id);

-- Every grade that was ever returned: a regrade hides nothing.
create table grade_history (
    id bigint generated always as identity primary key,
    submission_id uuid not null references submissions on delete cascade,
    grade numeric not null,
    feedback text not null,
    graded_by uuid references users on delete set null,
    returned_at timestamptz not null default clock_timestamp()
);
create index grade_history_by_submission on grade_history (submission_id, id);

-- What counts in the gradebook: one row a thing and a student, the best that was returned.
create table grades (
    course_id uuid not null references courses on delete cascade,
    student_id uuid not null references users on delete cascade,
    kind varchar(20) not null check (kind in ('assignment', 'quiz')),
    item_id uuid not null,
    points numeric not null, -- of the item's
    updated_at timestamptz not null default now(),
    primary key (course_id, student_id, kind, item_id)
);

create function put_grade(course uuid, item_kind text, item uuid, student uuid, earned numeric) returns void
language sql volatile as $$
    insert into grades (course_id, student_id, kind, item_id, points) values (course, student, item_kind, item, earned)
    on conflict (course_id, student_id, kind, item_id) do update set points = excluded.points, updated_at = now();
$$;
