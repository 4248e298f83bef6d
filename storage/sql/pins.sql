-- name: change
select c.*, (select log_generation()) as generation from change_pin($1, $2, $3, $4, $5, $6, $7) c

-- name: list
-- One row at least for a member, and none for anybody else.
select p.* from room_members r left join lateral (
    select m."offset", m.id, m.sender_id, m.type, m.data, m.created_at, m.edited_at, m.deleted_at,
           p.pinned_by, p.pinned_at
    from channels c
    join pins p on p.channel_id = c.id
    join messages m on m.channel_id = c.id and m.id = p.message_id
    where c.name = 'room:' || r.room_id
) p on true
where r.room_id = $1 and r.user_id = $2
order by p.pinned_at desc, p."offset" desc
