-- The first schema: what the source says (collection, source_object, document, document_text),
-- what each generation holds of it (generation, generation_document, one chunks_<id> table each),
-- what a run has to do and did (run, run_document, work_item), and what was refused (quarantine, validation_report).
-- Frozen once shipped: a change is a new file.

create table ragworks.collection (
    id         int generated always as identity primary key,
    name       text not null unique,
    created_at timestamptz not null default now()
);

create table ragworks.run (
    id            bigint generated always as identity primary key,
    collection_id int not null references ragworks.collection on delete cascade,
    key           text not null,
    mode          text not null check (mode in ('incremental', 'plan', 'rebuild')),
    allow_deletes boolean not null default false,
    state         text not null default 'running' check (state in ('running', 'planned', 'done', 'failed')),
    generation_id bigint,
    plan          jsonb,
    embedded      int not null default 0,
    reused        int not null default 0,
    written       int not null default 0,
    deleted       int not null default 0,
    seconds       jsonb not null default '{}',
    error         text,
    started_at    timestamptz not null default now(),
    finished_at   timestamptz,
    unique (collection_id, key)
);

create table ragworks.generation (
    id            bigint generated always as identity primary key,
    collection_id int not null references ragworks.collection on delete cascade,
    spec          jsonb not null,
    spec_hash     text not null,
    embedder      text not null,
    dimension     int not null check (dimension > 0),
    storage       text not null check (storage in ('halfvec', 'vector')),
    state         text not null default 'building' check (state in ('building', 'ready', 'live', 'retired', 'failed')),
    canary        real[],
    metrics       jsonb not null default '{}',
    created_at    timestamptz not null default now(),
    live_at       timestamptz,
    retired_at    timestamptz
);
create unique index generation_one_live on ragworks.generation (collection_id) where state = 'live';
create unique index generation_one_building on ragworks.generation (collection_id) where state = 'building';

-- One row a file the listing shows. The fingerprint is written when all its documents are in.
create table ragworks.source_object (
    collection_id int not null references ragworks.collection on delete cascade,
    uri           text collate "C" not null,
    fingerprint   text not null,
    state         text not null default 'present' check (state in ('present', 'vanished')),
    primary key (collection_id, uri)
);

-- What the source wants: the last version of each document that passed validation.
create table ragworks.document (
    id            bigint generated always as identity primary key,
    collection_id int not null references ragworks.collection on delete cascade,
    uri           text collate "C" not null,
    object_uri    text collate "C" not null,
    content_hash  uuid not null,
    version_hash  uuid not null,
    metadata      jsonb not null,
    acl           text[],
    state         text not null default 'present' check (state in ('present', 'vanished', 'deleted')),
    updated_at    timestamptz not null default now(),
    unique (collection_id, uri)
);
create index document_by_object on ragworks.document (collection_id, object_uri);
comment on column ragworks.document.version_hash is 'content, metadata and ACL together';

create table ragworks.document_text (
    collection_id int not null references ragworks.collection on delete cascade,
    content_hash  uuid not null,
    text          text not null,
    primary key (collection_id, content_hash)
);

-- What a generation holds of a document. staged rows wait for publish beside the published one.
create table ragworks.generation_document (
    generation_id bigint not null references ragworks.generation on delete cascade,
    document_id   bigint not null references ragworks.document on delete cascade,
    staged        boolean not null,
    content_hash  uuid not null,
    version_hash  uuid not null,
    metadata      jsonb not null,
    acl           text[],
    chunks        int not null,
    primary key (generation_id, document_id, staged)
);
create index generation_document_by_document on ragworks.generation_document (document_id);
create index generation_document_metadata on ragworks.generation_document using gin (metadata jsonb_path_ops);

-- Content whose chunks a generation refused: not tried again there until it changes.
create table ragworks.rejection (
    generation_id bigint not null references ragworks.generation on delete cascade,
    document_id   bigint not null references ragworks.document on delete cascade,
    content_hash  uuid not null,
    primary key (generation_id, document_id)
);

create sequence ragworks.worker_id as int cycle;

-- The queue that all workers of all runs share: a row is a document whose chunks a generation still lacks.
create table ragworks.work_item (
    generation_id bigint not null references ragworks.generation on delete cascade,
    document_id   bigint not null references ragworks.document on delete cascade,
    content_hash  uuid not null,
    characters    int not null,
    run_id        bigint not null references ragworks.run on delete cascade,
    worker        int,
    lease_until   timestamptz,
    primary key (generation_id, document_id)
);

-- Why a document is in a run, and what became of it.
create table ragworks.run_document (
    run_id   bigint not null references ragworks.run on delete cascade,
    uri      text collate "C" not null,
    action   text not null check (action in ('added', 'changed', 'metadata_only', 'renamed', 'deleted', 'quarantined')),
    reason   text not null,
    chunks   int,
    embedded int,
    primary key (run_id, uri)
);

create table ragworks.quarantine (
    id              bigint generated always as identity primary key,
    collection_id   int not null references ragworks.collection on delete cascade,
    object_uri      text collate "C" not null,
    uri             text collate "C" not null,
    locator         text not null default '',
    stage           text not null check (stage in ('document', 'chunk')),
    expectation     text not null,
    detail          text not null,
    generation_id   bigint references ragworks.generation on delete cascade,
    attempts        int not null default 1,
    first_run       bigint not null references ragworks.run on delete cascade,
    last_run        bigint not null references ragworks.run on delete cascade,
    first_seen      timestamptz not null default now(),
    last_seen       timestamptz not null default now(),
    acknowledged_at timestamptz,
    resolved_at     timestamptz
);
create unique index quarantine_open on ragworks.quarantine
    (collection_id, object_uri, uri, locator, coalesce(generation_id, 0)) where resolved_at is null;
comment on column ragworks.quarantine.generation_id is 'of a refused chunk: another generation may accept the document';
comment on column ragworks.quarantine.acknowledged_at is 'a run was published without this row: it no longer counts against max_rejected';

create table ragworks.validation_report (
    id         bigint generated always as identity primary key,
    run_id     bigint not null references ragworks.run on delete cascade,
    suite      text not null check (suite in ('documents', 'chunks')),
    success    boolean not null,
    evaluated  int not null,
    rejected   int not null,
    result     jsonb not null,
    created_at timestamptz not null default now()
);
create index validation_report_by_run on ragworks.validation_report (run_id);
