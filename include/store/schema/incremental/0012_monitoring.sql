-- What is watched, when it is beyond what is usual, and what was decided on it.

-- One row a signal and window. Windows lie on a grid; the same window is measured once, whoever measures it.
create table ragworks.signal (
    id            bigint generated always as identity primary key,
    collection_id int not null references ragworks.collection on delete cascade,
    name          text not null,
    window_start  timestamptz not null,
    window_end    timestamptz not null,
    value         double precision,
    low           double precision,
    high          double precision,
    p             double precision,
    sample        int not null check (sample >= 0),
    threshold     double precision,
    state         text not null check (state in ('within', 'beyond', 'too_few')),
    reference     jsonb not null default '{}',
    detail        jsonb not null default '{}',
    run_key       text not null,
    measured_at   timestamptz not null default now(),
    check (window_start < window_end),
    unique (collection_id, name, window_end)
);
comment on column ragworks.signal.p is 'how often chance alone shows as much; null: no test';
comment on column ragworks.signal.threshold is 'what the near end of the interval must pass to be beyond';
comment on column ragworks.signal.reference is '{start, end, value, low, high, sample}: what it is compared with';

-- A signal that stays beyond its threshold; open until it is back for a while.
create table ragworks.breach (
    id            bigint generated always as identity primary key,
    collection_id int not null references ragworks.collection on delete cascade,
    signal        text not null,
    signal_id     bigint not null references ragworks.signal on delete cascade,
    opened_at     timestamptz not null,
    ended_at      timestamptz,
    reason        text not null,
    evidence      jsonb not null default '{}',
    run_key       text not null,
    created_at    timestamptz not null default now(),
    check (ended_at >= opened_at),
    unique (collection_id, signal, opened_at)
);
create unique index breach_one_open on ragworks.breach (collection_id, signal) where ended_at is null;
comment on column ragworks.breach.opened_at is 'end of the window that established it';
comment on column ragworks.breach.evidence is 'the signal rows it rests on, with their values';

-- What is to be done about it. One that acts is at work or waits, at most, for each collection.
create table ragworks.decision (
    id            bigint generated always as identity primary key,
    environment   text not null,
    collection_id int not null references ragworks.collection on delete cascade,
    at            timestamptz not null,
    action        text not null check (action in
                      ('nothing', 'notify', 'add_documents', 'reindex', 'refresh_golden', 'train', 'rollback', 'ask')),
    family        text check (family in ('reranker', 'embedder', 'llm')),
    mode          text not null check (mode in ('auto', 'approve', 'notify')),
    state         text not null check (state in ('waiting', 'approved', 'claimed', 'started', 'done', 'refused')),
    reason        text not null,
    evidence      jsonb not null default '{}',
    breaches      bigint[] not null default '{}',
    monitor_key   text not null,
    run_key       text unique,
    attempts      int not null default 0,
    claimed_by    text,
    claimed_at    timestamptz,
    actor         text not null default '',
    outcome       jsonb,
    created_at    timestamptz not null default now(),
    ended_at      timestamptz,
    unique (environment, collection_id, at),
    check ((action in ('train', 'rollback')) = (family is not null))
);
create unique index decision_one_open on ragworks.decision (environment, collection_id)
    where state in ('waiting', 'approved', 'claimed', 'started');
comment on column ragworks.decision.at is 'end of the newest window it rests on: one decision for each';
comment on column ragworks.decision.evidence is '{signals, facts, refused}: what was seen, and the alternatives with why they were not taken';
comment on column ragworks.decision.run_key is 'the run that carries it out: one alone, however often its event comes';

-- What is usual: the time that windows are compared with. The newest row counts.
create table ragworks.monitor_reference (
    id            bigint generated always as identity primary key,
    collection_id int not null references ragworks.collection on delete cascade,
    scope         text not null check (scope in ('all', 'drift')),
    starts_at     timestamptz not null,
    ends_at       timestamptz not null,
    valid_from    timestamptz not null,
    reason        text not null,
    actor         text not null default '',
    created_at    timestamptz not null default now(),
    check (starts_at < ends_at),
    unique (collection_id, scope, valid_from)
);
comment on column ragworks.monitor_reference.scope is 'drift: of what is asked alone; how well it is answered is still compared with the one before';
comment on column ragworks.monitor_reference.valid_from is 'windows that end later are compared with it';

-- Thresholds found by replaying the history of the collection; the newest of each signal counts.
create table ragworks.monitor_threshold (
    id            bigint generated always as identity primary key,
    collection_id int not null references ragworks.collection on delete cascade,
    signal        text not null,
    threshold     double precision not null,
    detail        jsonb not null default '{}',
    created_at    timestamptz not null default now()
);
create index monitor_threshold_newest on ragworks.monitor_threshold (collection_id, signal, id);

create index feedback_by_time on ragworks.feedback (created_at);

-- What other systems report about a collection, each occurrence once: a delivery that comes again finds its row.
create table ragworks.alert (
    id            bigint generated always as identity primary key,
    environment   text not null,
    collection_id int not null references ragworks.collection on delete cascade,
    source        text not null check (source in ('alertmanager', 'databricks', 'plain')),
    key           text not null check (key <> ''),
    state         text not null check (state in ('firing', 'resolved')),
    title         text not null,
    family        text check (family in ('reranker', 'embedder', 'llm')),
    detail        jsonb not null default '{}',
    received_at   timestamptz not null default now(),
    announced_at  timestamptz,
    seen_at       timestamptz,
    run_key       text,
    outcome       text not null default '',
    unique (environment, collection_id, source, key, state)
);
create index alert_unseen on ragworks.alert (collection_id) where seen_at is null;
comment on column ragworks.alert.key is 'names the occurrence at its source';
comment on column ragworks.alert.family is 'of the model that the report asks to train; null: it asks for nothing but a look';
comment on column ragworks.alert.announced_at is 'when the event was sent that starts the monitor; without a look soon after it is sent again';
comment on column ragworks.alert.run_key is 'of the monitor that looked at it';

-- What people were told, so that a retry does not tell it again.
create table ragworks.told (
    collection_id int not null references ragworks.collection on delete cascade,
    subject       text not null,
    told_at       timestamptz not null default now(),
    primary key (collection_id, subject)
);
comment on column ragworks.told.subject is 'breach:12, decision:7:waiting …';

-- What a person made of feedback. `new` is what waits in the queue; accepted with edited: the reviewer put it right.
alter table ragworks.feedback
    add column edited      boolean not null default false,
    add column wrong       int[],
    add column purpose     text check (purpose in ('golden', 'training')),
    add column reviewed_by text not null default '';
create index feedback_waiting on ragworks.feedback (created_at) where state = 'new';
comment on column ragworks.feedback.wrong is 'numbers of the passages shown that do not answer; null: nobody said which';
comment on column ragworks.feedback.purpose is 'what it is used for once accepted: to judge by, or to learn from';

-- A live question answered by a challenger too, beside the request. Numbers alone: what was found is not kept.
create table ragworks.shadow (
    query_id     uuid primary key references ragworks.query_log on delete cascade,
    model_run_id bigint not null references ragworks.model_run on delete cascade,
    depth        int not null check (depth > 0),
    overlap      double precision check (overlap between 0 and 1),
    rbo          double precision check (rbo between 0 and 1),
    same_first   boolean,
    live_seconds double precision,
    seconds      double precision,
    error        text,
    created_at   timestamptz not null default now(),
    check ((error is null) = (overlap is not null))
);
create index shadow_by_run on ragworks.shadow (model_run_id, created_at);
comment on column ragworks.shadow.overlap is 'share of the live results of the first depth that the challenger finds as well';
comment on column ragworks.shadow.rbo is 'extrapolated rank-biased overlap, p 0.9';
comment on column ragworks.shadow.error is 'name of the exception, without its words';
