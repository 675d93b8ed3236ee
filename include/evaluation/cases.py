"""The questions of an evaluation: a collection's golden queries, or files of queries and judgements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from include.errors import BadData
from include.evaluation.judgements import read_qrels, read_query_rows
from include.store import comparable, golden
from include.store.golden import GoldenQuery, GoldenSpan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from include.store.pool import Connection

MAX_GOLDEN = 100_000
MAX_SLICES = 20  # of one key that nobody asked for: more are a list of names, not a table


@dataclass(frozen=True, slots=True)
class Cases:
    """What is asked.

    :param origin: golden or files.
    :param keys: the name of each query, unique.
    :param unanswerable: golden queries that no document answers: asked for answers only.
    :param left_out: queries that cannot be asked, because no relevant document or passage is in the index.
    """

    origin: str
    keys: tuple[str, ...]
    queries: tuple[GoldenQuery, ...]
    unanswerable: tuple[GoldenQuery, ...] = ()
    left_out: int = 0

    def describe(self) -> str:
        """One line for a person."""
        kind = "golden queries" if self.origin == "golden" else "judged queries"
        out = f"; {self.left_out} left out, for no passage that answers them is in the index" if self.left_out else ""
        return f"{len(self.queries)} {kind}{out}"


def file_cases(queries_path: str, qrels_path: str) -> Cases:
    """The queries of a file that have at least one relevant document.

    :raises BadData: no query has.
    """
    rows, qrels = read_query_rows(queries_path), read_qrels(qrels_path)
    made = {}
    for key, (text, metadata) in rows.items():
        spans = tuple(GoldenSpan(d, grade=float(grade)) for d, grade in qrels.get(key, {}).items() if grade > 0)
        if spans:
            made[key] = GoldenQuery(text, spans, metadata)
    if not made:
        raise BadData("nothing to evaluate", "no query has a relevant document", "Check that both files use the same query ids")
    return Cases("files", tuple(made), tuple(made.values()))


def golden_cases(connection: Connection, collection: int, generation: int) -> Cases:
    """The collection's golden queries whose answers are in a generation, spans where they stand today; perhaps none."""
    known = comparable.usable_queries(connection, collection, generation, None, limit=MAX_GOLDEN)
    usable = tuple(query for query in known if query.spans)
    keys = tuple(query.query for query in usable)
    nowhere = tuple(q for q in golden.golden_queries(connection, collection) if not q.answerable)
    return Cases("golden", keys, usable, nowhere, len(known) - len(usable))


def slices(queries: Sequence[GoldenQuery], keys: Sequence[str] = ()) -> dict[str, dict[str, list[int]]]:
    """Metadata key → value → the positions of its queries.

    :param keys: which to slice by; none: every key that has from 2 to MAX_SLICES values.
    """
    found = _positions(queries)
    if keys:
        _known(keys, found, queries)
        return {key: found[key] for key in keys}
    return {key: values for key, values in sorted(found.items()) if 2 <= len(values) <= MAX_SLICES}


def unsliced(queries: Sequence[GoldenQuery]) -> dict[str, int]:
    """Metadata key → how many values it has, of the keys that have too many to slice by."""
    return {key: len(values) for key, values in sorted(_positions(queries).items()) if len(values) > MAX_SLICES}


def _positions(queries: Sequence[GoldenQuery]) -> dict[str, dict[str, list[int]]]:
    """Metadata key → value → the positions of its queries, whatever their number."""
    found: dict[str, dict[str, list[int]]] = {}
    for position, query in enumerate(queries):
        for key, value in query.metadata.items():
            for one in _values(value):
                found.setdefault(key, {}).setdefault(one, []).append(position)
    return found


def _values(value: Any) -> list[str]:
    """A list counts by each of its elements; an object by none."""
    if isinstance(value, dict) or value is None:
        return []
    return sorted({str(one) for one in value}) if isinstance(value, list) else [str(value)]


def _known(keys: Sequence[str], found: Mapping[str, Any], queries: Sequence[GoldenQuery]) -> None:
    missing = [key for key in keys if key not in found]
    if missing:
        there = sorted({key for query in queries for key in query.metadata})
        raise BadData(
            f"--slice {missing[0]}",
            f"no query has it in its metadata, which has {', '.join(there) or 'nothing'}",
            "Name a key of the queries' metadata",
        )
