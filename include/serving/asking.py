"""One question from a caller to a collection: checked, answered from the index, and written to the log."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID, uuid4

import psycopg

from include.serving.failures import bad_request, refusal
from include.serving.logbook import Entry
from include.serving.replies import as_logged
from include.serving.shadow import Sampled, is_sampled
from include.store.query_log import LoggedQuery

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from include.answering.answer import Answer
    from include.collection_file import Collection
    from include.retrieval.query import Found, Query
    from include.serving.access import Caller
    from include.serving.service import Served, Service

logger = logging.getLogger(__name__)

T = TypeVar("T")
TRIES = 4  # of a query that meets the removal of the generation it reads: Postgres ends one of the two as a deadlock


@dataclass(slots=True)
class Question:
    """A question on its way, and what it is logged as.

    :param id: by which its answer is found, and feedback given.
    """

    service: Service
    caller: Caller
    kind: str
    collection: str
    text: str
    id: UUID = field(default_factory=uuid4)
    started: float = field(default_factory=time.monotonic)
    served: Served | None = None
    found: Found | None = None
    query: Query | None = None

    def find(self, query: Query) -> Found:
        """What the index holds; in a worker's thread.

        :raises Refusal: the question is too long, or wants a reranker where there is none.
        """
        self.served = served = self.service.served(self.collection, "model" if self.kind == "chat" else "collection")
        check_length(query.text, served.settings)
        self.query = query
        if query.rerank and not self._has_reranker(served.settings):
            raise bad_request(f"{self.collection} has no reranker. Leave out rerank, or set it to false", "rerank")
        for _ in range(TRIES - 1):
            try:
                self.found = served.searcher.find(query)
                return self.found
            except (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure) as error:
                logger.info("%s is asked again, Postgres undid the query: %s", self.collection, type(error).__name__)
        self.found = served.searcher.find(query)
        return self.found

    async def in_time(self, call: Callable[[], T]) -> T:
        """The result of a call that finds, in a worker's thread; what fails through no fault of the caller's is logged."""
        try:
            return await self.service.searches.run(call, self.service.options.timeout)
        except Exception as error:
            known = refusal(error)
            if known is None or known.status >= 500:
                self.log("failed")
            raise

    @property
    def passport(self) -> dict[str, Any]:
        """Of what was found, with the id."""
        return {**(self.found.passport if self.found else {"collection": self.collection}), "id": str(self.id)}

    @property
    def seconds(self) -> dict[str, float]:
        """By step, and until now."""
        steps = dict(self.found.seconds) if self.found else {}
        return {name: round(value, 4) for name, value in {**steps, "total": time.monotonic() - self.started}.items()}

    def log(
        self,
        status: str,
        *,
        results: Sequence[Mapping[str, Any]] | None = None,
        passport: Mapping[str, Any] | None = None,
        answer: Answer | None = None,
        seconds: Mapping[str, float] | None = None,
    ) -> None:
        """Hand it to the query log; does not wait."""
        if self.served is None:
            return
        found = self.found
        if results is None:
            results = [as_logged(hit) for hit in found.hits] if found else []
        self.service.metrics.answers.labels(self.collection, self.kind, status).inc()
        logged = LoggedQuery(
            collection_id=self.served.id, kind=self.kind, generation_id=found.passport.get("generation") if found else None,
            query=self.text, embedding=found.vector if found else None, passport=passport or self.passport, results=results,
            status=status, seconds={**self.seconds, **(seconds or {})}, api_key_id=self.caller.key_id, id=self.id,
        )  # fmt: skip
        self.service.logbook.add(Entry(logged, self.served.settings, answer))
        if status != "failed":
            self._sample(self.served)

    def _sample(self, served: Served) -> None:
        """Hand it to the challenger too, when it is one of the sample; does not wait."""
        if self.found is None or self.query is None or not is_sampled(self.id, served.settings.monitoring.shadow):
            return
        self.service.shadow.offer(Sampled(self.id, served.id, served.settings, self.query, self.found))

    def _has_reranker(self, settings: Collection) -> bool:
        spec = settings.retrieval.reranker
        return spec is not None and self.service.reranker(self.collection, spec) is not None


def check_length(text: str, settings: Collection) -> None:
    """Refuse a question that is longer than the collection allows.

    :raises Refusal: 400.
    """
    most = settings.guardrails.max_query_characters
    if len(text) > most:
        raise bad_request(f"The question has {len(text)} characters, at most {most} are allowed. Shorten it", "query")
