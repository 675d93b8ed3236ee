-- Words beside vectors, who may ask, what was asked and answered, and how well.

-- The weights of a chunk's words (BM25) stand in the row of its vector; how many chunks have a word, in terms_<id>.
do $$
declare
    held record;
begin
    for held in select id from ragworks.generation where to_regclass('ragworks.chunks_' || id) is not null loop
        execute format('alter table ragworks.chunks_%1$s add column lexical sparsevec', held.id);
        execute format('alter table ragworks.staged_%1$s add column lexical sparsevec', held.id);
        execute format('create table ragworks.terms_%1$s (term int primary key, chunks int not null)', held.id);
    end loop;
end
$$;

alter table ragworks.generation_document add column run_id bigint;
comment on column ragworks.generation_document.run_id is 'the run that wrote the chunks';
create index generation_document_restricted on ragworks.generation_document (generation_id) where acl is not null;
comment on index ragworks.generation_document_restricted is 'tells at once whether any document is not for everyone';

create table ragworks.api_key (
    id                  int generated always as identity primary key,
    name                text not null unique,
    key_hash            bytea not null unique check (octet_length(key_hash) = 32),
    scopes              text[] not null,
    collections         text[],
    principals          text[] not null default '{}',
    requests_per_minute int check (requests_per_minute > 0),
    created_at          timestamptz not null default now(),
    expires_at          timestamptz,
    revoked_at          timestamptz,
    last_used_at        timestamptz
);
comment on column ragworks.api_key.key_hash is 'sha-256 of the key, which is random and shown once';
comment on column ragworks.api_key.collections is 'which it may ask; null: all';
comment on column ragworks.api_key.principals is 'for whom its searches see documents; with the scope act_as a request may name others';

create table ragworks.query_log (
    id            uuid primary key default gen_random_uuid(),
    collection_id int not null references ragworks.collection on delete cascade,
    generation_id bigint,
    api_key_id    int references ragworks.api_key on delete set null,
    kind          text not null check (kind in ('search', 'rerank', 'chat')),
    query         text,
    embedding     halfvec,
    passport      jsonb not null default '{}',
    results       jsonb not null default '[]',
    status        text not null default 'ok' check (status in ('ok', 'empty', 'abstained', 'refused', 'failed')),
    seconds       jsonb not null default '{}',
    created_at    timestamptz not null default now()
);
create index query_log_by_time on ragworks.query_log (collection_id, created_at);
comment on column ragworks.query_log.results is '[{document, ordinal, start, end, score}], best first';
comment on column ragworks.query_log.seconds is '{embed, search, rerank, answer, total}';

-- An answer keeps the exact passages it rests on: the index moves on.
create table ragworks.answer (
    id           uuid primary key references ragworks.query_log on delete cascade,
    question     text,
    text         text,
    abstained    boolean not null,
    extractive   boolean not null,
    confidence   real,
    groundedness real,
    flags        text[] not null default '{}',
    citations    jsonb not null default '[]',
    created_at   timestamptz not null default now()
);
comment on table ragworks.answer is 'its id is that of the query, whose row has the passport';
comment on column ragworks.answer.citations is '[{number, document, start, end, quote}]';

create table ragworks.answer_source (
    answer_id    uuid not null references ragworks.answer on delete cascade,
    number       int not null,
    uri          text collate "C" not null,
    content_hash uuid,
    ordinal      int not null,
    start_char   int not null,
    end_char     int not null,
    text         text,
    score        double precision not null,
    run_id       bigint,
    primary key (answer_id, number)
);
create index answer_source_by_uri on ragworks.answer_source (uri);
comment on column ragworks.answer_source.run_id is 'the run that wrote the chunk';

create table ragworks.feedback (
    id          uuid primary key default gen_random_uuid(),
    query_id    uuid not null references ragworks.query_log on delete cascade,
    api_key_id  int references ragworks.api_key on delete set null,
    thumb       smallint check (thumb in (-1, 1)),
    answer      text,
    document    text collate "C",
    start_char  int,
    end_char    int,
    comment     text,
    state       text not null default 'new' check (state in ('new', 'accepted', 'rejected')),
    created_at  timestamptz not null default now(),
    reviewed_at timestamptz,
    check (thumb is not null or answer is not null or document is not null or comment is not null)
);
create index feedback_by_query on ragworks.feedback (query_id);
comment on column ragworks.feedback.answer is 'what would have been right';
comment on column ragworks.feedback.document is 'where it stands';

create table ragworks.evaluation (
    id            bigint generated always as identity primary key,
    collection_id int not null references ragworks.collection on delete cascade,
    generation_id bigint,
    run_id        bigint references ragworks.run on delete set null,
    name          text not null,
    configuration jsonb not null,
    report        jsonb not null,
    created_at    timestamptz not null default now()
);
create index evaluation_by_time on ragworks.evaluation (collection_id, created_at);
comment on column ragworks.evaluation.report is 'measures, intervals, slices, latency, and the scores of every query';

-- How fast a machine reranks with a model: how many candidates fit the latency budget.
create table ragworks.reranking_rate (
    host        text not null,
    reranker    text not null,
    pairs       bigint not null,
    seconds     double precision not null,
    measured_at timestamptz not null default now(),
    primary key (host, reranker)
);
