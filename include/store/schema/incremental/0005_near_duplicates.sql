-- What tells near-duplicates: the MinHash signature of a text stands in the row of the text, so it goes with it.

alter table ragworks.document_text add column signature bytea;
comment on column ragworks.document_text.signature is
    'MinHash, 128 values of 4 bits; empty: too short for one; null: not computed (docs/decisions/0008)';
create index document_text_unsigned on ragworks.document_text (collection_id) where signature is null;
