"""What is done with every peer: one first index, then everything that happens to one."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict, dataclass, field
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

import psycopg

from bench.incremental import trees
from bench.incremental.compare import Steps, difference, expected, needed
from bench.incremental.launch import WRITTEN, Launcher
from bench.incremental.peer import Job
from bench.incremental.peers import read_rows, visible
from bench.workload import server
from bench.workload.process import ChildFailed

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bench.incremental.compare import Bag, Sample
    from bench.incremental.peers import Peer

SETTLE_SECONDS = 2.5  # until file times can be trusted to tell of a change
SAMPLE_SECONDS = 0.1


@dataclass(frozen=True)
class Plan:
    """What the driver was asked for; the same for every peer.

    :param kills: shares of the step's seconds, and ``written``.
    """

    before: Path
    after: Path
    embedder: str
    delay_ms: float = 0.0
    max_tokens: int = 200
    other_max_tokens: int = 150
    repeat: int = 5
    kills: Sequence[float | str] = (0.2, 0.5, 0.8)
    limit: float = 900.0
    wanted: dict[str, Bag] = field(default_factory=dict)

    def want(self, tree: Path, max_tokens: int) -> Bag:
        """Chunks from scratch, made once."""
        key = f"{tree} {max_tokens}"
        if key not in self.wanted:
            self.wanted[key] = expected(tree, max_tokens)
        return self.wanted[key]

    @property
    def count(self) -> int:
        """Cases a peer goes through, at most."""
        return 8 + 2 * len(self.kills)


class Cases:
    """One peer in its own database and folders.

    :param tell: called before each case with its name.
    """

    def __init__(self, peer: Peer, python: str, server_url: str, work: Path, plan: Plan, tell: Callable[[str], None]) -> None:
        self._peer, self._server, self._plan, self._tell = peer, server_url, plan, tell
        self._documents, self._state, self._saved = (work / part for part in ("documents", "state", "saved"))
        self._database = f"bench_{peer.name}"
        self._launcher = Launcher(python, peer.module, plan.limit)
        self._step_seconds = 0.0
        self.results: dict[str, Any] = {}

    def run(self) -> dict[str, Any]:
        """All cases; one that fails is noted and the others go on."""
        server.fresh_database(self._server, self._database)
        self._case("first", self._first)
        if "error" in self.results["first"]:
            return self.results
        self._case("unchanged", self._unchanged)
        self._case("touched", self._touched)
        self._save()
        self._case("step", self._step)
        self._case("back", lambda: self._work_on(self._plan.before))
        self._again("watched", self._watched)
        moments = [moment for moment in self._plan.kills if moment != WRITTEN or self._peer.notes_last]
        for moment in moments:
            self._again(f"kill {moment}", partial(self._killed, moment, self._plan.after))
        for moment in moments:
            self._again(f"kill {moment}, taken back", partial(self._killed, moment, self._plan.before))
        self._again("config", self._config)
        self._again("renamed", self._renamed)
        return self.results

    def _case(self, name: str, work: Callable[[], dict[str, Any]]) -> None:
        self._tell(name)
        try:
            self.results[name] = work()
        except (ChildFailed, psycopg.Error) as error:
            self.results[name] = {"error": str(error).strip()}

    def _again(self, name: str, work: Callable[[], dict[str, Any]]) -> None:
        """A case that begins with the index of the version before."""

        def restored() -> dict[str, Any]:
            self._restore()
            return work()

        self._case(name, restored)

    def _first(self) -> dict[str, Any]:
        result = self._work_on(self._plan.before, settle=True)
        size = sum(server.table_bytes(self._url(), self._peer.schemas).values())
        state = _disk_bytes(self._state)
        rows = max(1, result["check"]["rows"])
        return result | {"bytes_per_chunk": round(size / rows), "state_bytes_per_chunk": round(state / rows)}

    def _unchanged(self) -> dict[str, Any]:
        runs = [self._work() for _ in range(self._plan.repeat)]
        seconds = [run["seconds"] for run in runs]
        done = {"seconds": median(seconds), "all_seconds": seconds, "texts": max(run["texts"] for run in runs)}
        return done | {"check": self._check(self._plan.before)}

    def _touched(self) -> dict[str, Any]:
        trees.touch(self._documents)
        time.sleep(SETTLE_SECONDS)
        return self._work() | {"check": self._check(self._plan.before)}

    def _step(self) -> dict[str, Any]:
        result = self._work_on(self._plan.after, settle=True)
        self._step_seconds = result["seconds"]
        return result | {"needed": needed(self._want(self._plan.before), self._want(self._plan.after))}

    def _watched(self) -> dict[str, Any]:
        """The step once more with a reader beside it, who makes it slower: its seconds do not count."""
        steps = Steps(self._want(self._plan.before), self._want(self._plan.after))
        samples: list[Sample] = []

        def look(ended: threading.Event) -> None:
            started = time.monotonic()
            with psycopg.connect(self._url()) as connection:
                connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
                while not ended.wait(SAMPLE_SECONDS):
                    moment = time.monotonic() - started
                    samples.append(steps.sample(moment, visible(self._peer, connection)))

        trees.sync(self._plan.after, self._documents)
        result = self._launcher.work(self._job(self._plan.max_tokens), look)
        if not samples:
            raise ChildFailed("it was over before anyone could look")
        halfway = min(samples, key=lambda s: abs(s.seconds - result["seconds"] / 2))
        return {
            "seconds_with_reader": result["seconds"],
            "rows_halfway": halfway.rows,
            "kept_worst": min(s.kept for s in samples),
            "half_documents_worst": max(s.half for s in samples),
            "whole_share": round(sum(s.whole for s in samples) / len(samples), 3),
            "samples": [asdict(s) for s in samples],
            "check": self._check(self._plan.after),
        }

    def _killed(self, moment: float | str, then: Path) -> dict[str, Any]:
        trees.sync(self._plan.after, self._documents)
        at = moment if isinstance(moment, str) else moment * self._step_seconds
        killed = self._launcher.kill(self._job(self._plan.max_tokens), at)
        left = len(read_rows(self._peer, self._url()))
        return {"killed": killed, "rows_after_kill": left} | self._work_on(then)

    def _config(self) -> dict[str, Any]:
        size = self._plan.other_max_tokens
        return self._work(size) | {"check": self._check(self._plan.before, size)}

    def _renamed(self) -> dict[str, Any]:
        trees.rename(self._documents)
        time.sleep(SETTLE_SECONDS)
        result = self._work()
        return result | {"check": self._check(self._documents)}

    def _work_on(self, tree: Path, *, settle: bool = False) -> dict[str, Any]:
        trees.sync(tree, self._documents)
        if settle:
            time.sleep(SETTLE_SECONDS)
        return self._work() | {"check": self._check(tree)}

    def _work(self, max_tokens: int | None = None) -> dict[str, Any]:
        return self._launcher.work(self._job(max_tokens or self._plan.max_tokens))

    def _check(self, tree: Path, max_tokens: int | None = None) -> dict[str, int | bool]:
        return difference(read_rows(self._peer, self._url()), self._want(tree, max_tokens))

    def _want(self, tree: Path, max_tokens: int | None = None) -> Bag:
        return self._plan.want(tree, max_tokens or self._plan.max_tokens)

    def _job(self, max_tokens: int) -> Job:
        plan = self._plan
        return Job(self._url(), self._documents, self._state, plan.embedder, max_tokens, plan.delay_ms)

    def _url(self) -> str:
        return server.address(self._server, self._database)

    def _save(self) -> None:
        """Keep database and state as they are now, to come back to."""
        server.fresh_database(self._server, f"{self._database}_saved", template=self._database)
        if self._state.exists():
            shutil.copytree(self._state, self._saved)

    def _restore(self) -> None:
        server.fresh_database(self._server, self._database, template=f"{self._database}_saved")
        shutil.rmtree(self._state, ignore_errors=True)
        if self._saved.exists():
            shutil.copytree(self._saved, self._state)
        trees.sync(self._plan.before, self._documents)


def _disk_bytes(folder: Path) -> int:
    """What files take on the disk: a sparse database file is as large as what was written to it."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file()) if folder.exists() else 0
