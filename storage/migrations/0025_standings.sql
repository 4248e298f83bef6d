-- How people stand to the school and, where one is named, to a course: what rights are decided by. Every request asks it,
-- so those of one moment share a statement; as in 0014 the planner has no choice, and plans once (0016). `version` says
-- whether what somebody remembers of the course is the present one.
drop function standing_of;

create function standings(people uuid[], course_ids uuid[]) returns table (
    i integer, school_role text, course_role text, course_status text, admission text, students integer, version integer
) language sql stable
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan as $$
    select t.i::integer, u.role::text, e.role::text, c.status::text, c.admission::text, c.students, c.version
    from unnest(people, course_ids) with ordinality as t(person, course, i)
    join users u on u.id = t.person
    left join courses c on c.id = t.course
    left join enrollments e on e.course_id = c.id and e.user_id = u.id and e.status in ('active', 'completed')
$$;
