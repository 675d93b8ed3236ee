"""Datasets: pairs of a question and the passage that answers it, with hard negatives; a version is never changed.

The same rows are the same version: a dataset is known by the hash of its rows, whenever and however often it is made. Only
``forget`` takes rows out of one that is there; hashes of the documents it ever held stay, so that models trained on a forgotten
document can be named.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field, fields, replace
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from psycopg import Rollback, sql
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from include.errors import BadData
from include.hashing import canonical_json
from include.store import kept_out
from include.store.naming import uri_hash

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from include.store.pool import Connection

BATCH = 500  # rows written together
SAVE_LOCK = 0x5244  # advisory lock class; the second key is the collection's id
SCORE = "score"  # of a row's metadata: how near the index found question and passage; evidence, and not content

Split = Literal["train", "dev", "test"]
Row = TypeVar("Row")
Read = TypeVar("Read", contravariant=True)


@dataclass(frozen=True, slots=True)
class Negative:
    """A passage that does not answer the question, though it looks as if it did.

    :param start: where it stands in its document; None: not known.
    :param score: cosine similarity by the model that found it; None: nobody measured it.
    """

    uri: str
    start: int | None
    end: int | None
    text: str
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """A question and a passage.

    :param start: of ``positive`` in its document; None: not known.
    :param label: how well the passage answers, 0 to 1; 0: people judged that it does not.
    :param origin: qrels, feedback, llm, headings or imported.
    :param style: how a made question was asked for: keyword, question, paraphrase, problem; heading or sentence.
    :param metadata: of the question, and ``score``, the cosine similarity of the two by the index it was made from.
    """

    query: str
    uri: str
    start: int | None
    end: int | None
    positive: str
    label: float = 1.0
    origin: str = "imported"
    style: str = ""
    split: Split = "train"
    metadata: Mapping[str, Any] = field(default_factory=dict)
    negatives: tuple[Negative, ...] = ()


@dataclass(frozen=True, slots=True)
class Dataset:
    """A row of ragworks.dataset.

    :param content_hash: of all rows with splits and negatives, without scores.
    :param parent_id: the version that a person corrected.
    :param arguments: fields of :class:`include.datasets.options.DatasetOptions`, of conversations those of
        :class:`include.datasets.conversations.options.LlmDataOptions`.
    :param statistics: counts of rows by split, origin and style, and of what was left out, by reason.
    :param checks: what Great Expectations and the check for leakage found; None: not checked yet.
    :param kind: pairs, conversations or preferences.
    """

    id: int
    collection_id: int
    name: str
    version: int
    content_hash: str
    parent_id: int | None
    origin: str
    arguments: dict[str, Any]
    statistics: dict[str, Any]
    checks: dict[str, Any] | None
    state: str
    created_at: datetime
    kind: str = "pairs"


_COLUMNS = sql.SQL(", ").join(sql.Identifier(column.name) for column in fields(Dataset))


def save(
    connection: Connection,
    collection: int,
    name: str,
    rows: Iterable[Pair],
    *,
    arguments: Mapping[str, Any],
    statistics: Mapping[str, Any],
    parent: int | None = None,
    origin: str | None = None,
) -> Dataset:
    """The version that holds these rows: made, or the one that is there; streamed, in a transaction of its own.

    What is forgotten meanwhile is not written. A version that is there takes the arguments, for its limits may have changed,
    and waits to be checked again.

    :param origin: None: that of the rows, ``mixed`` when these have several.
    :raises BadData: there are no rows.
    """
    return save_rows(
        connection, collection, name, rows, writer=_Writer, kind="pairs", arguments=arguments, statistics=statistics,
        parent=parent, origin=origin,
    )  # fmt: skip


class Writer(Protocol[Read]):
    """Writes rows of one kind, and knows at the end what they come to."""

    count: int

    @property
    def content_hash(self) -> str:
        """Of all rows written."""

    @property
    def origin(self) -> str:
        """That of the rows, ``mixed`` when these have several."""

    def statistics(self) -> dict[str, Any]:
        """Counts of the rows."""

    def write(self, batch: Sequence[Read]) -> None:
        """Write some more."""


def save_rows(
    connection: Connection,
    collection: int,
    name: str,
    rows: Iterable[Row],
    *,
    writer: Callable[[Connection, int, int], Writer[Row]],
    kind: str,
    arguments: Mapping[str, Any],
    statistics: Mapping[str, Any],
    parent: int | None,
    origin: str | None,
) -> Dataset:
    """As :func:`save`, of rows of any kind.

    :param writer: made of connection, collection and dataset.
    :raises BadData: there are no rows, or the name is one of datasets of another kind.
    """
    with connection.transaction():
        connection.execute("select pg_advisory_xact_lock(%s, %s)", (SAVE_LOCK, collection))
        # As workers do: `forget` waits for this transaction, and this one for that.
        connection.execute("select from ragworks.generation where collection_id = %s order by id for share", (collection,))
        _one_kind(connection, collection, name, kind)
        known = _save_rows(connection, collection, name, rows, writer, kind, statistics, parent, origin)
        connection.execute(
            "update ragworks.dataset set arguments = %s, state = 'ready', checks = null where id = %s",
            (Jsonb(dict(arguments)), known),
        )
        return dataset(connection, known)


def _one_kind(connection: Connection, collection: int, name: str, kind: str) -> None:
    """Versions of one name follow each other: a training that asks for the newest must get what it can read."""
    row = connection.execute(
        "select kind from ragworks.dataset where collection_id = %s and name = %s and kind <> %s limit 1",
        (collection, name, kind),
    ).fetchone()
    if row is not None:
        raise BadData(
            f"dataset {name!r} holds {row[0]}", f"these are {kind}", "Give them another name, with --name or data_name"
        )


def _save_rows(
    connection: Connection,
    collection: int,
    name: str,
    rows: Iterable[Row],
    make_writer: Callable[[Connection, int, int], Writer[Row]],
    kind: str,
    statistics: Mapping[str, Any],
    parent: int | None,
    origin: str | None,
) -> int:
    """Write the rows, then see whether they are there already; returns the id of who holds them."""
    with connection.transaction() as attempt:
        made = _insert_version(connection, collection, name, kind, parent)
        writer = make_writer(connection, collection, made)
        for batch in _batches(rows):
            writer.write(batch)
        if not writer.count:
            raise BadData(f"dataset {name!r} has no rows", "nothing was left to write", "See what was left out, and why")
        row = connection.execute(
            "select id from ragworks.dataset where collection_id = %s and name = %s and content_hash = %s",
            (collection, name, writer.content_hash),
        ).fetchone()
        if row is None:
            connection.execute(
                "update ragworks.dataset set content_hash = %s, origin = %s, statistics = %s where id = %s",
                (writer.content_hash, origin or writer.origin, Jsonb({**statistics, **writer.statistics()}), made),
            )
            return made
        known = int(row[0])
        raise Rollback(attempt)
    return known


def _insert_version(connection: Connection, collection: int, name: str, kind: str, parent: int | None) -> int:
    row = connection.execute(
        "insert into ragworks.dataset (collection_id, name, version, content_hash, parent_id, origin, kind)"
        " select %(c)s, %(n)s, coalesce(max(version), 0) + 1, gen_random_uuid()::text, %(p)s, 'imported', %(k)s"
        " from ragworks.dataset where collection_id = %(c)s and name = %(n)s returning id",
        {"c": collection, "n": name, "p": parent, "k": kind},
    ).fetchone()
    return int(row[0]) if row else 0


class _Writer:
    """Writes batches of rows, and knows at the end what they come to."""

    def __init__(self, connection: Connection, collection: int, dataset: int) -> None:
        self._connection, self._collection, self._dataset = connection, collection, dataset
        self._digest = hashlib.blake2b(digest_size=16)
        self._counts: dict[str, Counter[str]] = {key: Counter() for key in ("rows", "origins", "styles")}
        self.count = self._negatives = self._forgotten = 0

    @property
    def content_hash(self) -> str:
        return self._digest.hexdigest()

    @property
    def origin(self) -> str:
        origins = self._counts["origins"]
        return next(iter(origins)) if len(origins) == 1 else "mixed"

    def statistics(self) -> dict[str, Any]:
        counted: dict[str, Any] = {key: dict(sorted(count.items())) for key, count in self._counts.items()}
        counted["negatives"] = self._negatives
        return {**counted, "forgotten": self._forgotten} if self._forgotten else counted

    def write(self, batch: Sequence[Pair]) -> None:
        pairs = self._allowed(batch)
        if not pairs:
            return
        ids = self._insert(pairs)
        negatives = [(i, n, one) for i, pair in zip(ids, pairs, strict=True) for n, one in enumerate(pair.negatives, 1)]
        self._connection.execute(
            _INSERT_NEGATIVES,
            (
                [i for i, _, _ in negatives], [n for _, n, _ in negatives], [one.uri for _, _, one in negatives],
                [one.start for _, _, one in negatives], [one.end for _, _, one in negatives],
                [one.text for _, _, one in negatives], [one.score for _, _, one in negatives],
            ),
        )  # fmt: skip
        uris = {pair.uri for pair in pairs} | {one.uri for _, _, one in negatives}
        self._connection.execute(
            "insert into ragworks.dataset_document select %s, * from unnest(%s::bytea[]) on conflict do nothing",
            (self._dataset, [uri_hash(uri) for uri in sorted(uris)]),
        )
        self._count(pairs, len(negatives))

    def _allowed(self, batch: Sequence[Pair]) -> list[Pair]:
        """Without what was forgotten while the rows were made."""
        uris = {pair.uri for pair in batch} | {negative.uri for pair in batch for negative in pair.negatives}
        gone = kept_out.is_forgotten(self._connection, self._collection, sorted(uris))
        kept = [pair for pair in batch if pair.uri not in gone]
        self._forgotten += len(batch) - len(kept)
        return [replace(p, negatives=tuple(n for n in p.negatives if n.uri not in gone)) for p in kept] if gone else kept

    def _insert(self, pairs: Sequence[Pair]) -> list[int]:
        rows = self._connection.execute(
            _INSERT_ROWS,
            (
                self._dataset, list(range(self.count + 1, self.count + len(pairs) + 1)), [p.split for p in pairs],
                [p.query for p in pairs], [p.uri for p in pairs], [p.start for p in pairs], [p.end for p in pairs],
                [p.positive for p in pairs], [p.label for p in pairs], [p.origin for p in pairs], [p.style for p in pairs],
                [Jsonb(dict(p.metadata)) for p in pairs],
            ),
        ).fetchall()  # fmt: skip
        return [int(row[0]) for row in sorted(rows, key=lambda row: row[1])]

    def _count(self, pairs: Sequence[Pair], negatives: int) -> None:
        self.count += len(pairs)
        self._negatives += negatives
        for pair in pairs:
            self._counts["rows"][pair.split] += 1
            self._counts["origins"][pair.origin] += 1
            self._counts["styles"][pair.style or pair.origin] += 1
            self._digest.update(canonical_json(_content(pair)).encode("utf-8", "surrogatepass") + b"\n")


def _content(pair: Pair) -> list[Any]:
    """What makes a row another row."""
    metadata = {key: value for key, value in pair.metadata.items() if key != SCORE}
    negatives = [[n.uri, n.start, n.end, n.text] for n in pair.negatives]
    place = [pair.uri, pair.start, pair.end, pair.positive]
    return [pair.query, *place, round(float(pair.label), 6), pair.origin, pair.style, pair.split, metadata, negatives]


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    left = iter(rows)
    while batch := list(islice(left, BATCH)):
        yield batch


def pairs(connection: Connection, dataset_id: int, split: str | None = None) -> Iterator[Pair]:
    """The rows of a dataset, or of one of its splits, in their order; streamed: the transaction stays open meanwhile."""
    with connection.cursor(name="pairs") as cursor:
        cursor.itersize = 1000
        found = cursor.execute(_PAIRS, {"d": dataset_id, "split": split})
        for _, group in groupby(found, key=lambda row: row[0]):
            rows = list(group)
            negatives = tuple(Negative(*row[11:]) for row in rows if row[11] is not None)
            values: tuple[Any, ...] = (*rows[0][1:11], negatives)
            yield Pair(*values)


def dataset(connection: Connection, dataset_id: int) -> Dataset:
    """A dataset by its id.

    :raises BadData: there is none.
    """
    found = _many(connection, sql.SQL("id = %s"), (dataset_id,))
    if not found:
        raise BadData(f"there is no dataset {dataset_id}", "", "See: ragworks dataset NAME --list")
    return found[0]


def latest(connection: Connection, collection: int, name: str) -> Dataset | None:
    """The newest version of a name that was not refused, if there is one."""
    found = _many(connection, sql.SQL("collection_id = %s and name = %s and state = 'ready'"), (collection, name))
    return found[0] if found else None


def datasets_of(connection: Connection, collection: int, name: str | None = None) -> list[Dataset]:
    """Every dataset of a collection, newest first; of one name if it is given."""
    return _many(connection, sql.SQL("collection_id = %s and (%s::text is null or name = %s)"), (collection, name, name))


def of_run(connection: Connection, collection: int, name: str, run_key: str) -> Dataset | None:
    """The dataset that a run made before it was interrupted."""
    condition = sql.SQL("collection_id = %s and name = %s and statistics ->> 'run_key' = %s")
    found = _many(connection, condition, (collection, name, run_key))
    return found[0] if found else None


def sizes(connection: Connection, dataset_id: int) -> dict[str, int]:
    """Rows of each split as they are now: ``forget`` may have taken some."""
    rows = connection.execute(
        "select split, count(*) from (select split from ragworks.dataset_row where dataset_id = %(d)s union all"
        " select split from ragworks.dataset_conversation where dataset_id = %(d)s) as held group by split order by split",
        {"d": dataset_id},
    )
    return {str(split): int(count) for split, count in rows}


def save_checks(connection: Connection, dataset_id: int, checks: Mapping[str, Any], *, sound: bool) -> None:
    """Keep what was found, and whether the dataset may be trained on."""
    connection.execute(
        "update ragworks.dataset set checks = %s, state = %s where id = %s",
        (Jsonb(dict(checks)), "ready" if sound else "refused", dataset_id),
    )


def _many(connection: Connection, condition: sql.SQL, parameters: tuple[Any, ...]) -> list[Dataset]:
    query = sql.SQL("select {} from ragworks.dataset where {} order by id desc").format(_COLUMNS, condition)
    with connection.cursor(row_factory=class_row(Dataset)) as cursor:
        return cursor.execute(query, parameters).fetchall()


_INSERT_ROWS = """
insert into ragworks.dataset_row
    (dataset_id, ordinal, split, query, uri, start_char, end_char, positive, label, origin, style, metadata)
select %s, * from unnest(%s::int[], %s::text[], %s::text[], %s::text[], %s::int[], %s::int[], %s::text[], %s::real[],
    %s::text[], %s::text[], %s::jsonb[])
returning id, ordinal
"""

_INSERT_NEGATIVES = """
insert into ragworks.dataset_negative (row_id, ordinal, uri, start_char, end_char, text, score)
select * from unnest(%s::bigint[], %s::int[], %s::text[], %s::int[], %s::int[], %s::text[], %s::real[])
"""

_PAIRS = """
select r.ordinal, r.query, r.uri, r.start_char, r.end_char, r.positive, r.label, r.origin, r.style, r.split, r.metadata,
    n.uri, n.start_char, n.end_char, n.text, n.score
from ragworks.dataset_row r left join ragworks.dataset_negative n on n.row_id = r.id
where r.dataset_id = %(d)s and (%(split)s::text is null or r.split = %(split)s) order by r.ordinal, n.ordinal
"""
