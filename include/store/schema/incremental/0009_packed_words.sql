-- Words of a chunk as sorted integers (include/lexical/packed.py) in half the bytes of a sparsevec of their weights.
-- Generations that are there keep theirs, and are read and written as before; the next one of a collection is packed.

alter table ragworks.generation add column packed boolean not null default false;
comment on column ragworks.generation.packed is 'words are int[], not the sparsevec of releases before';
