-- Who the people of other issuers are here.
create table identities (
    issuer text not null,
    subject text not null,
    user_id uuid not null references users on delete cascade,
    made boolean not null, -- the account was made for it; else it was there, and linked by its address
    role varchar(50), -- that the issuer gave last; null: it gives none
    created_at timestamptz not null default now(),
    primary key (issuer, subject)
);
create index identities_by_user on identities (user_id);

-- What is asked with each request of theirs, for all that ask at once; as in 0025 the planner has no choice.
create function identities_of(issuers text[], subjects text[])
returns table (i integer, user_id uuid, name text, role text, said text) language sql stable
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan as $$
    select t.i::integer, u.id, u.name, u.role::text, d.role::text
    from unnest(issuers, subjects) with ordinality as t(issuer, subject, i)
    join identities d on d.issuer = t.issuer and d.subject = t.subject
    join users u on u.id = d.user_id
$$;
