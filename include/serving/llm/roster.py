"""Which models are ready: the champions of collections, loaded before they answer, and versions that are asked by number."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import psycopg

from include.answering.champion import model_name, parsed_name, system_fingerprint
from include.collection_file import collection_names
from include.errors import BadData, RagworksError
from include.registry.champions import LOOK_SECONDS, RETRY_SECONDS
from include.registry.llm_models import open_trained
from include.serving.failures import Refusal
from include.serving.llm.engine import Engine
from include.store import collections, deployments

if TYPE_CHECKING:
    from include.config import Settings
    from include.serving.llm.options import LlmOptions
    from include.store.deployments import Deployment
    from include.store.pool import Pool
    from include.training.llm.bases import Base

logger = logging.getLogger(__name__)

SPARE_BASES = 1  # beyond those that champions need: the one before, for a rollback to it


@dataclass(frozen=True, slots=True)
class Ready:
    """A version that can be asked.

    :param adapter: its name in the engine; ``fingerprint`` what replies say of their maker.
    """

    collection: str
    version: int
    deployment: Deployment
    engine: Engine
    adapter: str
    fingerprint: str
    base: str
    artifact: str

    @property
    def name(self) -> str:
        """As replies have it: with the version."""
        return model_name(self.collection, self.version)


class Roster:
    """All that one server has ready; every method may be called from any thread.

    A champion is looked for every 2 seconds; it is loaded while the one before answers, and for as long as it cannot be opened
    that one goes on.
    """

    def __init__(self, settings: Settings, pool: Pool, options: LlmOptions) -> None:
        self._settings, self._pool, self._options = settings, pool, options
        self._lock = threading.Lock()  # of the tables below
        self._loading = threading.Lock()  # of engines: one base is loaded once
        self._champions: dict[str, Ready] = {}
        self._names: tuple[str, ...] = ()
        self._known: dict[int, Ready] = {}  # by deployment: what was opened since, champion or not
        self._engines: dict[str, Engine] = {}  # by base and precision, least lately used first
        self._failed: dict[str, tuple[int, float, str]] = {}  # collection → deployment, when to try again, why
        self.looked = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="champions", daemon=True)

    def start(self) -> None:
        """Begin to look for champions."""
        self._thread.start()

    def close(self) -> None:
        """End the engines."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(LOOK_SECONDS)
        for engine in list(self._engines.values()):
            engine.close()

    def find(self, model: str) -> Ready:
        """What a name stands for now; with a version it is loaded if it ever served. Blocks while it is.

        :raises Refusal: 404 no such model; 503 it cannot be opened.
        """
        parsed = parsed_name(model)
        if parsed is None or (self.looked and parsed[0] not in self._names):
            raise Refusal(404, "model_not_found", "There is no such model. GET /v1/models lists what there is", "model")
        name, version = parsed
        with self._lock:
            champion = self._champions.get(name)
        if version is None or (champion is not None and champion.version == version):
            return champion if champion is not None else self._none(name)
        return self._open(name, self._deployed(name, version))

    def again(self, ready: Ready) -> Ready:
        """The same, opened anew: its adapter or its base made room meanwhile.

        :raises Refusal: 503 it cannot be opened.
        """
        with self._lock:
            self._known.pop(ready.deployment.id, None)
        fresh = self._open(ready.collection, ready.deployment)
        with self._lock:
            if self._champions.get(ready.collection) is ready:
                self._champions[ready.collection] = fresh
        return fresh

    def listed(self) -> list[dict[str, Any]]:
        """The champions, under both names, as /v1/models shows them."""
        with self._lock:
            ready = sorted(self._champions.values(), key=lambda one: one.collection)
        return [
            {"id": name, "object": "model", "created": 0, "owned_by": "ragworks", "version": one.version, "root": one.artifact,
             "parent": one.base, "system_fingerprint": one.fingerprint}
            for one in ready
            for name in (model_name(one.collection), one.name)
        ]  # fmt: skip

    def look(self) -> None:
        """Take up what was promoted or taken back since."""
        self._names = self._options.collections or tuple(collection_names(self._settings))
        for name in self._names:
            with self._pool.connection() as connection:
                live = deployments.serving(connection, self._settings.environment, "llm", name)
            if live is None or live.artifact is None:
                with self._lock:
                    self._champions.pop(name, None)
            elif self._due(name, live):
                self._take(name, live)
        self.looked = True

    def _watch(self) -> None:
        while not self._stop.is_set():
            try:
                self.look()
            except (RagworksError, psycopg.Error) as error:
                logger.warning("champions cannot be looked up, those that are loaded go on: %s", error)
            self._stop.wait(LOOK_SECONDS)

    def _due(self, name: str, live: Deployment) -> bool:
        with self._lock:
            now = self._champions.get(name)
            deployment, again, _ = self._failed.get(name, (0, 0.0, ""))
        if now is not None and now.deployment.id == live.id:
            return False
        return deployment != live.id or time.monotonic() >= again

    def _take(self, name: str, live: Deployment) -> None:
        started = time.monotonic()
        try:
            ready = self._open(name, live)
        except Refusal as refused:
            with self._lock:
                said = self._failed.get(name)
                self._failed[name] = (live.id, time.monotonic() + RETRY_SECONDS, refused.message)
                before = self._champions.get(name)
            if said is None or said[::2] != (live.id, refused.message):
                instead = f"version {before.version} goes on" if before else "nothing answers"
                logger.error("%s: %s; %s. Go back: ragworks rollback-model llm", name, refused.message, instead)
            return
        with self._lock:
            self._champions[name] = ready
            self._failed.pop(name, None)
        logger.info("%s: llm %d serves, loaded in %.1f s", name, ready.version, time.monotonic() - started)

    def _none(self, name: str) -> Ready:
        with self._lock:
            _, _, why = self._failed.get(name, (0, 0.0, ""))
        if why:
            raise Refusal(503, "model_unavailable", why, "model", retry_after=5)
        what = f"No llm of {name} is promoted in {self._settings.environment}" if self.looked else "The models are being loaded"
        status, code = (404, "model_not_found") if self.looked else (503, "starting")
        raise Refusal(status, code, f"{what}. Promote one, or try again", "model", retry_after=None if self.looked else 2)

    def _deployed(self, name: str, version: int) -> Deployment:
        """The newest deployment of a version that served or serves."""
        with self._pool.connection() as connection:
            try:
                history = deployments.history(
                    connection, self._settings.environment, "llm", collections.collection_id(connection, name)
                )
            except BadData:  # it was never indexed
                history = []
        for one in history:
            if one.version == version and one.artifact is not None:
                return one
        raise Refusal(
            404, "model_not_found", f"llm {version} of {name} never served in {self._settings.environment}. Promote it", "model"
        )

    def _open(self, name: str, deployment: Deployment) -> Ready:
        """:raises Refusal: 503 with the reason."""
        with self._lock:
            known = self._known.get(deployment.id)
        if known is not None:
            return known
        try:
            ready = self._opened(name, deployment)
            with self._lock:
                self._known[deployment.id] = ready
            return ready
        except RagworksError as error:
            raise Refusal(503, "model_unavailable", str(error), "model", retry_after=5) from error
        except (OSError, ValueError, RuntimeError, KeyError) as error:  # a library's, for files that are not what they were
            why = f"llm {deployment.version} does not open: {type(error).__name__}: {error}"
            raise Refusal(503, "model_unavailable", why, "model", retry_after=5) from error

    def _opened(self, name: str, deployment: Deployment) -> Ready:
        facts = deployment.settings
        trained = open_trained(
            self._settings, deployment.artifact, str(facts.get("base")), fingerprint=str(facts.get("fingerprint"))
        )
        engine = self._engine(trained.base)
        return Ready(
            name, deployment.version or 0, deployment, engine, engine.load(trained.adapter),
            system_fingerprint(engine.fingerprint, trained.adapter.fingerprint), trained.base.name, deployment.artifact or "",
        )  # fmt: skip

    def _engine(self, base: Base) -> Engine:
        """The one of this base, loaded when there is none; bases that no champion needs make room."""
        with self._loading:
            engine = self._engines.pop(base.fingerprint, None)
            if engine is None:
                self._make_room()
                engine = open_engine(base, self._options)
            self._engines[base.fingerprint] = engine
            return engine

    def _make_room(self) -> None:
        with self._lock:
            needed = {id(one.engine) for one in self._champions.values()}
        idle = [key for key, engine in self._engines.items() if id(engine) not in needed]
        for key in idle[: max(len(idle) - SPARE_BASES, 0)]:
            engine = self._engines.pop(key)
            engine.retire()
            with self._lock:
                self._known = {one: ready for one, ready in self._known.items() if ready.engine is not engine}


def open_engine(base: Base, options: LlmOptions) -> Engine:
    """A base in the precision that the options ask for.

    By bitsandbytes where there is a GPU, else by layers of our own that read the same numbers back.
    """
    import torch

    device = options.device if options.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    reduced = options.precision if options.precision != "full" and not base.stored else ""
    on_gpu = device.startswith("cuda")
    return Engine(
        replace(base, quantisation=reduced) if reduced and on_gpu else base, device=device, pack="" if on_gpu else reduced,
        most=options.batch, adapters=options.adapters, waiting=options.waiting,
    )  # fmt: skip
