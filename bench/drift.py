"""Replays drift-clinc150 and drift-squad-a week by week through the query log and the monitor, against their answer keys.

    python -m bench.drift --data ../shared/data
    python -m bench.drift --data ../shared/data --dag --weeks 0     # each week by a run of the DAG monitor_<stream>

Then 200 stable weeks, drawn anew from the questions of the weeks that share the reference's mix, for the rate of false alarms.
Prints the tables of docs/monitoring.md. Ten minutes on two quiet cores, most of it for answering 2,701 questions once and for
searching 13,000 times.

- A week has two windows of 84 hours, so that two of them can establish a breach within it.
- drift-squad-a comes with the relevant document of each question: three of ten users judge their answer, up when that document
  is among its passages, else down. Everything else is what the product finds.
- A person accepts the mix of week 9 of drift-clinc150 as usual, as the answer key says that it stays: weeks 10 to 12 are
  compared with it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pickle
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
import psycopg
from psycopg.conninfo import make_conninfo

from bench.drift_stream import STREAMS, Remembering, Served, logged, prepare, serve
from include.config import Settings
from include.monitoring.run import MonitorResult, monitor
from include.monitoring.usual import accept
from include.progress import Silent
from include.store import answers, collections, embedded, feedback, signals
from include.store.feedback import Feedback
from include.store.pool import open_pool
from include.store.query_log import save_queries
from tests.dags.airflow_home import use_own_airflow_home

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from include.store.pool import Pool

START = datetime(2024, 1, 1, tzinfo=UTC)
WEEK = timedelta(days=7)
MONITORING = {"window_hours": 84, "reference_days": 7, "schedule": None, "golden": False}
STABLE = (0, 1, 2, 4)  # weeks that share the reference's mix, in both streams
JUDGED = 0.3  # share of the users who give a thumb
ACCEPTED = {"clinc": 9}  # the week after which a person says that this is usual now
REFERENCES = 10  # resampled weeks before the reference is drawn anew


def judgement(one: Served) -> int | None:
    """The thumb of a user; None: none, as of most users."""
    meta = one.row["metadata"]
    if "answerable" not in meta or hashlib.sha256(one.row["id"].encode()).digest()[0] >= 256 * JUDGED:
        return None
    return 1 if meta["relevant_doc"] in {hit.document for hit in one.found.hits[:5]} else -1


def write(pool: Pool, collection: int, asked: Iterable[tuple[Served, datetime]], draw: np.random.Generator) -> None:
    """Log questions at given times, with their answers and thumbs.

    :param draw: of their ids, by which the monitor takes its samples.
    """
    with pool.connection() as connection:
        for batch in batches(asked):
            entries = [
                replace(logged(collection, one), id=UUID(bytes=draw.bytes(16), version=4), created_at=when)
                for one, when in batch
            ]
            save_queries(connection, entries)
            for (one, _), entry in zip(batch, entries, strict=True):
                if one.answer is not None:
                    answers.save_answer(connection, entry.id, one.answer)
                if (thumb := judgement(one)) is not None:
                    feedback.save_feedback(connection, Feedback(entry.id, thumb))


def batches(asked: Iterable[tuple[Served, datetime]]) -> Iterator[list[tuple[Served, datetime]]]:
    """By 500."""
    waiting: list[tuple[Served, datetime]] = []
    for one in asked:
        waiting.append(one)
        if len(waiting) == 500:
            yield waiting
            waiting = []
    yield waiting


def runs_of_dag(settings: Settings, stream: str) -> Callable[[datetime], None]:
    """Runs the stream's monitor DAG as of a time, all its tasks, in this process.

    :raises RuntimeError: a run did not succeed.
    """
    os.environ |= {
        "RAGWORKS_DATABASE_URL": settings.database_url or "", "RAGWORKS_HOME": str(settings.home),
        "RAGWORKS_COLLECTIONS_DIR": str(settings.collections_dir),
    }  # fmt: skip
    from airflow.utils.db import initdb

    from tests.dags.snapshot import dag_to_test

    initdb()
    dag = dag_to_test(f"monitor_{stream}")

    def run_until(end: datetime) -> None:
        done = dag.test(run_conf={"at": end.isoformat()})
        if done.state != "success":
            raise RuntimeError(f"{done.run_id}: {done.state}")

    return run_until


def replay(
    settings: Settings, data: Path, stream: str, served: Sequence[Served], seed: int, *, by_dag: bool
) -> list[list[str]]:
    """Rows of the table: week, what it holds, what was beyond, breaches, decision."""
    run_until = runs_of_dag(settings, stream) if by_dag else None
    schedule = json.loads((data / STREAMS[stream] / "schedule.json").read_text())
    table = []
    with open_pool(settings) as pool:
        with pool.connection() as connection:
            key = collections.collection_id(connection, stream)
        write(pool, key, ((one, one.time) for one in served), np.random.default_rng(seed))
        for week in schedule:
            end = START + (week["week"] + 1) * WEEK
            if run_until is not None:
                run_until(end)
            found = monitor(settings, pool, stream, at=end, run_key=f"bench/{week['week']}", progress=Silent())
            if run_until is not None and found.windows:
                raise RuntimeError(f"week {week['week']}: the run of the DAG left {found.windows} windows")
            table.append([str(week["week"]), week["label"], *told(found, end - WEEK)])
            if week["week"] == ACCEPTED.get(stream):
                with pool.connection() as connection:
                    accept(connection, key, end, 7, actor="bench")
                table[-1][-1] += "; then accepted as usual"
    return table


def told(found: MonitorResult, since: datetime) -> list[str]:
    """Values of the last window, breaches (new: opened since then), decision."""
    values = {s.name: s for s in found.signals}
    shown = []
    for name in ("query_drift", "embedding_drift", "coverage", "confidence", "abstention", "thumbs_down"):
        signal = values.get(name)
        mark = "**" if signal and signal.state == "beyond" else ""
        shown.append("" if signal is None or signal.value is None else f"{mark}{signal.value:.3f}{mark}")
    breaches = ", ".join(f"{b.signal} (new)" if b.opened_at > since else b.signal for b in found.breaches)
    return [*shown, breaches or "none", found.decision.action if found.decision else ""]


def stable(settings: Settings, stream: str, served: Sequence[Served], weeks: int, size: int, seed: int) -> dict[str, Any]:
    """Weeks drawn from the stable ones: how many made a breach.

    Reference and weeks come from disjoint questions; within a week none comes twice, for a classifier would know it again.
    """
    pool_of = [one for one in served if one.row["week"] in STABLE]
    draw = np.random.default_rng(seed)
    alarms: dict[str, int] = {}
    weeks_with = 0
    with open_pool(settings) as pool:
        with pool.connection() as connection:
            key = collections.collection_id(connection, stream)
            for table in ("query_log", "signal", "breach", "decision", "monitor_reference"):
                connection.execute(f"delete from ragworks.{table}")  # type: ignore[arg-type]
        start = START
        for _ in range(0, weeks, REFERENCES):
            order = draw.permutation(len(pool_of))
            first, others = order[:size], order[size:]
            drawn = [first, *(draw.permutation(others)[:size] for _ in range(REFERENCES))]
            for number, chosen in enumerate(drawn):
                begin = start + number * WEEK
                seconds = np.sort(draw.uniform(0, WEEK.total_seconds(), len(chosen)))
                write(
                    pool, key, ((pool_of[i], begin + timedelta(seconds=s)) for i, s in zip(chosen, seconds, strict=True)), draw
                )
                if number == 0:
                    with pool.connection() as connection:
                        accept(connection, key, begin + WEEK, 7, actor="bench")
                    monitor(settings, pool, stream, at=begin + WEEK, run_key="bench", progress=Silent())
                    continue
                monitor(settings, pool, stream, at=begin + WEEK, run_key="bench", progress=Silent())
                with pool.connection() as connection:  # also those that the week's second window ended
                    known = signals.breaches(connection, key)
                opened = [breach.signal for breach in known if begin < breach.opened_at <= begin + WEEK]
                weeks_with += bool(opened)
                for signal in opened:
                    alarms[signal] = alarms.get(signal, 0) + 1
            start += (REFERENCES + 1) * WEEK
        with pool.connection() as connection:
            beyond = connection.execute(
                "select name, count(*) filter (where state = 'beyond'), count(*) filter (where state <> 'too_few' and"
                " reference <> '{}') from ragworks.signal group by name having count(*) filter (where reference <> '{}') > 0"
            ).fetchall()
    tests = {name: f"{count}/{total}" for name, count, total in beyond}
    return {"weeks": weeks, "with a breach": weeks_with, "by signal": alarms, "windows beyond": tests}


def questions_of(settings: Settings, data: Path, stream: str, cache: Path | None) -> list[Served]:
    """The stream, served; from a file when it was served before."""
    embedder = Remembering()
    kept = cache / f"{stream}.pickle" if cache else None
    prepare(settings, data, stream, MONITORING, embedder)
    if kept and kept.exists():
        found: list[Served] = pickle.loads(kept.read_bytes())
        return found
    found = serve(settings, data, stream, embedder)
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(pickle.dumps(found))
    return found


def main() -> None:
    """Both streams."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--weeks", type=int, default=200, help="stable ones")
    parser.add_argument("--seed", type=int, default=7, help="of samples and of the stable weeks")
    parser.add_argument("--streams", nargs="+", choices=tuple(STREAMS), default=list(STREAMS))
    parser.add_argument("--dag", action="store_true", help="replay by runs of the DAG in place of calls")
    parser.add_argument("--cache", type=Path, help="folder that keeps what was served")
    arguments = parser.parse_args()
    if arguments.dag:
        use_own_airflow_home()
    with tempfile.TemporaryDirectory() as folder:
        server = embedded.ensure_running(Path(folder) / "postgres")
        try:
            for stream in arguments.streams:
                run(server, Path(folder), stream, arguments)
        finally:
            embedded.stop(Path(folder) / "postgres")


def run(server: str, folder: Path, stream: str, arguments: argparse.Namespace) -> None:
    """One stream."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"create database drift_{stream}")  # type: ignore[arg-type]
    settings = Settings(
        database_url=make_conninfo(server, dbname=f"drift_{stream}"), home=folder / stream, collections_dir=folder / stream
    )
    began = time.monotonic()
    served = questions_of(settings, arguments.data, stream, arguments.cache)
    print(f"\n{STREAMS[stream]}: {len(served)} questions served in {time.monotonic() - began:.0f} s\n")
    began = time.monotonic()
    columns = ("week", "label", "query_drift", "embedding_drift", "coverage", "confidence", "abstention", "thumbs_down")
    print("| " + " | ".join((*columns, "breaches", "decision")) + " |\n" + "|---" * (len(columns) + 2) + "|")
    for row in replay(settings, arguments.data, stream, served, arguments.seed, by_dag=arguments.dag):
        print("| " + " | ".join(row) + " |", flush=True)
    print(f"\nreplayed in {time.monotonic() - began:.0f} s", flush=True)
    if not arguments.weeks:
        return
    began = time.monotonic()
    size = 300 if stream == "squad" else 1000
    print(
        json.dumps(stable(settings, stream, served, arguments.weeks, size, arguments.seed)),
        f"in {time.monotonic() - began:.0f} s",
        flush=True,
    )


if __name__ == "__main__":
    main()
