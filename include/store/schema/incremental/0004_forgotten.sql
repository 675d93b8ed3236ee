-- Documents that were erased and are kept out when the source still lists them.

create table ragworks.forgotten (
    collection_id int not null references ragworks.collection on delete cascade,
    uri_hash      bytea not null check (octet_length(uri_hash) = 32),
    forgotten_at  timestamptz not null default now(),
    reason        text,
    primary key (collection_id, uri_hash)
);
comment on column ragworks.forgotten.uri_hash is 'sha-256 of the uri, which may itself be personal data';
