"""What a person's verdict on feedback does: it becomes golden queries, or training pairs and hard negatives, or nothing.

What judges must not be learned from. So a judgement that names a document is for one of the two: unless the
reviewer says which, the document decides, always the same way, and three of ten documents judge.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from include.errors import BadData
from include.store import evaluations, golden, kept_out, review_queue

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from include.store.pool import Connection
    from include.store.review_queue import Item, State

JUDGING = 0.3  # share of the documents whose questions become golden queries
PURPOSES = ("golden", "training")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a person says of one judgement.

    :param correction: what the reviewer put right: answer, document, start, end, wrong, purpose. What is not in it stays.
    :param place: where it was read, for messages: ``file line 3``.
    """

    id: UUID
    accepted: bool
    correction: Mapping[str, Any] = field(default_factory=dict)
    place: str = ""


@dataclass(frozen=True, slots=True)
class Reviewed:
    """What changed.

    :param unchanged: were so already.
    :param golden: queries made or made anew; ``withdrawn`` those that no accepted feedback speaks for any more.
    """

    accepted: int = 0
    edited: int = 0
    rejected: int = 0
    unchanged: int = 0
    golden: int = 0
    withdrawn: int = 0

    def as_dict(self) -> dict[str, int]:
        """For JSON."""
        return asdict(self)


def review(
    connection: Connection, collection: int, verdicts: Sequence[Verdict], *, by: str, pass_over_gone: bool = False
) -> Reviewed:
    """Take a person's verdicts, in the caller's transaction; the same ones again change nothing.

    :param pass_over_gone: verdicts on what has expired since it was shown change nothing, and are no error.
    :raises BadData: there is no such judgement in the collection, or a correction cannot be.
    """
    kept_out.hold(connection, {collection: ()})  # before the rows that `forget` waits for: golden queries are written below
    held = {one.id: one for one in review_queue.items(connection, collection, ids=[v.id for v in verdicts], lock=True)}
    if pass_over_gone:
        verdicts = [v for v in verdicts if v.id in held]
    _check(connection, collection, verdicts, held)
    counted: Counter[str] = Counter()
    touched: set[str] = set()
    for verdict in verdicts:
        before = held[verdict.id]
        after = decided(before, verdict, by)
        if after == before:
            counted["unchanged"] += 1
            continue
        review_queue.save(connection, after)
        counted[after.state] += 1
        if before.question and "golden" in (before.purpose, after.purpose):
            touched.add(before.question)
    made, withdrawn = _to_golden(connection, collection, sorted(touched))
    return Reviewed(**counted, golden=made, withdrawn=withdrawn)


def decided(item: Item, verdict: Verdict, by: str) -> Item:
    """The judgement after a verdict; itself when that says nothing new."""
    if not verdict.accepted:
        return item if item.state == "rejected" else replace(item, state="rejected", by=by, at=None)
    after = replace(item, **verdict.correction)
    if after.document != item.document and "start" not in verdict.correction:
        after = replace(after, start=None, end=None)
    changed = replace(after, purpose=item.purpose) != item
    state: State = "edited" if changed or item.state == "edited" else "accepted"
    purpose = (after.purpose or purpose_of(after.document)) if after.document else None
    after = replace(after, state=state, purpose=purpose)
    return item if after == item else replace(after, by=by, at=None)


def purpose_of(document: str) -> str:
    """What questions about a document are used for when nobody says: always the same for one document."""
    place = hashlib.blake2b(document.encode("utf-8", "surrogatepass"), digest_size=4).digest()
    return PURPOSES[0] if int.from_bytes(place, "big") < JUDGING * 2**32 else PURPOSES[1]


def _check(connection: Connection, collection: int, verdicts: Sequence[Verdict], held: Mapping[UUID, Item]) -> None:
    named = sorted({str(v.correction["document"]) for v in verdicts if v.correction.get("document")})
    lengths = review_queue.lengths(connection, collection, named)
    for verdict in verdicts:
        item = held.get(verdict.id)
        if item is None:
            fix = "Export the queue again: what has expired, or is another collection's, is not in it"
            raise BadData(verdict.place or "feedback", f"there is none with the id {verdict.id} in this collection", fix)
        if verdict.accepted and verdict.correction:
            _check_correction(verdict, item, lengths)


def _check_correction(verdict: Verdict, item: Item, lengths: Mapping[str, int]) -> None:
    place, said = verdict.place or str(verdict.id), verdict.correction
    document, end, length = said.get("document"), said.get("end"), lengths.get(str(said.get("document")))
    if document is not None and document != item.document and length is None:
        raise BadData(place, f"the collection holds no document {document!r}", "Name one as `ragworks export` shows it")
    if end is not None and length is not None and end > length:
        raise BadData(
            place, f"characters {said.get('start')} to {end} of {document}, which has {length}",
            "Count characters of its stored text, from 0",
        )  # fmt: skip
    unknown = sorted(set(said.get("wrong") or ()) - {one.number for one in item.shown})
    if unknown:
        raise BadData(place, f"wrong names passage {unknown[0]}, which was not shown", "Use the numbers of `shown`")


def _to_golden(connection: Connection, collection: int, questions: Sequence[str]) -> tuple[int, int]:
    """Golden queries of these questions as accepted feedback has them now; those that a person gave otherwise stay."""
    if not questions:
        return 0, 0
    withdrawn = review_queue.withdraw_golden(connection, collection, questions)
    made = evaluations.accepted_feedback(connection, collection, judging=True, questions=questions)
    origins = golden.origins(connection, collection, [one.query for one in made])
    own = [one for one in made if origins.get(one.query, "feedback") == "feedback"]
    return golden.save(connection, collection, own), withdrawn


def as_line(item: Item) -> dict[str, Any]:
    """As a line of the file that ``feedback --export`` writes and ``--import`` reads."""
    return {
        "id": str(item.id), "state": item.state, "question": item.question, "thumb": item.thumb, "answer": item.answer,
        "document": item.document, "start": item.start, "end": item.end,
        "wrong": list(item.wrong) if item.wrong is not None else None, "purpose": item.purpose, "comment": item.comment,
        "said": item.said, "shown": [dict(review_queue.as_shown(one)) for one in item.shown], "kind": item.kind,
        "given_at": item.given_at.isoformat(), "by": item.by, "at": item.at.isoformat() if item.at else None,
    }  # fmt: skip
