-- The place of a chunk in its document moves out of the row of its vector: an edit above it then touches no vector.

do $$
declare
    held record;
begin
    for held in select id from ragworks.generation where to_regclass('ragworks.chunks_' || id) is not null loop
        execute format(
            'create table ragworks.spans_%1$s (document_id bigint not null, seq int not null, ordinal int not null,'
            ' start_char int not null, end_char int not null, metadata jsonb) with (fillfactor = 90)', held.id);
        execute format(
            'insert into ragworks.spans_%1$s select document_id, ordinal, ordinal, start_char, end_char, metadata'
            ' from ragworks.chunks_%1$s', held.id);
        execute format('alter table ragworks.spans_%1$s add primary key (document_id, seq)', held.id);
        execute format('alter table ragworks.chunks_%1$s rename column ordinal to seq', held.id);
        execute format(
            'alter table ragworks.chunks_%1$s drop column start_char, drop column end_char, drop column metadata', held.id);
        execute format('create unique index on ragworks.chunks_%1$s (document_id, seq)', held.id);
        execute format('drop index ragworks.chunks_%1$s_document_id_idx', held.id);
    end loop;
end
$$;
