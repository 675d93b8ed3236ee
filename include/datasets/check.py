"""Judges a dataset before anything is trained on it: Great Expectations on its rows, and that nothing leaks."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from include.collection_file import NearDuplicates
from include.datasets.filters import normalised
from include.datasets.golden_text import golden_text
from include.datasets.kept_out import golden_of
from include.datasets.leakage import GOLDEN, Leak, Side, describe, leaks
from include.datasets.options import DatasetOptions
from include.errors import BadData
from include.hashing import text_hash
from include.indexing.signing import sign_missing
from include.progress import Silent
from include.quality.training_data import Limits, advice, failed, pair_rules, set_rules
from include.quality.validate import validate
from include.store import answering_passages, datasets, generations

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from uuid import UUID

    from include.datasets.golden_text import GoldenText
    from include.quality.validate import Verdict
    from include.store.datasets import Dataset, Pair
    from include.store.pool import Connection, Pool

logger = logging.getLogger(__name__)

_COLUMNS = ("query_characters", "positive_characters", "shortest_negative", "same_negatives", "label", "duplicate_of")

ROWS_NAMED = 10  # of those that fail, in a message; all of them are kept


def check_dataset(pool: Pool, collection_id: int, dataset: Dataset) -> dict[str, Any]:
    """Check, keep the result with the dataset, and set its state: ready or refused.

    Documents and golden queries count as they are now: what became golden since the dataset was made leaks too.

    :return: suites, leakage, rows, failed.
    :raises BadData: each expectation that failed, and what to do about it.
    """
    known = {name: value for name, value in dataset.arguments.items() if name in DatasetOptions.model_fields}
    options = DatasetOptions.model_validate(known)  # an older one may have had others
    seen = _Seen()
    with pool.connection() as connection:
        for row in datasets.pairs(connection, dataset.id):
            seen.add(row)
        connection.commit()
        found = _leaks(connection, collection_id, dataset, options, seen)
    rows = validate("training_pairs", pair_rules(), seen.columns, seen.names)
    limits = Limits(options.min_train, options.min_dev, options.max_style_share)
    facts = seen.whole(options)
    whole = validate("training_set", set_rules(limits), {name: [value] for name, value in facts.items()}, ["set"])
    wrong = [*failed(dict(rows.result)), *failed(dict(whole.result))]
    report = {
        "sound": not wrong and not found,
        "failed": [*wrong, *(["leakage"] if found else [])],
        "rows": dict(seen.right),
        "leakage": describe(found),
        "suites": [rows.result, whole.result],
    }
    with pool.connection() as connection:
        datasets.save_checks(connection, dataset.id, report, sound=bool(report["sound"]))
    logger.info("dataset %d: %s", dataset.id, "sound" if report["sound"] else f"refused for {report['failed']}")
    if not report["sound"]:
        said = {r.name: r.sentence + (f": {facts[r.explain]}" if r.explain else "") for r in set_rules(limits)}
        raise _refusal(dataset, rows, said, found, wrong)
    return report


@dataclass(slots=True)
class _Seen:
    """What a pass over the rows leaves behind: numbers and hashes, no texts."""

    columns: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in _COLUMNS})
    names: list[str] = field(default_factory=list)
    right: Counter[str] = field(default_factory=Counter)
    labels: set[float] = field(default_factory=set)
    styles: Counter[str] = field(default_factory=Counter)
    negatives: int = 0
    pairs: dict[UUID, str] = field(default_factory=dict)
    questions: dict[str, dict[UUID, int]] = field(default_factory=lambda: defaultdict(dict))
    passages: dict[str, dict[UUID, int]] = field(default_factory=lambda: defaultdict(dict))
    documents: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    wrong_documents: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def add(self, row: Pair) -> None:
        number = len(self.names) + 1
        self.names.append(f"row {number}")
        query, passage = normalised(row.query), normalised(row.positive)
        lengths = [len(negative.text.strip()) for negative in row.negatives]
        values = {
            "query_characters": len(row.query.strip()),
            "positive_characters": len(row.positive.strip()),
            "shortest_negative": min(lengths, default=1),
            "same_negatives": sum(normalised(negative.text) == passage for negative in row.negatives),
            "label": row.label,
            "duplicate_of": self._first(text_hash(f"{query}\n{passage}"), f"row {number}"),
        }
        for name, value in values.items():
            self.columns[name].append(value)
        self.right[row.split] += row.label > 0
        self.labels.add(row.label)
        self.negatives += len(row.negatives)
        self.styles[row.style] += row.origin == "llm"
        self.questions[row.split].setdefault(text_hash(query), number)
        self.passages[row.split].setdefault(text_hash(passage), number)
        self.documents[row.split].add(row.uri)
        self.wrong_documents[row.split].update(negative.uri for negative in row.negatives)

    def _first(self, key: UUID, name: str) -> str | None:
        """The earlier row of the same pair."""
        first = self.pairs.setdefault(key, name)
        return None if first == name else first

    def whole(self, options: DatasetOptions) -> dict[str, Any]:
        """The columns of the set's one row."""
        asked = sum(self.styles.values())
        several = len(options.styles) > 1 and asked > 0
        return {
            "train": self.right["train"],
            "dev": self.right["dev"],
            "labels_differ": self._differ(options),
            "style_share": max(self.styles.values()) / asked if several else 0.0,
        }

    def _differ(self, options: DatasetOptions) -> bool:
        """Right and wrong are both there. Right alone will do where no negatives were wanted: a batch brings its own."""
        right = any(label > 0 for label in self.labels)
        wrong = self.negatives > 0 or len(self.labels) > 1
        return right and (wrong or (options.negatives == 0 and self.labels == {1.0}))


def _leaks(connection: Connection, collection: int, dataset: Dataset, options: DatasetOptions, seen: _Seen) -> list[Leak]:
    sign_missing(connection, collection, Silent(), connection.commit)
    golden = golden_of(connection, collection)
    judges = golden.documents if options.golden == "documents" else frozenset()
    uris = {uri for part in (seen.documents, seen.wrong_documents) for found in part.values() for uri in found} | judges
    live = generations.live_generation(connection, collection)
    held = answering_passages.contents_of(connection, live, sorted(uris)) if live else {}

    def contents(names: Iterable[str]) -> dict[str, tuple[UUID, bytes] | None]:
        return {uri: held.get(uri) for uri in names}

    sides = {
        split: Side(seen.questions[split], seen.passages[split], contents(found)) for split, found in seen.documents.items()
    }
    judged = Side({text_hash(question): 0 for question in golden.questions}, {}, contents(judges))
    threshold = float(dataset.statistics.get("threshold") or NearDuplicates().threshold or 1.0)
    found = leaks(sides, judged, threshold, golden_documents=options.golden == "documents")
    # As negatives too they would be learned: what judges, and what development is to be told apart by.
    wrong = {f"negatives of {split}": Side(documents=contents(names)) for split, names in seen.wrong_documents.items()}
    for name, side in wrong.items():
        found += leaks({name: side}, judged, threshold, golden_documents=options.golden == "documents")
    if "dev" in sides and "negatives of train" in wrong:
        dev = {"dev": Side(documents=sides["dev"].documents), "negatives of train": wrong["negatives of train"]}
        found += leaks(dev, Side(), threshold)
    if judges:
        found += _golden_texts(connection, dataset, held, golden_text(connection, live, golden, threshold))
    return found


def _golden_texts(connection: Connection, dataset: Dataset, held: Collection[str], golden: GoldenText) -> Iterator[Leak]:
    """Passages, right or wrong, that are text of a golden document under another name.

    :param held: documents of the dataset that the index holds.
    """
    for number, row in enumerate(datasets.pairs(connection, dataset.id), 1):
        if source := golden.source(row.positive, known=row.uri in held):
            yield Leak("passage", (row.split, GOLDEN), (f"row {number}", source))
        for negative in row.negatives:
            if negative.uri not in held and (source := golden.source(negative.text, known=False)):
                yield Leak("passage", (f"negatives of {row.split}", GOLDEN), (f"row {number}", source))


def _refusal(dataset: Dataset, rows: Verdict, facts: Mapping[str, str], found: list[Leak], wrong: list[str]) -> BadData:
    """Every reason.

    :param facts: what to say of each expectation on the set as a whole.
    """
    why = [f"{name}: {facts[name]}" for name in wrong if name in facts]
    for one in rows.result["expectations"]:
        if not one["success"]:
            named = ", ".join(one["rows"][:ROWS_NAMED]) + (" …" if len(one["rows"]) > ROWS_NAMED else "")
            why.append(f"{one['name']}: {len(one['rows'])} pairs ({named})")
    fixes = advice(wrong)
    if found:
        first = found[0]
        why.append(
            f"leakage: {len(found)} things stand on two sides, such as {first.kind} {' and '.join(first.what)}"
            f" in {first.sides[0]} and {first.sides[1]}"
        )
        fixes = ". ".join(filter(None, (fixes, "Make the dataset again, or move or remove these rows")))
    what = f"dataset {dataset.name} {dataset.version} (id {dataset.id}) is refused"
    return BadData(what, "; ".join(why), fixes)
