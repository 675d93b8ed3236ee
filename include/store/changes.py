"""The difference between what the source wants and what a generation holds, counted, listed and explained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.store.generations import Generation
    from include.store.pool import Connection

ITERSIZE = 10_000

_EXPLAINED = """
select c.uri, c.action, case c.action
    when 'added' then 'new in the source'
    when 'renamed' then 'moved from ' || c.old_uri
    when 'deleted' then 'no longer in the source'
    when 'changed' then coalesce(r.why, 'its content changed')
    else concat_ws('; ', concat_ws(' and ', case when h.metadata is distinct from d.metadata then 'its metadata' end,
                   case when h.acl is distinct from d.acl then 'its access list' end) || ' changed, its content did not',
                   r.why) end
    as reason
from ragworks.changes({c}, {g}) c join ragworks.document d on d.id = c.id
left join (select uri as object_uri, 'read by another parser or other privacy settings' as why from to_read
           where kind = 'parser') r using (object_uri)
left join ragworks.generation_document h on h.generation_id = {g} and h.document_id = c.id and not h.staged
"""
_TO_LIVE = _EXPLAINED.format(c="%(c)s", g="%(g)s")
_TO_NEW = f"""
with of_source as ({_EXPLAINED.format(c="%(c)s", g="%(live)s")})
select t.uri, coalesce(s.action, 'changed'), concat_ws('; ', s.reason, %(why)s::text)
from ragworks.changes(%(c)s, %(g)s) t left join of_source s using (uri) where t.action <> 'deleted'
union all select uri, action, reason from of_source where action = 'deleted'
"""
_SIZES = """
with held as (select document_id, version_hash from ragworks.generation_document where generation_id = %(g)s and not staged),
wanted as (select d.id, d.version_hash, r.document_id is not null as is_rejected from ragworks.desired_document d
           left join ragworks.rejection r
             on r.generation_id = %(g)s and r.document_id = d.id and r.content_hash = d.content_hash and not r.again
           where d.collection_id = %(c)s and d.wanted)
select count(w.id), count(h.document_id), count(w.id) filter (where not w.is_rejected),
       count(w.id) filter (where not w.is_rejected and h.version_hash is distinct from w.version_hash),
       count(h.document_id) filter (where w.id is null), count(w.id) filter (where w.is_rejected and h.document_id is null)
from wanted w full join held h on h.document_id = w.id
"""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Numbers of documents.

    :param wanted: by the source.
    :param held: by the generation.
    :param accepted: wanted and not refused.
    :param pending: of these, differing from what is held.
    :param leaving: held and no longer wanted.
    :param refused: wanted, and not held in any version because the present one was refused.
    """

    wanted: int = 0
    held: int = 0
    accepted: int = 0
    pending: int = 0
    leaving: int = 0
    refused: int = 0

    def awaiting_publication(self, target: Generation) -> int:
        """Documents that publishing ``target``, of which these are the sizes, adds or changes for those who query."""
        return self.accepted if target.state in ("building", "candidate") else self.pending


def explained(
    connection: Connection, collection: int, target: Generation, live: Generation | None, why: str
) -> Iterator[tuple[str, str, str]]:
    """(uri, action, reason) of every document that the run touches, streamed.

    A new generation lacks everything: told is what is new in the source, and of the rest why it is made again.

    In the session that read what changed: it knows why each object was read.

    :param why: how a new generation differs from the live one.
    """
    of_source = live is None or live.id == target.id
    parameters = {"c": collection, "g": target.id, "live": live.id if live else None, "why": why}
    with connection.cursor(name="explained") as cursor:
        cursor.itersize = ITERSIZE
        cursor.execute(_TO_LIVE if of_source else _TO_NEW, parameters)
        yield from cursor


def any_change(connection: Connection, collection: int, generation_id: int) -> bool:
    """Whether the generation differs from what the source wants."""
    row = connection.execute("select exists (select from ragworks.changes(%s, %s))", (collection, generation_id)).fetchone()
    return bool(row and row[0])


def deletions(connection: Connection, collection: int, generation_id: int) -> list[str]:
    """The documents that the generation holds and the source no longer has, by uri."""
    rows = connection.execute(
        "select uri from ragworks.changes(%s, %s) where action = 'deleted' order by uri", (collection, generation_id)
    )
    return [str(row[0]) for row in rows]


def lacking(connection: Connection, collection: int, live_id: int, built_id: int) -> list[str]:
    """The documents that the source has and the live generation shows, but not the one built to replace it, by uri."""
    rows = connection.execute(
        "select d.uri from ragworks.desired_document d join ragworks.generation_document l"
        " on l.generation_id = %s and l.document_id = d.id and not l.staged"
        " where d.collection_id = %s and d.wanted and not exists (select from ragworks.generation_document b"
        "  where b.generation_id = %s and b.document_id = d.id and not b.staged) order by d.uri",
        (live_id, collection, built_id),
    )
    return [str(row[0]) for row in rows]


def sizes(connection: Connection, collection: int, generation_id: int | None) -> Sizes:
    """The counts that the gates judge."""
    row = connection.execute(_SIZES, {"g": generation_id, "c": collection}).fetchone()
    return Sizes(*map(int, row)) if row else Sizes()
