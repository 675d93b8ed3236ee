"""A question from end to end: admitted, searched, answered, and kept with all that answered it."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from include.answering.answer import Answer, answer
from include.answering.confidence import FITS
from include.embedding.embedder import open_recorded
from include.guardrails.questions import admit
from include.registry.champions import as_found
from include.store import answers, collections, query_log

if TYPE_CHECKING:
    from uuid import UUID

    from include.answering.llm import LLM
    from include.collection_file import Collection
    from include.config import Settings
    from include.embedding.embedder import Embedder
    from include.retrieval.query import Found, Query
    from include.retrieval.searcher import Searcher
    from include.store.pool import Pool


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of a question.

    :param found: the search below the answer.
    :param seconds: embed, search, rerank, answer, total.
    """

    answer: Answer
    found: Found
    seconds: dict[str, float]


def ask(
    searcher: Searcher,
    settings: Settings,
    collection: Collection,
    query: Query,
    llm: LLM | None,
    *,
    embedder: Embedder | None = None,
) -> Asked:
    """Search for a question and answer it; nothing is kept yet.

    :param embedder: to judge sentences with; None: the one that found the passages, where confidence is fitted to it.
    :raises BadConfiguration: the question is empty or too long.
    """
    started = time.monotonic()
    question, flags = admit(query.text, collection.guardrails)
    found = searcher.find(replace(query, text=question))
    searched = time.monotonic()
    collection = as_found(collection, found.passport)
    judge = embedder or open_judge(found.passport, collection, settings)
    made = answer(question, found.hits, collection, llm, embedder=judge)
    ended = time.monotonic()
    seconds = {**found.seconds, "answer": ended - searched, "total": ended - started}
    return Asked(replace(made, flags=(*flags, *made.flags)), found, {k: round(v, 4) for k, v in seconds.items()})


def open_judge(passport: dict[str, object], collection: Collection, settings: Settings) -> Embedder | None:
    """The model that found the passages, to compare sentences with; None where confidence is not fitted to it."""
    used = passport.get("embedder")
    if not isinstance(used, dict) or used["model"] not in FITS or used["model"] != collection.embedding.model:
        return None
    return open_recorded(str(used["fingerprint"]), collection.embedding, settings)


def keep(pool: Pool, collection: Collection, asked: Asked) -> UUID:
    """Log the question and store the answer, in one transaction; without texts where the collection keeps none."""
    texts = collection.query_log.keep_texts_days > 0
    made, found = asked.answer, asked.found
    status = "abstained" if made.abstained and found.hits else "ok" if found.hits else "empty"
    with pool.connection() as connection, connection.transaction():
        query_id = query_log.save_query(
            connection,
            collection_id=collections.collection_id(connection, collection.name),
            generation_id=found.passport["generation"],
            kind="chat",
            query=made.question if texts else None,
            embedding=found.vector if texts else None,
            passport=found.passport,
            results=[
                {"document": h.document, "ordinal": h.ordinal, "start": h.start, "end": h.end, "score": h.score}
                for h in found.hits
            ],
            status=status,
            seconds=asked.seconds,
        )
        answers.save_answer(connection, query_id, made)
    return query_id
