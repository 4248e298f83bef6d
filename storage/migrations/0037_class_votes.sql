-- A vote stands at the offset that the log had, and its poll is closed at one: a vote beyond counts nowhere, also while its
-- node has not come to refuse it.

alter table class_votes add column "offset" bigint not null default 0;
alter table class_polls add column closed bigint; -- the offset of its end; null: open

create or replace function cast_votes(poll_ids uuid[], people uuid[], picks integer[]) returns table (
    i integer, counts integer, fresh boolean, head bigint
) language sql volatile as $$
    with input as (
        select t.i::integer as i, t.poll_id, t.person, t.pick, coalesce(c.last_offset, 0) as head
        from unnest(poll_ids, people, picks) with ordinality as t(poll_id, person, pick, i)
        join class_polls p on p.id = t.poll_id
        left join channels c on c.name = 'class:' || p.class_id
    ), cast_ as (
        insert into class_votes (poll_id, user_id, option, "offset")
        select n.poll_id, n.person, n.pick, n.head from input n order by n.poll_id, n.person, n.i
        on conflict (poll_id, user_id) do nothing returning *
    )
    select n.i, coalesce(t.option, v.option), t.option is not null, n.head
    from input n
    left join cast_ t on t.poll_id = n.poll_id and t.user_id = n.person
    left join class_votes v on v.poll_id = n.poll_id and v.user_id = n.person
$$;
