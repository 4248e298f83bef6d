-- name: entrances
-- One row a question, in their order: whether the user may connect, how far their personal channel had come, and their
-- rooms, newest talk first. A user that is none of ours was let in by another issuer's token.
select not exists (select from users u where u.id = t.user_id and u.disabled_at is not null)
       and (t.session_id is null or exists (
           select from sessions s
           where s.id = t.session_id and s.user_id = t.user_id and s.revoked_at is null and s.expires_at > now())),
       case when t.most > 0 then coalesce(
           (select c.last_offset from channels c where c.name = 'user:' || t.user_id), 0) end,
       case when t.most > 0 then array(
           select m.room_id
           from room_members m
           join rooms r on r.id = m.room_id
           left join channels c on c.name = 'room:' || m.room_id
           left join messages l on l.channel_id = c.id and l."offset" = c.last_message
           where m.user_id = t.user_id and r.archived_at is null
           order by coalesce(l.created_at, r.created_at) desc, m.room_id
           limit t.most
       ) end
from unnest($1::uuid[], $2::uuid[], $3::integer[]) with ordinality as t(user_id, session_id, most, i)
order by t.i

-- name: memberships
select t.i, m.joined_offset, r.direct_key
from unnest($1::uuid[], $2::uuid[]) with ordinality as t(room_id, user_id, i)
join room_members m on m.room_id = t.room_id and m.user_id = t.user_id
join rooms r on r.id = t.room_id
