-- Plans that can be compared with what was done, refused work that is tried again, generations that a person or a gate refused.

alter table ragworks.collection add column held_spec text;
comment on column ragworks.collection.held_spec is
    'hash of settings whose generation failed its gate or was rolled back: not built again until a person says so';
alter table ragworks.collection add column scrub text not null default '';
comment on column ragworks.collection.scrub is
    'what was taken out of the stored texts: when it changes, generations that hold texts from before are dropped';

alter table ragworks.run add column estimate jsonb;
alter table ragworks.run add column reads jsonb not null default '{}';
alter table ragworks.run add column tokens bigint not null default 0;
alter table ragworks.run add column scrubbed jsonb not null default '{}';
comment on column ragworks.run.estimate is 'texts, tokens, seconds and cost that the plan expected';
comment on column ragworks.run.reads is 'objects read, by why';
comment on column ragworks.run.tokens is 'tokens embedded';
comment on column ragworks.run.scrubbed is 'personal data taken out, by kind';

-- How fast a machine embeds with a model: what the next plan is reckoned with.
create table ragworks.embedding_rate (
    host        text not null,
    embedder    text not null,
    tokens      bigint not null,
    seconds     double precision not null,
    measured_at timestamptz not null default now(),
    primary key (host, embedder)
);

-- How often work was begun and never ended: what kills its worker is set apart after a few tries.
alter table ragworks.source_object add column attempts int not null default 0;
alter table ragworks.work_item add column attempts int not null default 0;

alter table ragworks.quarantine add column retry_at timestamptz;
comment on column ragworks.quarantine.retry_at is 'when a run tries it again although nothing changed';

alter table ragworks.generation add column gate jsonb;
comment on column ragworks.generation.gate is 'how its quality compared with the one it replaces';
