-- How far each has come in a course.

create table progress (
    course_id uuid not null,
    user_id uuid not null references users on delete cascade,
    lesson_id uuid not null,
    opened_at timestamptz not null default now(),
    completed_at timestamptz,
    position integer not null default 0, -- seconds into the video: where to go on
    updated_at timestamptz not null default now(),
    primary key (course_id, user_id, lesson_id),
    foreign key (course_id, lesson_id) references lessons (course_id, id) on delete cascade
);
create index progress_by_lesson on progress (lesson_id);

alter table enrollments
    add column lessons_done integer not null default 0, -- kept: a list of a class would count each of them
    add column active_at timestamptz; -- when they last did something in a lesson

create function count_done() returns trigger language plpgsql as $$
declare
    change integer := (tg_op <> 'DELETE' and new.completed_at is not null)::integer
                      - (tg_op <> 'INSERT' and old.completed_at is not null)::integer;
begin
    update enrollments e
    set lessons_done = e.lessons_done + change, active_at = case when tg_op = 'DELETE' then e.active_at else now() end
    where e.user_id = coalesce(new.user_id, old.user_id) and e.course_id = coalesce(new.course_id, old.course_id);
    return null;
end $$;
create trigger done_counted after insert or update or delete on progress for each row execute function count_done();
