-- Questions with known answers, anchored to characters of documents, so that they judge any way of cutting and embedding.

create table ragworks.golden_query (
    id            bigint generated always as identity primary key,
    collection_id int not null references ragworks.collection on delete cascade,
    query         text not null check (query <> ''),
    query_hash    uuid not null,
    origin        text not null check (origin in ('imported', 'feedback', 'added')),
    metadata      jsonb not null default '{}',
    created_at    timestamptz not null default now(),
    unique (collection_id, query_hash)
);
comment on column ragworks.golden_query.query_hash is 'of the query, which may be too long for an index';
comment on column ragworks.golden_query.metadata is 'what slices a report, for example {"section": "how-to"}';

create table ragworks.golden_span (
    golden_query_id bigint not null references ragworks.golden_query on delete cascade,
    uri             text collate "C" not null,
    start_char      int check (start_char >= 0),
    end_char        int check (end_char > start_char),
    grade           real not null default 1 check (grade > 0),
    quote           text,
    unique nulls not distinct (golden_query_id, uri, start_char, end_char),
    check ((start_char is null) = (end_char is null))
);
create index golden_span_by_uri on ragworks.golden_span (uri);
comment on table ragworks.golden_span is 'an answer: characters of the document''s stored text, or the whole document (null, null)';
comment on column ragworks.golden_span.quote is 'how the span begins: finds it again when the document is edited elsewhere';
