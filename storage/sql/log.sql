-- name: append
select a.*, (select log_generation()) as generation
from append_messages($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) a

-- name: read
select r.*, (select log_generation()) as generation
from read_channels($1, $2, $3, $4, $5) r
