"""Which sources a dataset has, and all their questions."""

from __future__ import annotations

import logging
import math
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING

from include.answering.llm import open_llm
from include.datasets.headings import ask_headings
from include.datasets.judged import from_feedback, from_file, from_qrels
from include.datasets.synthetic import ask_llm
from include.errors import BadConfiguration
from include.store.answering_passages import some_passages

if TYPE_CHECKING:
    from collections.abc import Generator

    from include.config import Settings
    from include.datasets.kept_out import Barred
    from include.datasets.live_index import LiveIndex
    from include.datasets.options import DatasetOptions, Source
    from include.datasets.questions import Question, Tally
    from include.store.answering_passages import Passage

logger = logging.getLogger(__name__)

MIN_CHARACTERS = 120  # of a passage that something can be asked of
SPARE = 2.0  # times as many passages are looked at for headings: many have none, and no sentence to spare


def sources_of(settings: Settings, options: DatasetOptions) -> tuple[Source, ...]:
    """The sources that are named, or those that there are."""
    if options.sources:
        return options.sources
    judged: list[Source] = []
    if options.qrels:
        judged.append("qrels")
    if options.file:
        judged.append("file")
    made: Source = "llm" if settings.llm_base_url else "headings"
    return (*(judged or [made]), "feedback")


def gather(settings: Settings, index: LiveIndex, options: DatasetOptions, barred: Barred, tally: Tally) -> list[Question]:
    """The questions of every source, in the order of the sources.

    :raises BadConfiguration: the source llm, and none is set.
    """
    sources = sources_of(settings, options)
    tally.notes["sources"] = list(sources)
    logger.info("dataset %s of %s: questions from %s", options.name, index.name, ", ".join(sources))
    questions: list[Question] = []
    for source in sources:
        questions += _of_source(source, settings, index, options, barred, tally)
    return questions


def _of_source(
    source: Source, settings: Settings, index: LiveIndex, options: DatasetOptions, barred: Barred, tally: Tally
) -> Generator[Question]:
    if source == "qrels":
        index.progress.step("read judgements", None)
        yield from from_qrels(options.queries or "", options.qrels or "", index.documents, tally)
    elif source == "file":
        index.progress.step("read pairs", None)
        yield from from_file(options.file or "", index.documents, tally)
    elif source == "feedback":
        with index.pool.connection() as connection:
            yield from from_feedback(connection, index.collection, tally)
    elif source == "llm":
        yield from _by_llm(settings, index, options, barred, tally)
    else:
        wanted = math.ceil(SPARE * options.made_rows)
        index.progress.step("questions of headings", None)
        with closing(_passages(index, options, barred, wanted)) as found:
            yield from islice(ask_headings(found, options.seed), options.made_rows)


def _by_llm(settings: Settings, index: LiveIndex, options: DatasetOptions, barred: Barred, tally: Tally) -> Generator[Question]:
    llm = open_llm(settings)
    if llm is None:
        raise BadConfiguration(
            "source llm", "RAGWORKS_LLM_BASE_URL is not set", "Set it and RAGWORKS_LLM_MODEL, or take the source headings"
        )
    wanted = math.ceil(options.made_rows / len(options.styles))
    index.progress.step("questions of the LLM", wanted)
    with closing(_passages(index, options, barred, wanted)) as found:
        yield from ask_llm(llm, found, options, tally, index.progress)


def _passages(index: LiveIndex, options: DatasetOptions, barred: Barred, wanted: int) -> Generator[Passage]:
    """Passages to ask of; nothing is asked of documents that are kept out."""
    with index.pool.connection() as connection:
        yield from some_passages(
            connection,
            index.held,
            limit=wanted,
            seed=options.seed,
            without=sorted(barred.clustered),
            min_characters=MIN_CHARACTERS,
        )
