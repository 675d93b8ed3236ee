"""How queries are answered in an evaluation: the collection's settings, or those with something else in their place."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

from pydantic import ValidationError

from include.collection_file import Mode, Retrieval
from include.errors import BadConfiguration, BadData
from include.evaluation.asking import Side
from include.retrieval.candidates import candidates, prepare
from include.retrieval.current import CurrentCollection
from include.retrieval.query import ALL_PRINCIPALS
from include.retrieval.searcher import Searcher
from include.store import generations
from include.store.pool import snapshot
from include.store.scope import open_scope
from include.store.search import read

if TYPE_CHECKING:
    from collections.abc import Sequence

    from include.collection_file import Collection
    from include.config import Settings
    from include.embedding.embedder import Embedder
    from include.retrieval.rerank import Reranker
    from include.store.generations import Generation
    from include.store.pool import Pool
    from include.store.search import Hit

SETTINGS = tuple(key for key in Retrieval.model_fields if key != "mode")
SURE = 30  # chunks that fill ten places
KEYS = ("mode", "rerank", "generation", *SETTINGS)


@dataclass(frozen=True, slots=True)
class Configuration:
    """One way of answering.

    :param rerank: True demands the second stage, False leaves it out, None: as ``retrieval`` says.
    :param generation: its id.
    """

    generation: int
    mode: Mode
    rerank: bool | None
    retrieval: Retrieval

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(replace(self, retrieval=None)), "retrieval": self.retrieval.model_dump(exclude={"mode"})}  # type: ignore[arg-type]


def override(base: Configuration, settings: Sequence[str]) -> Configuration:
    """The configuration with ``key=value`` settings in place of its own.

    :raises BadConfiguration: a key is unknown, or a value impossible.
    """
    mode, rerank, generation, others = base.mode, base.rerank, base.generation, base.retrieval.model_dump(exclude={"mode"})
    for setting in settings:
        key, sign, value = setting.partition("=")
        if not sign or key not in KEYS:
            raise BadConfiguration(f"--against {setting}", "not a setting", f"Write KEY=VALUE with one of {', '.join(KEYS)}")
        if key == "mode":
            mode = _mode(value)
        elif key == "rerank":
            rerank = _flag(value)
        elif key == "generation":
            generation = _number(value)
        else:
            others[key] = _plain(value)
    try:
        return Configuration(generation, mode, rerank, Retrieval.model_validate({"mode": mode, **others}, strict=False))
    except ValidationError as error:
        first = error.errors()[0]
        raise BadConfiguration(
            f"--against {'.'.join(map(str, first['loc']))}={first['input']}", str(first["msg"]), "See docs/collections.md"
        ) from None


def describe(settings: Sequence[str]) -> str:
    """The settings in a few words."""
    return ", ".join(settings) or "the same again"


class _Fixed(CurrentCollection):
    """Settings that stay what they are while the questions are asked."""

    def __init__(self, settings: Settings, name: str, collection: Collection | None) -> None:
        super().__init__(settings, name)
        self._collection = collection

    def get(self) -> Collection | None:
        return self._collection


class FixedSearcher(Searcher):
    """Answers from one generation by fixed settings, whatever goes live meanwhile."""

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        name: str,
        collection: Collection | None,
        held: Generation,
        embedder: Embedder | None,
        reranker: Reranker | None = None,
    ) -> None:
        super().__init__(settings, pool, name, embedder=embedder, reranker=reranker)
        self._current = _Fixed(settings, name, collection)
        self._held = held

    def _live(self) -> Generation:
        return self._held

    def candidates(self, text: str) -> list[Hit]:
        """Every candidate of a hybrid search, with the scores of both legs, before anything is cut off."""
        collection = self._current.get()
        retrieval = collection.retrieval if collection else Retrieval()
        embed = partial(self._embed, self._held)
        asked = prepare(text, self._held, retrieval, embed, mode="hybrid")
        if asked.mode != "hybrid":
            raise BadData(f"{self._name} cannot be fitted", "its index has no words", f"Run: ragworks index {self._name}")
        with self._pool.connection() as connection, snapshot(connection):
            scope = open_scope(connection, self._held, {}, ALL_PRINCIPALS)
            ranked = candidates(connection, self._held, asked, scope, depth=retrieval.candidates, sure=SURE)
            return read(connection, self._held, ranked, scope)


def open_side(
    settings: Settings,
    pool: Pool,
    name: str,
    configuration: Configuration,
    collection: int,
    *,
    embedder: Embedder | None = None,
) -> Side:
    """What answers by a configuration; parameters and errors as :func:`open_searcher`."""
    finder = open_searcher(settings, pool, name, configuration, collection, embedder=embedder)
    return Side(finder, configuration.mode, configuration.rerank)


def open_searcher(
    settings: Settings,
    pool: Pool,
    name: str,
    configuration: Configuration,
    collection: int,
    *,
    embedder: Embedder | None = None,
) -> FixedSearcher:
    """A searcher that stays with one generation and one set of settings.

    :param collection: id of the collection called ``name``.
    :param embedder: instead of the one that made the generation's vectors.
    :raises BadConfiguration: the generation is none of the collection that could answer.
    """
    with pool.connection() as connection:
        built = [g for g in generations.generations(connection, collection) if _can_answer(g)]
    held = next((g for g in built if g.id == configuration.generation), None)
    if held is None:
        known = ", ".join(f"{g.id} ({g.state})" for g in built)
        raise BadConfiguration(
            f"generation {configuration.generation}", f"{name} can answer from {known or 'none'}", "Name one of these"
        )
    now = CurrentCollection(settings, name).get()
    if now is None and configuration.retrieval != Retrieval():
        raise BadConfiguration(f"collection {name!r}", "its file is gone, so nothing can be set", "Restore the collection file")
    fixed = now.model_copy(update={"retrieval": configuration.retrieval}) if now else None
    return FixedSearcher(settings, pool, name, collection=fixed, held=held, embedder=embedder)


def _can_answer(built: Generation) -> bool:
    """A candidate is there to be asked here, once it is complete."""
    return built.state in ("live", "retired", "ready") or bool(built.state == "candidate" and built.metrics.get("complete"))


def _mode(value: str) -> Mode:
    for mode in get_args(Mode):
        if value == mode:
            return mode  # type: ignore[no-any-return]
    raise BadConfiguration(f"--against mode={value}", "there is no such mode", f"Use one of {', '.join(get_args(Mode))}")


def _flag(value: str) -> bool:
    if value not in ("true", "false"):
        raise BadConfiguration(f"--against rerank={value}", "it is neither true nor false", "Use rerank=true or rerank=false")
    return value == "true"


def _number(value: str) -> int:
    if not value.isdecimal():
        raise BadConfiguration(f"--against generation={value}", "not a generation's id", "See: ragworks generations NAME")
    return int(value)


def _plain(value: str) -> str | None:
    return None if value in ("null", "none", "") else value
