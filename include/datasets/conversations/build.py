"""Makes a dataset of conversations: of the collection's passages, of reviewed feedback, of a file; split, and kept apart.

Every step counts what it leaves out and why. Questions about the collection go the way of pairs
(:mod:`include.datasets.build`): the same sources, filters and proofs.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from include.answering.llm import open_llm
from include.answering.prompts import load_prompt
from include.collection_file import load_collection
from include.datasets.conversations.drafts import Draft, Format
from include.datasets.conversations.gathering import Gathering
from include.datasets.conversations.grounded import Writing, grounded_drafts
from include.datasets.conversations.held_out import golden_texts
from include.datasets.conversations.sides import near_keys, sides_of
from include.datasets.kept_out import Barred
from include.datasets.live_index import open_live_index
from include.datasets.mining import mine
from include.datasets.options import DatasetOptions
from include.datasets.questions import Question, Tally, drawn
from include.datasets.spool import spooled
from include.errors import BadData
from include.store import datasets
from include.store.conversations import Conversation, save_conversations

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from include.collection_file import Collection
    from include.config import Settings
    from include.datasets.conversations.gathering import Gathered, Item
    from include.datasets.conversations.options import LlmDataOptions
    from include.datasets.live_index import LiveIndex
    from include.embedding.embedder import Embedder
    from include.progress import Progress
    from include.store.datasets import Dataset, Split
    from include.store.pool import Pool

logger = logging.getLogger(__name__)


def build_conversations(
    settings: Settings,
    pool: Pool,
    collection: str,
    options: LlmDataOptions,
    *,
    run_key: str = "",
    progress: Progress,
    embedder: Embedder | None = None,
) -> Dataset:
    """Make a dataset of conversations or preferences, or find the version that has the same rows.

    :param collection: its name.
    :param run_key: of the run that asks; a retry gets what the first attempt saved.
    :param embedder: instead of the one that made the live index.
    :raises BadData: a file is wrong, with each malformed line; the collection has no live index; nothing is left.
    :raises BadConfiguration: sources that cannot be, an LLM that refuses.
    :raises Transient: the LLM fails, or the generation was dropped meanwhile: run again.
    """
    with open_live_index(settings, pool, collection, progress=progress, embedder=embedder) as index:
        with pool.connection() as connection:
            made = datasets.of_run(connection, index.collection, options.name, run_key) if run_key else None
            if made is not None:
                return made
            golden = golden_texts(
                connection, index.collection, threshold=options.near_duplicate, documents=options.golden == "documents"
            )
        config, tally = load_collection(settings, collection), Tally()
        gathered = Gathering(settings, index, config, options, golden, tally).gather()
        return _Making(settings, index, config, options, golden.documents, gathered, tally).run(run_key)


@dataclass(frozen=True, slots=True)
class _Placed:
    """An item with its side, and the documents that must not be seen there."""

    item: Item
    side: Split
    out: Barred


@dataclass(frozen=True, slots=True)
class _Making:
    """One dataset in the making."""

    settings: Settings
    index: LiveIndex
    config: Collection
    options: LlmDataOptions
    judges: frozenset[str]
    gathered: Gathered
    tally: Tally

    def run(self, run_key: str) -> Dataset:
        items = sorted(self.gathered.items, key=lambda item: drawn(self.options.seed, item.question, sorted(item.documents)))
        self.tally.drop("over_max_rows", len(items) - self.options.max_rows)
        placed = self._placed(items[: self.options.max_rows])
        self._enough(len(placed))
        with spooled(self._rows(placed)) as rows:
            statistics = self._statistics(run_key)
            first = next(rows, None)
            self._enough(int(first is not None))
            with self.index.pool.connection() as connection:
                saved = save_conversations(
                    connection, self.index.collection, self.options.name, _with(first, rows), kind=self.options.kind,
                    arguments=self.options.model_dump(mode="json"), statistics=statistics,
                )  # fmt: skip
        logger.info(
            "dataset %s %d of %s: %s; left out: %s",
            saved.name, saved.version, self.index.name, saved.statistics["rows"], self.tally.describe(),
        )  # fmt: skip
        return saved

    def _enough(self, count: int) -> None:
        if not count:
            raise BadData(
                f"no {self.options.kind} for dataset {self.options.name!r} of {self.index.name} are left",
                self.tally.describe(), "Give other sources, or loosen what leaves out the most: see docs/datasets.md",
            )  # fmt: skip

    def _placed(self, items: Sequence[Item]) -> list[_Placed]:
        """With sides; without near-duplicates that no cluster joined, on two of them."""
        if not items:
            return []
        near = near_keys([(item.question, item.asked) for item in items], self.options.near_duplicate)
        keys = [(*item.keys, *alike) for item, alike in zip(items, near, strict=True)]
        sides = sides_of(keys, [item.given for item in items], self.options)
        of_side: dict[Split, set[str]] = {"train": set(), "dev": set(), "test": set()}
        for item, side in zip(items, sides, strict=True):
            of_side[side] |= item.documents
        later = of_side["dev"] | of_side["test"]
        out: dict[Split, Barred] = {
            "train": Barred(self.index, self.judges | later),
            "dev": Barred(self.index, self.judges | of_side["test"]),
            "test": Barred(self.index, self.judges),
        }
        apart: dict[Split, frozenset[str]] = {side: out[side].among(of_side[side]) for side in out}
        kept = [
            _Placed(item, side, out[side])
            for item, side in zip(items, sides, strict=True)
            if item.given is not None or not apart[side] & item.documents
        ]
        self.tally.drop("near_duplicate_on_other_side", len(items) - len(kept))
        return kept

    def _rows(self, placed: Sequence[_Placed]) -> Iterator[Conversation]:
        """Every conversation as it is learned; questions get their passages and answers here."""
        prompt = load_prompt(self.config.answers.prompt)
        self.tally.notes["prompt"] = {"name": prompt.name, "version": prompt.version}
        form = Format(prompt, self.config.guardrails.injection == "ignore", self.options.seed)
        answered = self._answered(placed, form)
        for one in placed:
            source = one.item.source
            if isinstance(source, Conversation):
                yield replace(source, split=one.side)
            elif isinstance(source, Draft):
                yield form.conversation(source, one.side, one.out.among(p.document for p in source.passages))
            else:
                draft = next(answered)
                if draft is not None:
                    yield form.conversation(draft, one.side)

    def _answered(self, placed: Sequence[_Placed], form: Format) -> Iterator[Draft | None]:
        """A draft for each question of the index, in order."""
        asked = [(one.item.source, one.out) for one in placed if isinstance(one.item.source, Question)]
        if not asked:
            return
        questions = [question for question, _ in asked]
        llm = open_llm(self.settings)
        self.tally.notes["answers"] = llm.model if llm else "extractive"
        writing = Writing(
            form, self.options, llm, self.config.lexical.language, self.index.embedder, self.config.answers.max_tokens,
            self.gathered.corrections,
        )  # fmt: skip
        pairs = DatasetOptions(negatives=self.options.passages, seed=self.options.seed)
        negatives = mine(self.index, questions, pairs, self.gathered.known, [out for _, out in asked], self.tally)
        yield from grounded_drafts(questions, negatives, writing, self.tally, self.index.progress)

    def _statistics(self, run_key: str) -> dict[str, Any]:
        return {
            **self.tally.notes,
            "dropped": dict(sorted(self.tally.dropped.items())),
            "generation": self.index.held.id,
            "embedder": self.index.held.embedder,
            "threshold": self.index.threshold,
            "run_key": run_key,
        }


def _with(first: Conversation | None, rest: Iterator[Conversation]) -> Iterator[Conversation]:
    if first is not None:
        yield first
    yield from rest
