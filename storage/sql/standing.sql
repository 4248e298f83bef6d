-- name: entrances
select allowed, heard, rooms from entrances($1, $2, $3) order by i

-- name: memberships
select i, joined_offset, direct_key from memberships($1, $2)

-- name: threads
select i from thread_readers($1, $2, $3)
