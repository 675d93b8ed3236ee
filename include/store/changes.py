"""The difference between what the source wants and what a generation holds, counted and listed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from include.store.generations import Generation
    from include.store.pool import Connection

# One row a document that differs; renamed: new uri, content that a vanished document of the generation has.
_CHANGES = """
with held as (select document_id, content_hash, version_hash, acl from ragworks.generation_document
              where generation_id = %(g)s and not staged),
gone as (select d.uri, h.content_hash, row_number() over (partition by h.content_hash order by d.uri) as n
         from held h join ragworks.document d on d.id = h.document_id
         left join ragworks.desired_document w on w.id = d.id where not coalesce(w.wanted, false)),
wanted as (select d.uri, d.content_hash, d.version_hash, d.acl, h.document_id is not null as is_held, r.document_id is not null
                  as is_rejected, h.content_hash as held_content, h.version_hash as held_version, h.acl as held_acl,
                  row_number() over (partition by d.content_hash, h.document_id is null order by d.uri) as n
           from ragworks.desired_document d left join held h on h.document_id = d.id
           left join ragworks.rejection r
             on r.generation_id = %(g)s and r.document_id = d.id and r.content_hash = d.content_hash
           where d.collection_id = %(c)s and d.wanted)
select w.uri, case when r.uri is not null then 'renamed' when not w.is_held then 'added' when w.is_rejected then 'metadata_only'
                   when w.held_content <> w.content_hash then 'changed' else 'metadata_only' end as action, r.uri as old_uri
from wanted w left join gone r on not w.is_held and not w.is_rejected and r.content_hash = w.content_hash and r.n = w.n
where case when w.is_rejected then w.is_held and w.held_acl is distinct from w.acl
      else w.held_version is distinct from w.version_hash end
union all
select uri, 'deleted', null from gone
order by 1
"""
_SIZES = """
with held as (select document_id, version_hash from ragworks.generation_document where generation_id = %(g)s and not staged),
wanted as (select d.id, d.version_hash, r.document_id is not null as is_rejected from ragworks.desired_document d
           left join ragworks.rejection r
             on r.generation_id = %(g)s and r.document_id = d.id and r.content_hash = d.content_hash
           where d.collection_id = %(c)s and d.wanted)
select count(w.id), count(h.document_id), count(w.id) filter (where not w.is_rejected),
       count(w.id) filter (where not w.is_rejected and h.version_hash is distinct from w.version_hash)
from wanted w full join held h on h.document_id = w.id
"""


@dataclass(frozen=True, slots=True)
class Change:
    """A document that differs; ``old_uri`` is where a renamed one was."""

    uri: str
    action: str
    old_uri: str | None


@dataclass(frozen=True, slots=True)
class Sizes:
    """Documents: wanted by the source, held by the generation, wanted and not refused, of these differing from what is held."""

    wanted: int
    held: int
    accepted: int
    pending: int

    def awaiting_publication(self, target: Generation) -> int:
        """Documents that publishing ``target``, of which these are the sizes, adds or changes for those who query."""
        return self.accepted if target.state == "building" else self.pending


def changes(connection: Connection, collection: int, generation_id: int | None) -> list[Change]:
    """Every document that differs, by uri; without a generation every wanted document is an addition."""
    rows = connection.execute(_CHANGES, {"g": generation_id, "c": collection}).fetchall()
    moved_from = {old for _, action, old in rows if action == "renamed"}
    return [Change(uri, action, old) for uri, action, old in rows if not (action == "deleted" and uri in moved_from)]


def sizes(connection: Connection, collection: int, generation_id: int | None) -> Sizes:
    """The counts that the gates judge."""
    row = connection.execute(_SIZES, {"g": generation_id, "c": collection}).fetchone()
    return Sizes(*map(int, row)) if row else Sizes(0, 0, 0, 0)
