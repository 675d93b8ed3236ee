"""Judges a dataset of conversations before a GPU is asked for: Great Expectations on its rows, and that nothing leaks.

It trusts nothing of how the set was made: the sides are compared again, with each other and with the golden queries as they
are now.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from include.collection_file import NearDuplicates
from include.datasets.conversations.contamination import LONG_ANSWER, HeldOut
from include.datasets.conversations.held_out import GoldenTexts, asked, golden_texts
from include.datasets.conversations.options import LlmDataOptions
from include.datasets.filters import normalised
from include.datasets.leakage import GOLDEN, Leak, Side, describe, leaks
from include.errors import BadData
from include.hashing import canonical_json, text_hash
from include.indexing.signing import sign_missing
from include.progress import Silent
from include.quality.conversation_data import Limits, advice, conversation_rules, set_rules
from include.quality.training_data import failed
from include.quality.validate import validate
from include.store import answering_passages, conversations, datasets, generations

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from uuid import UUID

    from include.quality.validate import Verdict
    from include.store.conversations import Conversation
    from include.store.datasets import Dataset
    from include.store.pool import Connection, Pool

logger = logging.getLogger(__name__)

_COLUMNS = ("alternates", "prompt_characters", "answer_characters", "answers_differ", "duplicate_of")
_LATER = {"train": ("dev", "test"), "dev": ("test",)}  # sides whose texts must not be seen on a side
LINES_NAMED = 10  # of those that fail, in a message; all of them are kept


def check_conversations(pool: Pool, collection_id: int, dataset: Dataset) -> dict[str, Any]:
    """Check, keep the result with the dataset, and set its state: ready or refused.

    Documents and golden queries count as they are now: what became golden since the dataset was made leaks too.

    :return: sound, failed, rows, leakage, suites.
    :raises BadData: each expectation that failed, every kind of leak, and what to do about it.
    """
    known = {name: value for name, value in dataset.arguments.items() if name in LlmDataOptions.model_fields}
    options = LlmDataOptions.model_validate(known, strict=False)  # an older one may have had others
    seen = _Seen(preferences=dataset.kind == "preferences")
    with pool.connection() as connection:
        for row in conversations.conversations(connection, dataset.id):
            seen.add(row)
        connection.commit()
        golden = golden_texts(
            connection, collection_id, threshold=options.near_duplicate, documents=options.golden == "documents"
        )
        found = [*_document_leaks(connection, collection_id, dataset, golden, seen)]
    found += _text_leaks(seen, golden, options.near_duplicate)
    rows = validate("conversations", conversation_rules(), seen.columns, seen.names)
    limits = Limits(options.min_train, options.min_dev, options.min_test)
    sizes = {side: len(seen.rows.get(side, ())) for side in ("train", "dev", "test")}
    whole = validate("conversation_set", set_rules(limits), {name: [value] for name, value in sizes.items()}, ["set"])
    wrong = [*failed(dict(rows.result)), *failed(dict(whole.result))]
    report = {
        "sound": not wrong and not found,
        "failed": [*wrong, *(["leakage"] if found else [])],
        "rows": sizes,
        "leakage": describe(found),
        "suites": [rows.result, whole.result],
    }
    with pool.connection() as connection:
        datasets.save_checks(connection, dataset.id, report, sound=bool(report["sound"]))
    logger.info("dataset %d: %s", dataset.id, "sound" if report["sound"] else f"refused for {report['failed']}")
    if not report["sound"]:
        said = {rule.name: f"{rule.sentence}: {sizes[rule.explain or '']}" for rule in set_rules(limits)}
        raise _refusal(dataset, rows, said, found, wrong)
    return report


@dataclass(slots=True)
class _Seen:
    """What a pass over the rows leaves behind: lengths, hashes, and the texts that are compared."""

    preferences: bool
    columns: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in _COLUMNS})
    names: list[str] = field(default_factory=list)
    rows: dict[str, list[tuple[int, Conversation]]] = field(default_factory=dict)
    first: dict[UUID, str] = field(default_factory=dict)

    def add(self, row: Conversation) -> None:
        number = len(self.names) + 1
        name = f"row {number}"
        roles = [one.get("role") for one in row.messages if one.get("role") != "system" or one is not row.messages[0]]
        same = row.rejected is not None and row.rejected.strip() == row.answer.strip()
        shortest = min(len(row.answer.strip()), len(row.rejected.strip()) if row.rejected is not None else MANY)
        key = text_hash(canonical_json([list(row.messages), row.rejected]))
        values = {
            "alternates": roles == ["user" if n % 2 == 0 else "assistant" for n in range(len(roles))] and len(roles) % 2 == 0,
            "prompt_characters": sum(len(one["content"].strip()) for one in row.prompt),
            "answer_characters": max(len(row.answer), len(row.rejected or "")) if shortest else 0,
            "answers_differ": (row.rejected is not None) == self.preferences and not same,
            "duplicate_of": self.first.get(key),
        }
        self.first.setdefault(key, name)
        for column, value in values.items():
            self.columns[column].append(value)
        self.names.append(name)
        self.rows.setdefault(row.split, []).append((number, row))


MANY = 2**31


def _text_leaks(seen: _Seen, golden: GoldenTexts, threshold: float) -> Iterator[Leak]:
    """Questions and long answers that stand on two sides, and what of the golden queries is asked or shown."""
    for side, later in _LATER.items():
        own = seen.rows.get(side, [])
        for number, row in own:
            reason = golden.reason(row)
            if reason is not None:
                yield Leak(reason.removeprefix("golden_"), (side, GOLDEN), (f"row {number}", "a golden query"))
        for other in later:
            rows = seen.rows.get(other, [])
            held = HeldOut([(n, row.question) for n, row in rows], threshold)
            answers = {normalised(row.answer): n for n, row in rows if _is_long(row)}
            for number, row in own:
                match = held.match(row.question, asked(row))
                if match is not None:
                    yield Leak("question", (side, other), (f"row {number}", f"row {match.key}"))
                elif _is_long(row) and (twin := answers.get(normalised(row.answer))) is not None:
                    yield Leak("answer", (side, other), (f"row {number}", f"row {twin}"))


def _is_long(row: Conversation) -> bool:
    """Two equal answers of so many words are one thing learned; saying that the documents hold none is no such thing."""
    return row.task != "unanswerable" and len(normalised(row.answer).split()) >= LONG_ANSWER


def _document_leaks(connection: Connection, collection: int, dataset: Dataset, golden: GoldenTexts, seen: _Seen) -> list[Leak]:
    """Documents on two sides: as what answers, and in training also as what is only shown."""
    answering = {side: {row.uri for _, row in rows if row.uri} for side, rows in seen.rows.items()}
    shown = {side: {uri for _, row in rows for uri in row.named} for side, rows in seen.rows.items()}
    uris = sorted({uri for found in shown.values() for uri in found} | golden.documents)
    if not uris:
        return []
    sign_missing(connection, collection, Silent(), connection.commit)
    live = generations.live_generation(connection, collection)
    held = answering_passages.contents_of(connection, live, uris) if live else {}

    def side_of(names: Iterable[str]) -> Side:
        return Side(documents={uri: held.get(uri) for uri in names})

    threshold = float(dataset.statistics.get("threshold") or NearDuplicates().threshold or 1.0)
    judged = side_of(golden.documents)
    found: list[Leak] = []
    for side, later in _LATER.items():
        mine = side_of(shown.get(side, ()))
        found += leaks({side: mine}, judged, threshold)
        for other in later:
            found += leaks({side: mine, other: side_of(answering.get(other, ()))}, Side(), threshold)
    return found


def _refusal(dataset: Dataset, rows: Verdict, facts: dict[str, str], found: list[Leak], wrong: list[str]) -> BadData:
    """Every reason."""
    why = [f"{name}: {facts[name]}" for name in wrong if name in facts]
    for one in rows.result["expectations"]:
        if not one["success"]:
            named = ", ".join(one["rows"][:LINES_NAMED]) + (" …" if len(one["rows"]) > LINES_NAMED else "")
            why.append(f"{one['name']}: {len(one['rows'])} conversations ({named})")
    fixes = advice(wrong)
    for (kind, sides), count in Counter((leak.kind, leak.sides) for leak in found).items():
        first = next(leak for leak in found if (leak.kind, leak.sides) == (kind, sides))
        why.append(f"contamination: {count} × {kind} in {sides[0]} and {sides[1]}, such as {' and '.join(first.what)}")
    if found:
        fixes = ". ".join(filter(None, (fixes, "Make the dataset again, or move or remove these rows")))
    what = f"dataset {dataset.name} {dataset.version} (id {dataset.id}) is refused"
    return BadData(what, "; ".join(why), fixes)
