"""Which questions a model was trained on, itself or by the adapters that it is made of: they judge nothing.

The sides of a dataset are kept apart when it is made and checked. An adapter that a training goes on from, or is merged with,
learned from other datasets, whose sides are others; and golden queries come after a check. So it is looked at again here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.datasets.conversations.contamination import LONG_ANSWER, HeldOut
from include.datasets.conversations.held_out import asked
from include.datasets.conversations.options import LlmDataOptions
from include.datasets.filters import normalised
from include.registry.llm_lineage import learned_datasets
from include.store import datasets
from include.store.conversations import conversations

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from include.evaluation.contenders import Trial
    from include.store.conversations import Conversation

THRESHOLD = float(LlmDataOptions.model_fields["near_duplicate"].default)  # where a dataset does not say its own


def learned_of(trial: Trial, texts: Sequence[tuple[str, str | None]]) -> frozenset[int]:
    """Places of the questions that the training's model was trained on.

    :param texts: question and right answer, None: it has none that counts.
    """
    return met(texts, _rows(trial), threshold=_threshold(trial))


def met(
    texts: Sequence[tuple[str, str | None]], rows: Iterable[Conversation], *, threshold: float = THRESHOLD
) -> frozenset[int]:
    """Places of the questions that a conversation asks, holds or nearly asks, or whose long answer it gives. Pure.

    :param threshold: share of word triples in common from which two questions are the same.
    """
    held = HeldOut([(question, question) for question, _ in texts], threshold)
    long = {plain for _, right in texts if right and len((plain := normalised(right)).split()) >= LONG_ANSWER}
    questions: set[str] = set()
    answers: set[str] = set()
    for row in rows:
        questions |= {normalised(match.key) for match in held.matches(row.question, asked(row))}
        if row.task != "unanswerable":
            answers |= {normalised(row.answer)} & long
    return frozenset(
        place
        for place, (question, right) in enumerate(texts)
        if normalised(question) in questions or (right is not None and normalised(right) in answers)
    )


def _threshold(trial: Trial) -> float:
    """As the training's dataset was divided and checked by."""
    if trial.run.dataset_id is None:
        return THRESHOLD
    with trial.pool.connection() as connection:
        return float(datasets.dataset(connection, trial.run.dataset_id).arguments.get("near_duplicate") or THRESHOLD)


def _rows(trial: Trial) -> Iterator[Conversation]:
    """All that was trained on, and what picked among checkpoints and merges."""
    with trial.pool.connection() as connection:
        for dataset in learned_datasets(connection, trial.settings.environment, trial.run):
            for split in ("train", "dev"):
                yield from conversations(connection, dataset, split)
