-- Definitions that may change between versions: re-run whenever this file changes.

create or replace view ragworks.desired_document as
select d.id, d.collection_id, d.uri, d.object_uri, d.content_hash, d.version_hash, d.metadata, d.acl,
       d.state = 'present' and o.state = 'present' as wanted
from ragworks.document d
join ragworks.source_object o on o.collection_id = d.collection_id and o.uri = d.object_uri
where d.state <> 'deleted';
