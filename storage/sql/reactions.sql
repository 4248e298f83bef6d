-- name: change
select c.*, (select log_generation()) as generation from change_reaction($1, $2, $3, $4, $5, $6, $7, $8, $9) c

-- name: page
-- Those who reacted to message $2 of room $1, beyond ($3, $4), at most $5.
select r.emoji, r.user_id, u.name, r.created_at
from channels c join reactions r on r.channel_id = c.id left join users u on u.id = r.user_id
where c.name = 'room:' || $1::uuid and r.message_id = $2 and (r.emoji, r.user_id) > ($3, $4::uuid)
order by r.emoji, r.user_id limit $5
