-- Short links. A deleted one stays as a row without its target: its code never leads anywhere else.
create table urls (
    id bigserial primary key,
    short_code varchar(10) not null constraint idx_short_code unique,
    original_url text not null check (octet_length(original_url) <= 8192),
    user_id uuid, -- null: made without an account; no reference: accounts of other issuers make links too
    created_at timestamptz not null default now(),
    expires_at timestamptz,
    click_count bigint not null default 0, -- of people
    bot_count bigint not null default 0,
    title text not null default '',
    tags text[] not null default '{}',
    max_visits integer check (max_visits > 0), -- null: any number
    visits integer not null default 0, -- of links with `max_visits`, counted as they are let through
    password_hash text,
    disabled_at timestamptz,
    deleted_at timestamptz,
    cleared boolean not null default false, -- a deleted one, of its clicks
    updated_at timestamptz not null default now(),
    version integer not null default 1,
    origin uuid unique -- of what is made once: a request with a key, a target that shall have one link
);
create index idx_user_id on urls (user_id, id) where deleted_at is null;
create index urls_by_target on urls (user_id, md5(original_url)) where deleted_at is null;
create index urls_by_tags on urls using gin (tags) where deleted_at is null;
create index urls_to_clear on urls (id) where deleted_at is not null and not cleared;

create table clicks (
    id bigserial primary key,
    short_code varchar(10) not null references urls (short_code),
    clicked_at timestamptz not null default now(),
    ip_address inet, -- null, unless links.store_ip says otherwise
    user_agent text,
    country varchar(2),
    referrer text, -- the host
    browser text,
    system text,
    device text,
    bot text -- why it counts as one; null: a person
);
create index clicks_by_link on clicks (short_code, id);
create index clicks_by_time on clicks using brin (clicked_at);

-- Which batches of clicks are stored: one that comes again, because its worker died before it could say so, is dropped.
create table click_batches (
    id uuid primary key,
    streamed_at timestamptz not null, -- of its entry in the stream
    stored_at timestamptz not null default now()
);

-- What analytics read. `unit` is hour or day; `at` its beginning in UTC.
create table link_times (
    url_id bigint not null references urls on delete cascade,
    unit text not null check (unit in ('hour', 'day')),
    at timestamptz not null,
    clicks bigint not null default 0,
    bots bigint not null default 0,
    primary key (url_id, unit, at)
);
create table link_values (
    url_id bigint not null references urls on delete cascade,
    kind text not null check (kind in ('country', 'referrer', 'browser', 'system', 'device', 'bot')),
    value text not null, -- empty: unknown or none; *: all those that came after the 500 first
    clicks bigint not null default 0,
    primary key (url_id, kind, value)
);

-- Add what a batch brought to the counters. Rows are taken in order, so that two workers never wait for each other.
create function count_clicks(
    links bigint[], units text[], moments timestamptz[], people bigint[], machines bigint[],
    value_links bigint[], kinds text[], vals text[], numbers bigint[]
) returns table (id bigint, short_code text, user_id uuid, click_count bigint, bot_count bigint)
language plpgsql volatile as $$
#variable_conflict use_column
begin
    perform from urls u where u.id = any(links) order by u.id for no key update;

    insert into link_times as t (url_id, unit, at, clicks, bots)
    select * from unnest(links, units, moments, people, machines) g (url_id, unit, at, clicks, bots)
    order by g.url_id, g.unit, g.at
    on conflict (url_id, unit, at) do update set clicks = t.clicks + excluded.clicks, bots = t.bots + excluded.bots;

    insert into link_values as v (url_id, kind, value, clicks)
    select g.url_id, g.kind, g.value, sum(g.clicks) from (
        select n.url_id, n.kind, n.clicks, case
            when exists (select from link_values o where (o.url_id, o.kind, o.value) = (n.url_id, n.kind, n.value))
                or (select count(*) from link_values o where o.url_id = n.url_id and o.kind = n.kind) < 500
            then n.value else '*' end as value
        from unnest(value_links, kinds, vals, numbers) n (url_id, kind, value, clicks)
    ) g
    group by g.url_id, g.kind, g.value
    order by g.url_id, g.kind, g.value
    on conflict (url_id, kind, value) do update set clicks = v.clicks + excluded.clicks;

    return query
    update urls u set click_count = u.click_count + g.clicks, bot_count = u.bot_count + g.bots
    from (
        select n.url_id, sum(n.clicks)::bigint as clicks, sum(n.bots)::bigint as bots
        from unnest(links, units, people, machines) n (url_id, unit, clicks, bots)
        where n.unit = 'day' group by n.url_id
    ) g
    where u.id = g.url_id
    returning u.id, u.short_code::text, u.user_id, u.click_count, u.bot_count;
end $$;
