"""Makes a dataset: gather questions, find their passages, leave out what is worth nothing or leaks, split, mine, save.

Every step counts what it leaves out and why. Questions and their passages are in memory, negatives are not: they pass through a
file, so that the transaction that saves is short and a dataset may be large.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from include.datasets import filters
from include.datasets.filters import normalised
from include.datasets.gather import gather
from include.datasets.golden_text import golden_text
from include.datasets.kept_out import Barred, golden_of
from include.datasets.live_index import open_live_index
from include.datasets.mining import mine
from include.datasets.questions import Tally, drawn, found_passage, known_answers
from include.datasets.split import assign
from include.datasets.spool import spooled
from include.errors import BadData
from include.hashing import text_hash
from include.store import datasets
from include.store.datasets import SCORE, Pair

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Literal

    from include.config import Settings
    from include.datasets.kept_out import Golden
    from include.datasets.live_index import LiveIndex
    from include.datasets.options import DatasetOptions
    from include.datasets.questions import Question
    from include.embedding.embedder import Embedder
    from include.progress import Progress
    from include.store.datasets import Dataset
    from include.store.pool import Pool

logger = logging.getLogger(__name__)

PLACES = 4  # decimals of a similarity that is kept


def build_dataset(
    settings: Settings,
    pool: Pool,
    name: str,
    options: DatasetOptions,
    *,
    run_key: str = "",
    progress: Progress,
    embedder: Embedder | None = None,
) -> Dataset:
    """Make a dataset of a collection, or find the version that has the same rows.

    :param name: of the collection.
    :param run_key: of the run that asks; a retry gets what the first attempt saved.
    :param embedder: instead of the one that made the live index.
    :raises BadData: a file is wrong, the collection has no live index, or nothing is left.
    :raises BadConfiguration: sources that cannot be, an LLM that refuses.
    :raises Transient: the LLM fails, or the generation was dropped meanwhile: run again.
    """
    with open_live_index(settings, pool, name, progress=progress, embedder=embedder) as index:
        with pool.connection() as connection:
            made = datasets.of_run(connection, index.collection, options.name, run_key) if run_key else None
            golden = golden_of(connection, index.collection)
        return made or Build(index, options, golden).run(settings, run_key)


@dataclass(frozen=True, slots=True)
class Found:
    """Questions with the passages that answer them, worth learning and not judging.

    :param judges: documents that golden queries judge by.
    :param known: normalised question → documents that answer it, wherever that is known from.
    """

    questions: list[Question]
    judges: Barred
    known: dict[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Build:
    """One dataset in the making."""

    index: LiveIndex
    options: DatasetOptions
    golden: Golden

    def run(self, settings: Settings, run_key: str) -> Dataset:
        """Make it."""
        tally = Tally()
        gathered = self.find(settings, tally)
        found, judges, known = gathered.questions, gathered.judges, gathered.known
        sides = self._sides(found)
        dev = Barred(self.index, {q.document for q, side in zip(found, sides, strict=True) if side == "dev"})
        crossing = dev.among(q.document for q, side in zip(found, sides, strict=True) if side == "train")
        rows = [(q, side) for q, side in zip(found, sides, strict=True) if side == "dev" or q.document not in crossing]
        tally.drop("near_duplicate_in_dev", len(found) - len(rows))
        if not rows:
            raise BadData(
                f"no question for dataset {self.options.name!r} of {self.index.name} is left", tally.describe(),
                "Give other sources, or loosen what leaves out the most: see docs/datasets.md",
            )  # fmt: skip
        both = Barred(self.index, judges.documents | dev.documents)
        return self._save(rows, {"train": both, "dev": judges}, known, tally, run_key)

    def find(self, settings: Settings, tally: Tally) -> Found:
        """Gather, leave out what is worth nothing or judges, and look up what answers; the split is yet to be made."""
        judges = Barred(self.index, self.golden.documents if self.options.golden == "documents" else ())
        questions = gather(settings, self.index, self.options, judges, tally)
        known = known_answers(questions)
        for query, documents in self.golden.questions.items():
            known[query] = known.get(query, frozenset()) | documents
        kept = self._without_golden(self._worth_asking(questions, tally), judges, tally)
        kept = sorted(kept, key=lambda q: drawn(self.options.seed, q.query, q.document))
        tally.drop("over_max_rows", len(kept) - self.options.max_rows)
        placed = self._without_golden_text(self._placed(kept[: self.options.max_rows], tally), tally)
        return Found(self._found_again(self._unlike(placed, tally), tally), judges, known)

    def _worth_asking(self, questions: Sequence[Question], tally: Tally) -> list[Question]:
        """Without what is no question, what stands there twice, and made questions that ask for several documents."""
        asked_of: dict[str, set[str]] = {}
        for question in questions:
            if question.is_made:
                asked_of.setdefault(normalised(question.query), set()).add(question.document)
        kept: dict[tuple[str, str, int | None, str], Question] = {}
        for question in questions:
            query = normalised(question.query)
            text = question.passage.text if question.passage and question.origin == "imported" else ""
            key = (query, question.document, question.start, text)
            if reason := filters.problem(question.query):
                tally.drop(reason)
            elif question.is_made and len(asked_of[query]) > 1:
                tally.drop("ambiguous")
            elif key in kept:
                tally.drop("duplicate")
            else:
                kept[key] = question
        return list(kept.values())

    def _without_golden(self, questions: Sequence[Question], judges: Barred, tally: Tally) -> list[Question]:
        out = judges.among(question.document for question in questions)
        kept = []
        for question in questions:
            if normalised(question.query) in self.golden.questions:
                tally.drop("golden_question")
            elif question.document in out:
                tally.drop("golden_document")
            else:
                kept.append(question)
        return kept

    def _placed(self, questions: Sequence[Question], tally: Tally) -> list[Question]:
        """With the passages that answer them."""
        self.index.progress.step("find passages", len(questions))
        kept = []
        for question in self.index.placed(questions):
            self.index.progress.advance(1)
            if question is None:
                tally.drop("unknown_document")
            else:
                kept.append(question)
        return kept

    def _without_golden_text(self, questions: Sequence[Question], tally: Tally) -> list[Question]:
        """Without passages, right or wrong, that are text of a golden document under another name."""
        if self.options.golden != "documents" or not self.golden.documents:
            return list(questions)
        with self.index.pool.connection() as connection:
            golden = golden_text(connection, self.index.held, self.golden, self.index.threshold)
        held = self.index.documents
        kept = []
        for question in questions:
            if golden.source(found_passage(question).text, known=question.document in held):
                tally.drop("golden_passage")
                continue
            if question.negatives:
                left = tuple(one for one in question.negatives if one.uri in held or not golden.source(one.text, known=False))
                tally.drop("negative_of_other_side", len(question.negatives) - len(left))
                question = replace(question, negatives=left)
            kept.append(question)
        return kept

    def _unlike(self, questions: Sequence[Question], tally: Tally) -> list[Question]:
        """Without questions that the passage contradicts: of another script, copied out of it; and without pairs told twice."""
        kept: dict[tuple[str, str], Question] = {}
        for question in questions:
            passage = found_passage(question).text
            pair = (normalised(question.query), normalised(passage))
            if reason := filters.problem(question.query, passage):
                tally.drop(reason)
            elif question.is_made and filters.is_copied(question.query, passage):
                tally.drop("copied")
            elif pair in kept:
                tally.drop("duplicate")
            else:
                kept[pair] = question
        return list(kept.values())

    def _found_again(self, questions: Sequence[Question], tally: Tally) -> list[Question]:
        """Without made questions that do not find their document: nobody can tell by them what is asked."""
        made = [question for question in questions if question.is_made]
        self.index.progress.step("round trip", len(made))
        answerable: set[int] = set()
        for question, hits in zip(made, self.index.ask([q.query for q in made], depth=self.options.round_trip), strict=True):
            self.index.progress.advance(1)
            if self.index.groups.of(question.document) in self.index.groups.named(hit.document for hit in hits):
                answerable.add(id(question))
        kept = [question for question in questions if not question.is_made or id(question) in answerable]
        tally.drop("not_found_again", len(questions) - len(kept))
        return kept

    def _sides(self, questions: Sequence[Question]) -> list[Literal["train", "dev"]]:
        keys = [belongs_to(self.index, question) for question in questions]
        options = self.options
        return assign(keys, dev_share=options.dev_share, min_dev=options.min_dev, seed=options.seed)

    def _save(
        self,
        rows: Sequence[tuple[Question, Literal["train", "dev"]]],
        barred: Mapping[str, Barred],
        known: Mapping[str, frozenset[str]],
        tally: Tally,
        run_key: str,
    ) -> Dataset:
        """Mine, then write: what development is told apart by is no negative of training."""
        questions = [question for question, _ in rows]
        negatives = mine(self.index, questions, self.options, known, [barred[side] for _, side in rows], tally)
        with spooled(_pair(q, side, found) for (q, side), found in zip(rows, negatives, strict=True)) as pairs:
            statistics = self._statistics(tally, run_key)
            with self.index.pool.connection() as connection:
                saved = datasets.save(
                    connection, self.index.collection, self.options.name, pairs,
                    arguments=self.options.model_dump(mode="json"), statistics=statistics,
                )  # fmt: skip
        logger.info(
            "dataset %s %d of %s: %s; left out: %s",
            saved.name, saved.version, self.index.name, saved.statistics["rows"], tally.describe(),
        )  # fmt: skip
        return saved

    def _statistics(self, tally: Tally, run_key: str) -> dict[str, Any]:
        return {
            **tally.notes,
            "dropped": dict(sorted(tally.dropped.items())),
            "golden": {"questions": len(self.golden.questions), "documents": len(self.golden.documents)},
            "generation": self.index.held.id,
            "embedder": self.index.held.embedder,
            "threshold": self.index.threshold,
            "run_key": run_key,
        }


def belongs_to(index: LiveIndex, question: Question) -> tuple[str, ...]:
    """By which rows belong together: document with its near-duplicates, question, passage."""
    passage = text_hash(normalised(found_passage(question).text))
    return f"d {index.groups.of(question.document)}", f"q {normalised(question.query)}", f"p {passage}"


def _pair(question: Question, side: Literal["train", "dev"], negatives: Any) -> Pair:
    passage = found_passage(question)
    metadata = {**question.metadata, SCORE: round(passage.score, PLACES)}
    return Pair(
        question.query, question.document, passage.start, passage.end, passage.text, question.label, question.origin,
        question.style, side, metadata, negatives,
    )  # fmt: skip
