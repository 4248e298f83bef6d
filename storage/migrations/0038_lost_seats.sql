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
