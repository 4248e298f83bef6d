-- What the next token was derived with, so that the same use made again gives the same token (storage/sessions.py).
alter table refresh_tokens add column salt bytea check (octet_length(salt) = 32);
