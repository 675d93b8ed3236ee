-- Definitions that may change between versions: re-run whenever this file changes.

create or replace view ragworks.desired_document as
select d.id, d.collection_id, d.uri, d.object_uri, d.content_hash, d.version_hash, d.metadata, d.acl,
       d.state = 'present' and o.state = 'present' as wanted
from ragworks.document d
join ragworks.source_object o on o.collection_id = d.collection_id and o.uri = d.object_uri
where d.state <> 'deleted';

-- What a generation that is being built holds in place of content that it refused: the version that the live one shows.
create or replace view ragworks.earlier_version as
select r.generation_id, d.id as document_id, h.content_hash, h.version_hash, h.metadata,
       coalesce(r.earlier_hash = h.content_hash, false) as is_rejected
from ragworks.rejection r
join ragworks.generation g on g.id = r.generation_id and g.state = 'building'
join ragworks.desired_document d on d.id = r.document_id and d.wanted and d.content_hash = r.content_hash
join ragworks.generation l on l.collection_id = g.collection_id and l.state = 'live' and not l.metrics ? 'unscrubbed'
join ragworks.generation_document h
  on h.generation_id = l.id and h.document_id = d.id and not h.staged and h.content_hash <> d.content_hash
where not r.again;

-- Every document in which a generation differs from what the source wants; of none (null) all are additions.
-- A wanted document whose content a vanished one of the generation has was renamed. Refused content changes nothing but the ACL.
create or replace function ragworks.changes(of_collection int, of_generation bigint)
returns table (id bigint, uri text, action text, old_uri text) language sql stable as $$
with held as (
    select document_id, content_hash, version_hash, acl from ragworks.generation_document
    where generation_id = of_generation and not staged),
gone as (
    select d.id, d.uri, h.content_hash, row_number() over (partition by h.content_hash order by d.uri) as n
    from held h join ragworks.document d on d.id = h.document_id left join ragworks.desired_document w on w.id = d.id
    where not coalesce(w.wanted, false)),
differing as (
    select d.id, d.uri, d.content_hash, h.document_id is not null as is_held, r.document_id is not null as is_rejected,
           h.content_hash as held_content
    from ragworks.desired_document d left join held h on h.document_id = d.id
    left join ragworks.rejection r
      on r.generation_id = of_generation and r.document_id = d.id and r.content_hash = d.content_hash and not r.again
    where d.collection_id = of_collection and d.wanted
    and case when r.document_id is not null then h.document_id is not null and h.acl is distinct from d.acl
        else h.version_hash is distinct from d.version_hash end),
arrived as (
    select id, uri, content_hash, row_number() over (partition by content_hash order by uri) as n
    from differing where not is_held and not is_rejected),
moved as (select a.id, g.id as old_id, g.uri as old_uri from arrived a join gone g using (content_hash, n))
select d.id, d.uri,
       case when m.id is not null then 'renamed' when not d.is_held then 'added' when d.is_rejected then 'metadata_only'
            when d.held_content <> d.content_hash then 'changed' else 'metadata_only' end,
       m.old_uri
from differing d left join moved m on m.id = d.id
union all
select g.id, g.uri, 'deleted', null from gone g where not exists (select from moved m where m.old_id = g.id)
$$;

-- Documents that were only renamed, and that no generation knows by their new name: publish gives them the old ones' rows.
create or replace function ragworks.moves(of_collection int, of_generation bigint)
returns table (new_id bigint, old_id bigint) language sql stable as $$
select c.id, o.id from ragworks.changes(of_collection, of_generation) c
join ragworks.document o on o.collection_id = of_collection and o.uri = c.old_uri
where c.action = 'renamed' and not exists (select from ragworks.generation_document g where g.document_id = c.id)
$$;

-- The words of a chunk, as numbers: what GIN indexes and what is counted. A sparsevec is written '{1:0.5,7:0.25}/1000000000'.
create or replace function ragworks.terms(weights sparsevec) returns int[] language sql immutable strict parallel safe as $$
    select coalesce(array_agg(split_part(entry, ':', 1)::int), '{}')
    from unnest(string_to_array(trim(both '{}' from split_part(weights::text, '/', 1)), ',')) entry where entry <> ''
$$;

-- The same of packed words (include/lexical/packed.py): entries up to 1852516355 are (term - 2^29) * 4 + min(count, 4) - 1.
create or replace function ragworks.terms(words int[]) returns int[] language sql immutable strict parallel safe as $$
    select coalesce(array_agg((entry >> 2) + 536870912), '{}') from unnest(words) entry where entry < 1853000000
$$;

-- Keeps terms_<id> right whatever writes chunks_<id>: the argument is the table's name. Term 0 counts the chunks.
create or replace function ragworks.count_terms() returns trigger language plpgsql as $$
begin
    execute format(
        'insert into ragworks.%I as t select term, %s * count(*) from changed, unnest(ragworks.terms(lexical) || 0) term'
        ' group by term order by term on conflict (term) do update set chunks = t.chunks + excluded.chunks',
        tg_argv[0], case tg_op when 'INSERT' then 1 else -1 end);
    if tg_op = 'DELETE' then
        execute format('delete from ragworks.%I where chunks = 0 and term <> 0', tg_argv[0]);
    end if;
    return null;
end
$$;
