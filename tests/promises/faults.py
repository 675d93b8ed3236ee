"""A child-process program for the fault tests: does jobs in forked children, and has a child die or stumble at a named point.

One warm process is forked for every job, so that a job starts at once. It reads lists of jobs from stdin, one JSON line
each, runs the jobs of a list at the same time, and answers how each ended.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import sys
import time
import traceback
from dataclasses import asdict, dataclass
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg

from include.cli import main as cli
from include.collection_file import Validation
from include.config import Settings
from include.indexing import activate, context, embed, pipeline, plan, publish, read, worker
from include.quality import gx
from include.quality.suites import document_rules
from include.quality.validate import validate
from include.sources import files
from include.store import embedded, objects, pool
from tests.support import HashEmbedder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOT_FINITE = "notfinite"  # a text with this word gets a vector that validation refuses
FAILED = 70  # exit code of a job that ended with an exception
_PORTION = 4  # texts embedded at a time


@dataclass(frozen=True)
class Fault:
    """What happens where.

    :param at: ``before`` or ``after`` a call, ``midway`` through what it yields, ``sent``: while the server works on it.
    :param target: ``module:function``, ``module:Class.method``, or ``sql:`` and how a statement begins.
    :param nth: at which call, row or statement.
    :param action: ``kill`` this process, ``disconnect`` all sessions of the database, ``restart`` its server, ``fill`` the
        disk, ``stop`` (SIGSTOP), or ``sleep``.
    """

    at: str
    target: str
    nth: int = 1
    action: str = "kill"

    def __str__(self) -> str:
        place = self.target.removeprefix("include.")
        return f"{self.at} {place}" + (f" ({self.nth})" if self.nth > 1 else "")


@dataclass(frozen=True)
class Job:
    """What a child does.

    :param do: ``index``, ``plan``, ``shard``, ``finish``, ``rollback``, or ``cli`` (the command line itself).
    :param marker: file that names the fault when it struck.
    :param deadly: a text with this word kills who embeds it; with ``deadly_way`` ``memory`` it raises MemoryError instead.
    :param deadly_file: a file with this word kills who parses it.
    :param slow: seconds a portion of texts takes.
    :param batch: documents in a batch.
    :param server_sleep: seconds the server takes longer for a statement that is ``sent``.
    """

    url: str
    home: str
    collections: str
    log: str
    marker: str = ""
    name: str = "handbook"
    do: str = "index"
    mode: str = "incremental"
    key: str = ""
    fault: Fault | None = None
    filler: str = ""
    deadly: str = ""
    deadly_way: str = "kill"
    deadly_file: str = ""
    slow: float = 0.0
    batch: int = 6
    server_sleep: float = 0.0

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, given: dict[str, Any]) -> Job:
        fault = Fault(**given["fault"]) if given["fault"] else None
        return cls(**(given | {"fault": fault}))

    @property
    def settings(self) -> Settings:
        return Settings(database_url=self.url or None, home=Path(self.home), collections_dir=Path(self.collections))


class QuickEmbedder(HashEmbedder):
    """A HashEmbedder with one tokenizer a process, a poisonous word and a deadly one."""

    deadly, deadly_way, slow = "", "kill", 0.0

    @cached_property
    def tokenizer(self) -> Any:
        return _tokenizer()

    def embed_documents(self, texts: Any, progress: Callable[[int], None] | None = None) -> Any:
        parts = [self.portion(texts[i : i + _PORTION]) for i in range(0, len(texts), _PORTION)]
        return np.concatenate(parts)

    def portion(self, texts: Any) -> Any:
        time.sleep(self.slow)
        if self.deadly and any(self.deadly in text for text in texts):
            if self.deadly_way == "memory":
                raise MemoryError
            os.kill(os.getpid(), signal.SIGKILL)
        vectors = super().embed_documents(texts)
        vectors[[NOT_FINITE in text for text in texts]] = np.nan
        return vectors


def _tokenizer(kept: list[Any] = []) -> Any:  # noqa: B006 - one a process, loaded before the forks
    if not kept:
        kept.append(HashEmbedder().tokenizer)
    return kept[0]


def perform(job: Job) -> int:
    """Do the job in this process; its exit code."""
    read.BATCH_DOCUMENTS = worker.BATCH_DOCUMENTS = objects.LISTED_BATCH = job.batch
    QuickEmbedder.deadly, QuickEmbedder.deadly_way, QuickEmbedder.slow = job.deadly, job.deadly_way, job.slow
    if job.deadly_file:
        _make_deadly(job.deadly_file)
    if job.fault:
        _arm(job, job.fault)
    if job.do == "cli":
        context.open_embedder = lambda *_: QuickEmbedder()  # type: ignore[attr-defined]
        os.environ |= {"RAGWORKS_DATABASE_URL": job.url, "RAGWORKS_HOME": job.home, "RAGWORKS_COLLECTIONS_DIR": job.collections}
        return cli.main(["index", job.name, "--json"])
    if job.do == "rollback":
        with pool.open_pool(job.settings) as opened:
            activate.rollback(opened, job.name)
        return 0
    with context.open_context(job.settings, job.name, embedder=QuickEmbedder()) as opened_context:
        if job.do == "index":
            pipeline.index_collection(opened_context, mode=job.mode, key=job.key or None)
        elif job.do == "plan":
            plan.plan_run(opened_context, job.key, mode=job.mode)
        elif job.do == "shard":
            embed.index_shard(opened_context, job.key)
        else:
            publish.validate_run(opened_context, job.key)
            publish.publish_run(opened_context, job.key)
    return 0


def _make_deadly(word: str) -> None:
    original = files.parse  # type: ignore[attr-defined]

    def parse(raw: bytes, *args: Any) -> Any:
        if word.encode() in raw:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(raw, *args)

    files.parse = parse  # type: ignore[attr-defined, assignment]


def _arm(job: Job, fault: Fault) -> None:
    """Have the fault strike at its point; a target that does not exist is an error."""
    if fault.target.startswith("sql:"):
        _arm_statement(job, fault)
        return
    module_name, _, path = fault.target.partition(":")
    *owners, name = path.split(".")
    owner: Any = importlib.import_module(module_name)
    for part in owners:
        owner = getattr(owner, part)
    setattr(owner, name, _wrapped(job, fault, getattr(owner, name)))


def _wrapped(job: Job, fault: Fault, original: Callable[..., Any]) -> Callable[..., Any]:
    calls = 0

    @wraps(original)
    def around(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if fault.at == "before" and calls == fault.nth:
            _strike(job, fault)
        result = original(*args, **kwargs)
        if fault.at == "after" and calls == fault.nth:
            _strike(job, fault)
        return result

    @wraps(original)
    def midway(*args: Any, **kwargs: Any) -> Iterator[Any]:
        for number, item in enumerate(original(*args, **kwargs), 1):
            if number == fault.nth:
                _strike(job, fault)
            yield item

    return midway if fault.at == "midway" else around


def _arm_statement(job: Job, fault: Fault) -> None:
    original = psycopg.Cursor.execute
    beginning, met = fault.target.removeprefix("sql:"), 0

    def execute(self: Any, query: Any, params: Any = None, **kwargs: Any) -> Any:
        nonlocal met
        text = query if isinstance(query, str) else query.as_string(self)
        hit = " ".join(text.split()).startswith(beginning)
        met += hit
        strikes = hit and met == fault.nth
        if strikes and fault.at == "sent":
            self.connection.pgconn.send_query(f"select pg_sleep({job.server_sleep}); {text}".encode())
            while self.connection.pgconn.flush():
                time.sleep(0.001)
        if strikes and fault.at in ("before", "sent"):
            _strike(job, fault)
        result = original(self, query, params, **kwargs)
        if strikes and fault.at == "after":
            _strike(job, fault)
        return result

    psycopg.Cursor.execute = execute  # type: ignore[method-assign]


def _strike(job: Job, fault: Fault) -> None:
    Path(job.marker).write_text(str(fault))
    if fault.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault.action == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif fault.action == "disconnect":
        with psycopg.connect(job.url, autocommit=True) as other:
            other.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and pid <> pg_backend_pid()"
            )
        time.sleep(0.2)
    elif fault.action == "restart":
        embedded.stop(Path(job.home))
        embedded.ensure_running(Path(job.home))
    elif fault.action == "fill":
        fill(Path(job.filler))
    else:
        time.sleep(float(fault.action.removeprefix("sleep ")))


def fill(path: Path) -> None:
    """Write a file until its disk is full."""
    with contextlib.suppress(OSError), path.open("ab", buffering=0) as file:
        for size in (65_536, 512):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"\1" * size)


def _child(job: Job) -> None:
    code = FAILED
    try:
        log = os.open(job.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = perform(job)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _fork(job: Job) -> int:
    process = os.fork()
    if not process:
        _child(job)
    return process


def _warm() -> None:
    """Do once what every child would have to: heavy imports, the context of Great Expectations, the tokenizer."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _tokenizer()
    gx.batch_definition()
    names = ("uri", "duplicate_of", "problem", "missing_metadata", "visible_characters", "size", "control_characters")
    columns: dict[str, list[Any]] = dict(zip(names, (["a"], [None], [None], [None], [1], [1], [0]), strict=True))
    validate("documents", document_rules(Validation()), columns, ["a"])
    gc.collect()
    gc.freeze()  # else a collection in a child would copy all that the warm process holds


def serve() -> None:
    """Answer until stdin ends."""
    _warm()
    print(json.dumps("ready"), flush=True)
    while line := sys.stdin.readline():
        processes = [_fork(Job.from_json(given)) for given in json.loads(line)]
        ended = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]
        print(json.dumps(ended), flush=True)


if __name__ == "__main__":
    from tests.promises import faults  # under its own name: faults patch this module too

    faults.serve()
