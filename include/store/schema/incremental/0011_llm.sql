-- What language models are trained on, beside the pairs of the other families: conversations, alone or with a worse answer.

alter table ragworks.dataset add column kind text not null default 'pairs'
    check (kind in ('pairs', 'conversations', 'preferences'));
comment on column ragworks.dataset.kind is 'pairs: rows in dataset_row; conversations and preferences: in dataset_conversation';

create table ragworks.dataset_conversation (
    id         bigint generated always as identity primary key,
    dataset_id bigint not null references ragworks.dataset on delete cascade,
    ordinal    int not null,
    split      text not null check (split in ('train', 'dev', 'test')),
    messages   jsonb not null check (jsonb_typeof(messages) = 'array' and jsonb_array_length(messages) > 1),
    rejected   text,
    task       text not null check (task <> ''),
    expected   text,
    uri        text collate "C",
    documents  text[] collate "C" not null default '{}',
    origin     text not null,
    metadata   jsonb not null default '{}',
    unique (dataset_id, ordinal)
);
create index dataset_conversation_by_document on ragworks.dataset_conversation using gin (documents);
comment on column ragworks.dataset_conversation.messages is 'role and content, as OpenAI has them; the last is the answer to be learned';
comment on column ragworks.dataset_conversation.rejected is 'of preferences: the worse answer to the same messages';
comment on column ragworks.dataset_conversation.expected is 'what an exact answer must say; null: there is no such thing';
comment on column ragworks.dataset_conversation.documents is 'all that stand in it, the one that answers (uri) and those shown beside it';
