-- What models are trained on, each training with what it left behind, and which version serves.

-- Pairs of a question and the passage that answers it, by version; a version is never changed.
create table ragworks.dataset (
    id            bigint generated always as identity primary key,
    collection_id int not null references ragworks.collection on delete cascade,
    name          text not null,
    version       int not null check (version > 0),
    content_hash  text not null,
    parent_id     bigint references ragworks.dataset on delete set null,
    origin        text not null check (origin in ('qrels', 'feedback', 'llm', 'headings', 'imported', 'mixed')),
    arguments     jsonb not null default '{}',
    statistics    jsonb not null default '{}',
    checks        jsonb,
    state         text not null default 'ready' check (state in ('ready', 'refused')),
    created_at    timestamptz not null default now(),
    unique (collection_id, name, version)
);
create unique index dataset_by_content on ragworks.dataset (collection_id, name, content_hash);
comment on column ragworks.dataset.content_hash is 'of its rows, splits and negatives: the same rows are the same version';
comment on column ragworks.dataset.parent_id is 'the version that a person corrected';

create table ragworks.dataset_row (
    id         bigint generated always as identity primary key,
    dataset_id bigint not null references ragworks.dataset on delete cascade,
    ordinal    int not null,
    split      text not null check (split in ('train', 'dev', 'test')),
    query      text not null check (query <> ''),
    uri        text collate "C" not null,
    start_char int,
    end_char   int,
    positive   text not null,
    label      real not null default 1,
    origin     text not null,
    style      text not null default '',
    metadata   jsonb not null default '{}',
    unique (dataset_id, ordinal)
);
create index dataset_row_by_uri on ragworks.dataset_row (uri);
comment on column ragworks.dataset_row.style is 'how a made question was asked for: keyword, question, paraphrase, heading …';

create table ragworks.dataset_negative (
    row_id     bigint not null references ragworks.dataset_row on delete cascade,
    ordinal    int not null,
    uri        text collate "C" not null,
    start_char int,
    end_char   int,
    text       text not null,
    score      real,
    primary key (row_id, ordinal)
);
create index dataset_negative_by_uri on ragworks.dataset_negative (uri);
comment on column ragworks.dataset_negative.score is 'of the model that found it: hard, and yet below the positive by a margin';

-- Which documents a dataset ever held, by hash: who is forgotten later leaves no name, but the models trained on it are known.
create table ragworks.dataset_document (
    dataset_id bigint not null references ragworks.dataset on delete cascade,
    uri_hash   bytea not null check (octet_length(uri_hash) = 32),
    primary key (dataset_id, uri_hash)
);

-- The manifest of a training: written by the command that trains, read by the task after it.
create table ragworks.model_run (
    id               bigint generated always as identity primary key,
    run_key          text not null unique,
    family           text not null check (family in ('reranker', 'embedder', 'llm')),
    collection_id    int not null references ragworks.collection on delete cascade,
    dataset_id       bigint references ragworks.dataset on delete set null,
    arguments        jsonb not null,
    work_hash        text not null,
    state            text not null default 'planned' check (state in
                        ('planned', 'training', 'interrupted', 'trained', 'evaluated', 'accepted', 'refused', 'failed')),
    base             text not null,
    base_fingerprint text not null,
    code_version     text not null,
    attempts         int not null default 0,
    step             int not null default 0,
    checkpoint       text,
    baseline         jsonb,
    training         jsonb not null default '{}',
    evaluation       jsonb,
    gate             jsonb,
    hardware         jsonb not null default '{}',
    gpu_seconds      double precision not null default 0,
    cost             double precision,
    artifact         text,
    fingerprint      text,
    version          int,
    error            text,
    created_at       timestamptz not null default now(),
    started_at       timestamptz,
    finished_at      timestamptz
);
create index model_run_by_family on ragworks.model_run (family, collection_id, created_at);
create index model_run_by_work on ragworks.model_run (work_hash);
comment on column ragworks.model_run.work_hash is 'of family, collection, dataset content, arguments and base: the same work is not done twice';
comment on column ragworks.model_run.training is 'loss curve, seconds, samples a second, what it resumed from';
comment on column ragworks.model_run.artifact is 'where the model lies, below RAGWORKS_ARTIFACTS';
comment on column ragworks.model_run.version is 'its number in the registry, of this family and collection';

-- The numbers of trained models in MLflow's registry, which counts anew in each environment, family and collection.
create table ragworks.model_version (
    environment   text not null,
    family        text not null,
    collection_id int not null references ragworks.collection on delete cascade,
    version       int not null check (version > 0),
    model_run_id  bigint not null references ragworks.model_run on delete cascade,
    created_at    timestamptz not null default now(),
    primary key (environment, family, collection_id, version),
    unique (environment, model_run_id)
);

-- Every promotion and rollback. The live row is what serves; MLflow's aliases follow it.
create table ragworks.deployment (
    id            bigint generated always as identity primary key,
    environment   text not null,
    family        text not null check (family in ('reranker', 'embedder', 'llm')),
    collection_id int not null references ragworks.collection on delete cascade,
    model_run_id  bigint references ragworks.model_run,
    version       int,
    action        text not null check (action in ('promote', 'rollback')),
    state         text not null check (state in ('pending', 'live', 'replaced', 'failed')),
    settings      jsonb not null default '{}',
    replaces      bigint references ragworks.deployment on delete set null,
    verification  jsonb,
    reason        text not null default '',
    actor         text not null default '',
    created_at    timestamptz not null default now(),
    ended_at      timestamptz,
    check ((model_run_id is null) = (version is null))
);
create unique index deployment_one_live on ragworks.deployment (environment, family, collection_id) where state = 'live';
create unique index deployment_one_pending on ragworks.deployment (environment, family, collection_id) where state = 'pending';
comment on column ragworks.deployment.model_run_id is 'null: none, what the collection file names serves (after a rollback of the first promotion)';
comment on column ragworks.deployment.settings is 'fingerprint or embedder: of the model as it serves; what was fitted with it: {"rerank_weight": 0.4}; unproved';

-- An index that a trained embedder is tried on: complete, asked by evaluations alone, never live.
alter table ragworks.generation drop constraint generation_state_check;
alter table ragworks.generation add constraint generation_state_check
    check (state in ('building', 'ready', 'live', 'retired', 'failed', 'candidate'));

-- Building one is a run too: it is counted, its chunks are traced to it, and nothing takes it for a publication.
alter table ragworks.run drop constraint run_mode_check;
alter table ragworks.run add constraint run_mode_check check (mode in ('incremental', 'plan', 'rebuild', 'candidate'));
