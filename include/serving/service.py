"""What the routes share: the pool, the models, the keys, the log; opened once a process, closed in order."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from include.answering.llm import open_llm
from include.collection_file import CHAMPION, Collection, collection_names, load_collection
from include.embedding.embedder import open_recorded, recorded_embedding
from include.errors import BadData, RagworksError
from include.guardrails.questions import admit
from include.registry.champions import named
from include.registry.llm_champion import champion_of
from include.retrieval.current import CurrentCollection
from include.retrieval.rerank import open_reranker
from include.retrieval.searcher import Searcher
from include.serving.access import Keyring
from include.serving.batching import BatchingEmbedder
from include.serving.challengers import Challengers
from include.serving.failures import Refusal
from include.serving.logbook import Logbook
from include.serving.metrics import Metrics
from include.serving.shadow import Shadow
from include.serving.workers import Workers
from include.store import api_keys, collections, deployments, generations
from include.store.pool import database_url, open_pool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.answering.llm import LLM
    from include.config import Settings
    from include.embedding.embedder import Embedder
    from include.retrieval.rerank import Reranker
    from include.serving.options import Options
    from include.store.api_keys import ApiKey
    from include.store.generations import Generation
    from include.store.pool import Connection, Pool

logger = logging.getLogger(__name__)

POOL_SECONDS = 5.0  # until a request learns that the database gives no connection
LOOK_SECONDS = 2.0  # between two looks at which collections there are
SPARE_CONNECTIONS = 4  # query log, keys, housekeeping, shadow


@dataclass(frozen=True, slots=True)
class Served:
    """A collection that can be asked.

    :param settings: its file as it is now.
    """

    id: int
    settings: Collection
    searcher: Searcher


class Service:
    """One server's state; every method may be called from any thread."""

    def __init__(
        self, settings: Settings, options: Options, pool: Pool, llm: LLM | None, embedder: Embedder | None = None
    ) -> None:
        self.settings, self.options, self.pool, self.llm, self._embedder = settings, options, pool, llm, embedder
        self.metrics = Metrics()
        self.keyring = Keyring(self._keys)
        self.logbook = Logbook(pool, self.metrics)
        self.shadow = Shadow(pool, Challengers(settings, pool, embedder), self.logbook, self.metrics)
        self.searches = self._workers("search", options.threads)
        self.answers = self._workers("answer", options.answer_threads)
        self.warm = False
        self.draining = False
        self._lock = Lock()
        self._current: dict[str, tuple[CurrentCollection, Searcher]] = {}
        self._names: tuple[float, list[str]] = (float("-inf"), [])
        self._ids: dict[str, int] = {}
        self._batching: dict[str, BatchingEmbedder] = {}
        self._tried: set[str] = set()  # fingerprints
        self._scrubbing: set[str] = set()  # collections

    def names(self) -> list[str]:
        """Collections that have a file."""
        with self._lock:
            read_at, names = self._names
        if time.monotonic() - read_at > LOOK_SECONDS:
            names = collection_names(self.settings)
            with self._lock:
                self._names = time.monotonic(), names
        return names

    def served(self, name: str, param: str = "collection") -> Served:
        """A collection by name.

        :raises Refusal: 404 no file defines it, or it was never indexed.
        """
        with self._lock:
            known = self._current.get(name)
        if known is None and name in self.names():
            known = CurrentCollection(self.settings, name), self._searcher(name)
        settings = known[0].get() if known else None
        if known is None or settings is None:
            raise Refusal(404, "collection_not_found", "There is no such collection. GET /v1/models lists yours", param)
        with self._lock:
            self._current[name] = known
            found = self._ids.get(name)
        if found is None:
            with self.pool.connection() as connection:
                found = collections.collection_id(connection, name)
            with self._lock:
                self._ids[name] = found
        return Served(found, settings, known[1])

    def live(self, name: str) -> Generation:
        """The generation of a collection that answers.

        :raises BadData: there is none.
        """
        with self.pool.connection() as connection:
            return generations.live_of(connection, name)

    def embedder(self, name: str) -> tuple[Generation, BatchingEmbedder]:
        """The live generation of a collection, and the model of its vectors."""
        live = self.live(name)
        return live, self.batching(self._model(live))

    def batching(self, embedder: Embedder) -> BatchingEmbedder:
        """The embedder for many threads around this one, always the same for the same model."""
        fingerprint = embedder.fingerprint
        with self._lock:
            found = self._batching.get(fingerprint)
            if found is None:
                found = self._batching[fingerprint] = BatchingEmbedder(embedder, note=self.metrics.batches.observe)
            return found

    def reranker(self, name: str, spec: str) -> Reranker | None:
        """The reranker that a collection's file names; None while no champion is promoted."""
        return open_reranker(spec, self.settings, self.pool, name)

    def writer(self, name: str) -> LLM | None:
        """Who writes answers of a collection now: the champion, else the environment's LLM; None: they are extracted."""
        return champion_of(self.settings, self.pool, self.served(name, "model").settings) or self.llm

    def warm_up(self) -> None:
        """Load the models of all generations that answer, or soon may, and champions, so that no request waits for that."""
        self._warm_scrubbers()
        self._warm_champions()
        wanted: dict[str, Generation] = {}
        with self.pool.connection() as connection:
            for name in self.names():
                wanted |= {held.embedder: held for held in _answering(connection, name)}
        for fingerprint in wanted.keys() - self._tried:
            self._tried.add(fingerprint)
            try:
                self.batching(self._model(wanted[fingerprint])).embed_query("warm up")
            except RagworksError as error:
                logger.error("the model of generation %s does not load: %s", wanted[fingerprint].id, error)

    def _warm_champions(self) -> None:
        """Look for new rerankers, also while nobody asks, and load embedders that are about to get an index."""
        for name in self.names():
            try:
                collection = self.served(name).settings
                if collection.retrieval.reranker == CHAMPION:
                    self.reranker(name, CHAMPION)
                if collection.embedding.model == CHAMPION and self._embedder is None:
                    self._warm_promoted(name, collection)
            except (BadData, Refusal):  # it was never indexed, or its file is gone by now
                continue
            except RagworksError as error:
                logger.error("collection %s: %s", name, error)

    def _warm_promoted(self, name: str, collection: Collection) -> None:
        with self.pool.connection() as connection:
            waiting = deployments.serving(connection, self.settings.environment, "embedder", name, state="pending")
        if waiting is None or waiting.artifact is None or str(waiting.settings.get("embedder")) in self._tried:
            return
        fingerprint = str(waiting.settings.get("embedder"))
        self._tried.add(fingerprint)
        embedder = open_recorded(fingerprint, named(collection.embedding, waiting.artifact), self.settings)
        self.batching(embedder).embed_query("warm up")

    def _warm_scrubbers(self) -> None:
        """Load what finds personal data, where questions are scrubbed: seconds, once."""
        for name in set(self.names()) - self._scrubbing:
            self._scrubbing.add(name)
            try:
                admit("warm up: jane@example.com", load_collection(self.settings, name).guardrails)
            except RagworksError as error:
                logger.error("collection %s: %s", name, error)

    def _model(self, held: Generation) -> Embedder:
        return self._embedder or open_recorded(held.embedder, recorded_embedding(held.spec), self.settings)

    def _searcher(self, name: str) -> Searcher:
        return Searcher(self.settings, self.pool, name, embedder=self._embedder, wrap=self.batching)

    def _workers(self, name: str, threads: int) -> Workers:
        return Workers(name, threads, self.options.waiting, self.metrics.calls.labels(name).inc)

    def _keys(self) -> list[ApiKey]:
        with self.pool.connection() as connection:
            return api_keys.keys(connection)


@contextmanager
def open_service(settings: Settings, options: Options, *, embedder: Embedder | None = None) -> Iterator[Service]:
    """Everything that a server needs; what was logged is written before it ends.

    :param embedder: instead of the models that made the generations' vectors.
    :raises BadConfiguration: it would be open to a network, or nobody could log in.
    """
    with open_pool(settings, max_size=1) as pool, pool.connection() as connection:  # migrates, without a time limit
        options.check(sum(key.state == "active" for key in api_keys.keys(connection)))
    limited = _with_time_limit(database_url(settings), options.timeout)
    with ExitStack() as stack:
        size = options.threads + SPARE_CONNECTIONS
        pool = stack.enter_context(open_pool(settings.model_copy(update={"database_url": limited}), max_size=size))
        pool.timeout = POOL_SECONDS
        service = Service(settings, options, pool, open_llm(settings), embedder)
        stack.callback(service.logbook.close)
        stack.callback(service.shadow.close)
        stack.callback(service.answers.close)
        stack.callback(service.searches.close)
        yield service


def _answering(connection: Connection, name: str) -> list[Generation]:
    """Generations that answer, or will when they are built; none of a collection that was never indexed."""
    with suppress(BadData):
        held = generations.generations(connection, collections.collection_id(connection, name))
        return [generation for generation in held if generation.state in ("live", "building")]
    return []


def _with_time_limit(url: str, seconds: float) -> str:
    """The URL, with the server told to end statements that nobody waits for any more."""
    theirs = conninfo_to_dict(url).get("options") or ""
    return make_conninfo(url, options=f"{theirs} -c statement_timeout={int(seconds * 1000)}".strip())
