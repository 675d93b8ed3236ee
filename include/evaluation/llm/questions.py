"""What champion and challenger are both asked: held-out conversations of the dataset, and the collection's golden queries.

A golden query is answered as `ask` answers it: the passages that search finds now, the collection's prompt, its limits. The
passages are found once, so that both models read the same ones.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from include.answering.answer import answer
from include.answering.prompts import load_prompt
from include.evaluation.cases import golden_cases
from include.evaluation.contenders import Contender, serving_reranker
from include.evaluation.llm.scores import UNANSWERABLE, Wanted, score_answer, score_text, wanted_of
from include.registry.champions import as_found
from include.store.conversations import conversations

if TYPE_CHECKING:
    from include.answering.llm import LLM
    from include.answering.prompts import Prompt
    from include.collection_file import Collection
    from include.evaluation.contenders import Trial
    from include.retrieval.query import Found
    from include.store.conversations import Conversation
    from include.store.golden import GoldenQuery
    from include.store.search import Hit

GOLDEN = "golden"
MAX_CONVERSATIONS = MAX_GOLDEN = 300  # of more, always the same ones: each is written twice by a model


@dataclass(frozen=True, slots=True)
class Reply:
    """What one question gave.

    :param asked: False: the passages held nothing, and no model was asked.
    """

    text: str
    score: float
    milliseconds: float
    asked: bool = True


@dataclass(frozen=True, slots=True)
class Question:
    """One question.

    :param task: the conversation's, or golden and golden unanswerable: a slice of the gate.
    :param right: for a judge; None: not known.
    :param documents: by which ``forget`` finds it.
    """

    task: str
    text: str
    right: str | None
    documents: tuple[str, ...]
    prompt: Prompt
    collection: Collection
    row: Conversation | None = None
    wanted: Wanted | None = None
    query: GoldenQuery | None = None
    hits: tuple[Hit, ...] = ()

    def ask(self, llm: LLM) -> Reply:
        """Have a model answer it."""
        started = time.monotonic()
        if self.query is not None:
            given = answer(self.text, self.hits, self.collection, llm)
            took = (time.monotonic() - started) * 1000
            return Reply(given.text, score_answer(given, self.query, self.prompt), took, given.passport["llm"] is not None)
        if self.row is None or self.wanted is None:
            raise ValueError("neither a conversation nor a golden query")
        text = llm.complete(self.row.prompt, self.collection.answers.max_tokens, 0.0).text.strip()
        return Reply(text, score_text(text, self.wanted, self.prompt), (time.monotonic() - started) * 1000)


def held_out(trial: Trial, split: str, limit: int = MAX_CONVERSATIONS) -> list[Conversation]:
    """The first conversations of a split."""
    if trial.run.dataset_id is None:
        return []
    with trial.pool.connection() as connection:
        return list(islice(conversations(connection, trial.run.dataset_id, split), limit))


def questions_of(rows: list[Conversation], collection: Collection) -> list[Question]:
    """Conversations as questions."""
    prompt = load_prompt(collection.answers.prompt)
    return [_conversation(row, prompt, collection) for row in rows]


def golden_questions(trial: Trial, limit: int = MAX_GOLDEN) -> tuple[list[Question], int]:
    """Golden queries with what search finds for each, and how many could not be asked."""
    with trial.pool.connection() as connection:
        cases = golden_cases(connection, trial.run.collection_id, trial.live.id)
    queries = [*cases.queries[:limit], *cases.unanswerable[: limit // 4]]
    reranker = serving_reranker(trial.settings, trial.pool, trial.collection)
    side = Contender("search", "search", trial.live, reranker=reranker).side(trial)
    prompt, found = load_prompt(trial.collection.answers.prompt), []
    trial.progress.step("search", len(queries))
    for query in queries:
        found.append(_golden(query, side.find(query.query, trial.collection.answers.passages), prompt, trial))
        trial.progress.advance(1)
    return found, cases.left_out


def _conversation(row: Conversation, prompt: Prompt, collection: Collection) -> Question:
    wanted = wanted_of(row, prompt)
    return Question(row.task, row.question, wanted.right, row.named, prompt, collection, row=row, wanted=wanted)


def _golden(query: GoldenQuery, found: Found, prompt: Prompt, trial: Trial) -> Question:
    hits, passport = found.hits, found.passport
    right = query.answer if query.answerable else prompt.abstention
    task = GOLDEN if query.answerable else f"{GOLDEN} {UNANSWERABLE}"
    documents = tuple(dict.fromkeys([*(span.document for span in query.spans), *(hit.document for hit in hits)]))
    served = as_found(trial.collection, passport)
    return Question(task, query.query, right, documents, prompt, served, query=query, hits=tuple(hits))
