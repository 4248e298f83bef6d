-- Take seats, or take them anew where the one that is there is lost: `lost` has the offset up to which seats are (0: none).
-- Whoever comes from two places at once takes one seat: the second does not take the first one's anew. One row each, with
-- the seat's offset, and the offset of the log in the snapshot in which it was taken.
drop function take_seats(uuid[], uuid[], boolean[]);
create function take_seats(class_ids uuid[], people uuid[], lost bigint[]) returns table (i integer, seat bigint, head bigint)
language sql volatile as $$
    with input as (
        select t.i::integer as i, t.class_id, t.person, t.lost, coalesce(c.last_offset, 0) as head
        from unnest(class_ids, people, lost) with ordinality as t(class_id, person, lost, i)
        left join channels c on c.name = 'class:' || t.class_id
    ), taken as (
        insert into class_seats as s (class_id, user_id, "offset")
        select n.class_id, n.person, n.head + 1 from input n order by n.class_id, n.person
        on conflict (class_id, user_id) do update
        set ("offset", taken_at) = (
            select case when s."offset" <= n.lost then excluded."offset" else s."offset" end,
                   case when s."offset" <= n.lost then excluded.taken_at else s.taken_at end
            from input n where n.class_id = s.class_id and n.person = s.user_id)
        returning *
    )
    select n.i, t."offset", n.head from input n join taken t on t.class_id = n.class_id and t.user_id = n.person
$$;

-- In a course that is archived, no class is started.
drop function class_standings(uuid[], uuid[]);
create function class_standings(class_ids uuid[], people uuid[]) returns table (
    i integer, course_id uuid, role text, name text, seat bigint, archived boolean
) language sql stable
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan as $$
    select t.i::integer, k.course_id,
           case when e.role in ('teacher', 'assistant') then e.role::text
                when u.role = 'admin' then 'teacher'
                when e.role is not null and c.status <> 'draft' then e.role::text end,
           u.name, s."offset", c.status = 'archived'
    from unnest(class_ids, people) with ordinality as t(class_id, person, i)
    join classes k on k.id = t.class_id
    join courses c on c.id = k.course_id
    left join users u on u.id = t.person and u.disabled_at is null
    left join enrollments e on e.course_id = k.course_id and e.user_id = u.id and e.status in ('active', 'completed')
    left join class_seats s on s.class_id = k.id and s.user_id = u.id
$$;
