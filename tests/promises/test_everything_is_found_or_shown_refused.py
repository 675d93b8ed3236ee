"""Promises 1 and 4: whatever happens, a document of the source is in the index, as a rebuild has it, or shown in quarantine."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Any

import pytest

from include.errors import BadData
from include.indexing.activate import rollback
from include.store import collections, quarantine
from include.store.pool import open_pool
from tests.indexing.test_retries import Refuses
from tests.support import export, index, query

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from include.config import Settings

SETTINGS = (
    {"chunking": {"max_tokens": 60}, "index": {"m": 16}},
    {"chunking": {"max_tokens": 40}, "index": {"m": 16}},
    {"chunking": {"max_tokens": 60}, "index": {"m": 8}},
)
LIMITS = {"validation": {"max_rejected": 1.0, "max_deleted": 0.95}, "generations": {"keep": 2}}
RUN_SHARE = 0.7  # of the steps: the others heap up


class _Source:
    """A folder of documents at which random things happen."""

    def __init__(self, documents: Path, rng: random.Random) -> None:
        self._documents, self._rng = documents, rng
        self._clock, self._number = 1_700_000_000, 0
        for _ in range(12):
            self.add()

    def files(self) -> list[Path]:
        return sorted(self._documents.glob("*.md"))

    def bad(self) -> set[str]:
        return {f.name for f in self.files() if not f.read_text() or "poison" in f.read_text()}

    def _any(self) -> Path:
        return self._rng.choice(self.files())

    def _new(self) -> Path:
        self._number += 1
        return self._documents / f"f{self._number:03}.md"

    def _put(self, path: Path, text: str) -> None:
        path.write_text(text)
        self._clock += 5
        os.utime(path, (self._clock, self._clock))

    def _paragraph(self) -> str:
        return " ".join(f"w{self._rng.randrange(400)}" for _ in range(self._rng.randrange(5, 60)))

    def _text(self) -> str:
        return "\n\n".join(self._paragraph() for _ in range(self._rng.randrange(1, 5)))

    def add(self) -> None:
        self._put(self._new(), self._text())

    def copy(self) -> None:
        self._put(self._new(), self._any().read_text())

    def edit(self) -> None:
        path = self._any()
        self._put(path, f"{path.read_text()}\n\n{self._paragraph()}")

    def replace(self) -> None:
        self._put(self._any(), self._text())

    def delete(self) -> None:
        if len(self.files()) > 4:
            self._any().unlink()

    def rename(self) -> None:
        self._any().rename(self._new())

    def swap(self) -> None:
        one, other = self._rng.sample(self.files(), 2)
        text = one.read_text()
        self._put(one, other.read_text())
        self._put(other, text)

    def poison(self) -> None:
        self._put(self._any(), f"{self._text()} poison")

    def empty(self) -> None:
        self._put(self._any(), "")

    def heal(self) -> None:
        for name in self.bad():
            self._put(self._documents / name, self._text())


OF_SOURCE = ("add", "copy", "edit", "replace", "delete", "rename", "swap", "poison", "empty", "heal")
OF_INDEX = ("new_settings", "rollback", "outage", "plan", "rebuild", "retry", "nothing")


class _Trial:
    def __init__(self, settings: Settings, documents: Path, collection: Callable[..., str], seed: int) -> None:
        self._settings, self._documents, self._collection = settings, documents, collection
        self._rng = random.Random(seed)
        self.source = _Source(documents, self._rng)
        self._chosen: dict[str, Any] = SETTINGS[0]
        self._scratch = self.compared = 0
        self._held: set[str] = set()  # in the index at the last check: an earlier version stays where the new one is refused
        self.happened: list[str] = []
        collection(**LIMITS, **self._chosen)
        self.run()

    def run(self, **options: Any) -> dict[str, Any]:
        return index(self._settings, "handbook", embedder=Refuses(), **options)

    def step(self) -> None:
        happens = self._rng.choice(OF_SOURCE + OF_INDEX)
        self.happened.append(happens)
        if happens in OF_SOURCE:
            getattr(self.source, happens)()
        else:
            getattr(self, f"_{happens}")()
        if self._rng.random() < RUN_SHARE:
            self.check(self.run(mode="rebuild" if happens == "rebuild" else "incremental"))

    def _new_settings(self) -> None:
        self._chosen = self._rng.choice(SETTINGS)
        self._collection(**LIMITS, **self._chosen)

    def _rollback(self) -> None:
        self._held = set()  # the generation before may lack what is refused by now
        with open_pool(self._settings) as pool:
            try:
                rollback(pool, "handbook")
            except BadData:
                self.happened[-1] += " (none kept)"

    def _outage(self) -> None:
        away = self._documents.with_name("away")
        self._documents.rename(away)
        self._documents.mkdir()
        try:
            with pytest.raises(BadData):
                self.run()
        finally:
            self._documents.rmdir()
            away.rename(self._documents)

    def _plan(self) -> None:
        self.run(mode="plan")

    def _retry(self) -> None:
        with open_pool(self._settings) as pool, pool.connection() as connection:
            quarantine.make_due(connection, collections.collection_id(connection, "handbook"))

    def _rebuild(self) -> None:
        """The run of this step is one."""

    def _nothing(self) -> None:
        """Runs alone happen."""

    def check(self, result: dict[str, Any]) -> None:
        """The good documents as from scratch; the bad ones shown, and at most an earlier version of them in the index."""
        bad, rows = self.source.bad(), _rows(self._settings, "handbook")
        with open_pool(self._settings) as pool, pool.connection() as connection:
            shown = {r.uri for r in quarantine.open_rows(connection, collections.collection_id(connection, "handbook"))}
        assert shown == bad, self.happened
        assert result["quarantined"] >= len(bad)
        listed, found = {f.name for f in self.source.files()}, {row["document"] for row in rows}
        assert found | bad == listed, self.happened
        assert self._held & listed <= found, self.happened
        self._held = found
        if "note" in result:  # a generation of other settings stays: from scratch it would be cut otherwise
            return
        self.compared += 1
        self._scratch += 1
        name = f"scratch{self._scratch}"
        self._collection(name, **LIMITS, **self._chosen)
        index(self._settings, name, embedder=Refuses())
        assert [row for row in rows if row["document"] not in bad] == _rows(self._settings, name), self.happened
        (self._settings.collections_dir / f"{name}.yaml").unlink()


def _rows(settings: Settings, name: str) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "embedding"} for row in export(settings, name)]


@pytest.mark.parametrize(
    ("seed", "steps"),
    [(23, 10), *(pytest.param(seed, 90, marks=pytest.mark.thorough) for seed in range(1, 7))],
)
def test_random_changes(seed: int, steps: int, settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    trial = _Trial(settings, documents, collection, seed)
    for _ in range(steps):
        trial.step()
    assert trial.compared
    assert query(
        settings,
        "select count(*) from ragworks.rejection r where not exists (select from ragworks.quarantine q"
        " where q.generation_id = r.generation_id and q.resolved_at is null)",
    ) == [(0,)], trial.happened
