"""Merges the staged chunks of a live generation into the rows that answer queries, touching only what differs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

if TYPE_CHECKING:
    from include.store.generations import Generation
    from include.store.pool import Connection


def merge_staged(connection: Connection, live: Generation) -> tuple[int, int]:
    """Replace the chunks of every staged document, leaving rows that stay the same untouched.

    Vectors match by (document, text, occurrence); of a chunk that only moved, only its span is written.

    :return: (chunks written, new or moved; chunks deleted).
    """
    names = {"live": live.chunks, "spans": live.spans, "staged": live.staged}
    parameters = {"g": live.id}
    connection.execute(sql.SQL(_DROP_STALE).format(**names), parameters)
    connection.execute(sql.SQL(_PAIRS).format(**names), parameters)
    connection.execute("analyze pair")
    connection.execute(sql.SQL(_DELETE_SPANS).format(**names))
    deleted = connection.execute(sql.SQL(_DELETE_GONE).format(**names)).rowcount
    written = connection.execute(sql.SQL(_MOVE_SPANS).format(**names)).rowcount
    connection.execute(sql.SQL(_INSERT_SPANS).format(**names))
    written += connection.execute(sql.SQL(_INSERT_NEW).format(**names)).rowcount
    connection.execute(
        "delete from ragworks.generation_document p using ragworks.generation_document s where p.generation_id = %(g)s"
        " and s.generation_id = %(g)s and s.document_id = p.document_id and s.staged and not p.staged",
        parameters,
    )
    connection.execute(
        "update ragworks.generation_document set staged = false where generation_id = %(g)s and staged", parameters
    )
    connection.execute(sql.SQL("truncate {staged}").format(**names))
    connection.execute("drop table pair")
    return written, deleted


def drop_staged(connection: Connection, live: Generation) -> None:
    """Drop what a run staged that never ended and whose changes the source took back."""
    gone = connection.execute(
        "delete from ragworks.generation_document where generation_id = %s and staged", (live.id,)
    ).rowcount
    if gone:
        connection.execute(sql.SQL("truncate {}").format(live.staged))


_DROP_STALE = """
with stale as (
    delete from ragworks.generation_document s where s.generation_id = %(g)s and s.staged and not exists (
        select from ragworks.desired_document d where d.id = s.document_id and d.wanted and d.content_hash = s.content_hash)
    returning document_id)
delete from {staged} c using stale where c.document_id = stale.document_id
"""

_PAIRS = """
create temp table pair on commit drop as
with documents as (select document_id from ragworks.generation_document where generation_id = %(g)s and staged),
old as (
    select ctid, document_id, seq, text_hash, row_number() over (partition by document_id, text_hash order by seq) as n
    from {live} where document_id in (select document_id from documents)),
new as (
    select ctid, document_id, ordinal, text_hash,
           row_number() over (partition by document_id, text_hash order by ordinal) as n
    from {staged}),
last as (select document_id, max(seq) as seq from old group by document_id)
select document_id, old.ctid as old, new.ctid as new,
       coalesce(old.seq, coalesce(last.seq, -1)
                + row_number() over (partition by document_id, old.seq is null order by ordinal)) as seq
from old full join new using (document_id, text_hash, n) left join last using (document_id)
"""

_DELETE_SPANS = """
delete from {spans} s using pair where pair.new is null and s.document_id = pair.document_id and s.seq = pair.seq
"""

_DELETE_GONE = "delete from {live} c using pair where c.ctid = pair.old and pair.new is null"

_MOVE_SPANS = """
update {spans} c set ordinal = s.ordinal, start_char = s.start_char, end_char = s.end_char, metadata = s.metadata
from pair join {staged} s on s.ctid = pair.new
where pair.old is not null and c.document_id = pair.document_id and c.seq = pair.seq
and (c.ordinal, c.start_char, c.end_char, c.metadata) is distinct from (s.ordinal, s.start_char, s.end_char, s.metadata)
"""

_INSERT_SPANS = """
insert into {spans} (document_id, seq, ordinal, start_char, end_char, metadata)
select s.document_id, pair.seq, s.ordinal, s.start_char, s.end_char, s.metadata
from pair join {staged} s on s.ctid = pair.new where pair.old is null
"""

_INSERT_NEW = """
insert into {live} (document_id, seq, tokens, text_hash, embedding, lexical)
select s.document_id, pair.seq, s.tokens, s.text_hash, s.embedding, s.lexical
from pair join {staged} s on s.ctid = pair.new where pair.old is null
"""
