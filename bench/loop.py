"""The loop under a running Airflow: other questions, unhappy users, a breach, a training by event, a promotion, a recovery.

    python -m bench.loop            # some seven minutes on two cores

150 pages about units that differ in their codes, and 40 about other things. For ten days people ask about the other things;
then for two days half of them ask for a unit by its code, which vectors of meaning hardly tell apart, and say where the
answer stands when it was not first. Somebody accepts the feedback. From there on nobody does anything but approve the winner:
the DAG `monitor_workshop` measures, finds a breach, decides; the event starts `train_reranker`; gate, approval by REST,
promotion. On that day and the next the same people ask again. At the end stands `ragworks monitor workshop --chain ID`.

Questions are asked of the real index and logged as serving logs them, at the times they stand for; clocks are not touched.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import yaml

from bench.finetune.stack import Stack, running, settings_in
from include.retrieval.query import Query
from include.retrieval.searcher import Searcher
from include.stack.api import FINAL
from include.store import collections, decisions, feedback, model_runs, query_log, signals
from include.store.feedback import Feedback
from include.store.pool import open_pool
from include.store.query_log import LoggedQuery

if TYPE_CHECKING:
    from include.config import Settings
    from include.retrieval.query import Found

NAME = "workshop"
USUAL_DAYS, OTHER_DAYS, A_DAY, THUMBS = 10, 2, 240, 160
THINGS = (
    "roses", "bread", "violins", "bicycles", "candles", "cheese", "tents", "clocks", "kites", "boots", "carpets", "wells",
    "hedges", "lanterns", "ponds", "saddles", "ovens", "ropes", "sails", "chimneys", "beehives", "mirrors", "drums", "ladders",
    "orchards", "curtains", "pianos", "kettles", "sledges", "barrels", "cellars", "knives", "puppets", "anchors", "gloves",
    "telescopes", "paddles", "fences", "quilts", "stoves",
)  # fmt: skip
PLACES = ("by the door", "in the cellar", "under the stairs", "at the window", "in the yard", "behind the shelf", "on the roof")
DONE = ("bought", "painted", "repaired", "moved", "rebuilt", "found", "borrowed")
NAMES = ("Ada", "Bruno", "Clara", "Dinu", "Elif", "Femi", "Gita", "Hugo", "Ines", "Jonas", "Kira", "Luis", "Mona", "Nils")
PARTS = ("belt", "bolts", "valve", "switch", "handle", "wheel", "gasket", "spring", "cover", "hose", "fuse", "lamp")
KINDS = ("pump", "press", "mill", "drill", "fan", "winch")
USUAL = ("how do I look after {0}", "what do {0} need in winter", "{0}: how are they kept in order")
BY_CODE = ("how much grease takes {0}", "grease of {0}", "{0}, how often is it greased")


@dataclass(frozen=True)
class Asked:
    """A question and the document that answers it."""

    text: str
    document: str


def documents(draw: random.Random) -> tuple[list[dict[str, Any]], list[str]]:
    """Lines of the source, and the codes of the units."""
    codes = sorted({f"{draw.choice('QXKVZ')}{draw.choice('TWRLH')}-{draw.randrange(1000, 9999)}" for _ in range(160)})[:150]
    pages = [
        {"id": thing, "title": f"Care of {thing}",
         "text": f"{thing.capitalize()} are looked after by hand. In winter {thing} are kept dry, in spring they are cleaned."}
        for thing in THINGS
    ]  # fmt: skip
    units = [{"id": code, "title": f"Unit {code}", "text": _unit(code, draw)} for code in codes]
    return [*pages, *units], codes


def _unit(code: str, draw: random.Random) -> str:
    """A page that no other is nearly the same as, but for what it is about."""
    said = [
        f"The unit {code} is a {draw.choice(KINDS)}.",
        f"Its bearings take {draw.randrange(5, 90)} grams of grease every {draw.randrange(2, 30)} weeks.",
        f"It stands {draw.choice(PLACES)} and was {draw.choice(DONE)} in {draw.randrange(1960, 2025)}.",
        f"It weighs {draw.randrange(30, 900)} kilos, and {draw.choice(NAMES)} and {draw.choice(NAMES)} know how it is started.",
        f"Its {draw.choice(PARTS)} and {draw.choice(PARTS)} come from {draw.choice(NAMES)}.",
    ]
    draw.shuffle(said)
    return " ".join(said)


def usual(draw: random.Random) -> Asked:
    """A question about one of the other things."""
    thing = draw.choice(THINGS)
    return Asked(draw.choice(USUAL).format(thing), thing)


def by_code(draw: random.Random, codes: list[str]) -> Asked:
    """A question about a unit."""
    code = draw.choice(codes)
    return Asked(draw.choice(BY_CODE).format(code), code)


def live_day(settings: Settings, day: datetime, questions: list[Asked], draw: random.Random) -> float:
    """Ask, log, and judge some: a thumb up for a right first passage, else down, with the document that was meant.

    :return: share of thumbs that are up.
    """
    up = 0
    with open_pool(settings) as pool:
        searcher = Searcher(settings, pool, NAME)
        with pool.connection() as connection:
            key = collections.collection_id(connection, NAME)
        judged = set(draw.sample(range(len(questions)), THUMBS))
        for number, asked in enumerate(questions):
            found = searcher.find(Query(asked.text))
            when = day + timedelta(days=number / len(questions))
            entry = _logged(key, asked, found, when)
            with pool.connection() as connection:
                query_log.save_queries(connection, [entry])
                if number in judged:
                    right = bool(found.hits) and found.hits[0].document == asked.document
                    up += right
                    given = Feedback(entry.id, 1 if right else -1, None, asked.document, None, None, None)
                    name = feedback.save_feedback(connection, given)
                    connection.execute("update ragworks.feedback set created_at = %s where id = %s", (when, name))
    return up / THUMBS


def _logged(key: int, asked: Asked, found: Found, when: datetime) -> LoggedQuery:
    hits = [
        {"document": h.document, "ordinal": h.ordinal, "start": h.start, "end": h.end, "score": h.score} for h in found.hits
    ]
    return LoggedQuery(
        id=uuid4(), collection_id=key, generation_id=found.passport["generation"], kind="search", query=asked.text,
        embedding=found.vector, passport=found.passport, results=hits, status="ok" if hits else "empty", seconds=found.seconds,
        created_at=when,
    )  # fmt: skip


def main() -> int:
    """Run it; exit 1 when the loop does not close."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ragworks-loop-") as folder:
        found = _loop(Path(folder))
    print(json.dumps(found, indent=1, default=str))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1, default=str) + "\n", encoding="utf-8")
    return 0 if found["closed"] else 1


def _loop(folder: Path) -> dict[str, Any]:
    draw = random.Random(4)
    pages, codes = documents(draw)
    settings = settings_in(folder)
    source, golden = folder / "pages.jsonl", folder / "golden.jsonl"
    source.write_text("".join(json.dumps(page) + "\n" for page in pages), encoding="utf-8")
    known = {asked.text: asked.document for asked in (usual(draw) for _ in range(300))}
    lines = [{"query": text, "relevant": [{"document": document}]} for text, document in list(known.items())[:40]]
    golden.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    content = {
        "name": NAME,
        "source": {"type": "jsonl", "path": str(source)},
        "retrieval": {"mode": "dense", "latency_budget_ms": 5000},
        "near_duplicates": {"threshold": None},  # pages of units differ in a code
        "training": {"arguments": {"reranker": {"kind": "forest"}}},
        "monitoring": {"schedule": None, "policy": {"reranker": "auto"}, "minimum_labels": 50},
    }
    (settings.collections_dir / f"{NAME}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    with running(settings) as stack:
        stack.run_dag(f"index_{NAME}", {})
        stack.command("golden", NAME, "--import", str(golden))
        return _watched(stack, settings, codes, draw)


def _watched(stack: Stack, settings: Settings, codes: list[str], draw: random.Random) -> dict[str, Any]:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    up: dict[str, float] = {}
    for back in range(USUAL_DAYS + OTHER_DAYS, 0, -1):
        day = today - timedelta(days=back)
        half = A_DAY // 2 if back <= OTHER_DAYS else 0
        questions = [usual(draw) for _ in range(A_DAY - half)] + [by_code(draw, codes) for _ in range(half)]
        up[f"day -{back}"] = live_day(settings, day, questions, draw)
        print(f"day -{back}: {up[f'day -{back}']:.2f} of thumbs are up", file=sys.stderr)
    waiting = folder_of(settings) / "queue.jsonl"
    stack.command("feedback", NAME, "--export", str(waiting))
    accepted = [json.loads(line) | {"state": "accepted"} for line in waiting.read_text(encoding="utf-8").splitlines()]
    waiting.write_text("".join(json.dumps(line) + "\n" for line in accepted), encoding="utf-8")
    reviewed = stack.command("feedback", NAME, "--import", str(waiting), "--by", "bench")

    began = time.time()
    stack.run_dag(f"monitor_{NAME}", {})
    print(f"the monitor took {time.time() - began:.0f} s", file=sys.stderr)
    run = _training(stack)
    history = stack.command("monitor", NAME, "--history")
    decided = next(one for one in history["decisions"] if one["action"] == "train")
    chained = stack.command("monitor", NAME, "--chain", str(decided["id"]))
    waited = _waited(settings, stack, run, decided["id"])

    # The same people ask the same mix again: on the day of the promotion, whose window the new reference of drift overlaps, and
    # on the next, which is compared with it. Both are measured when they are over.
    after = {}
    for ahead in range(2):
        day = today + timedelta(days=ahead)
        questions = [by_code(draw, codes) if n % 2 else usual(draw) for n in range(A_DAY)]
        after[f"day +{ahead}"] = live_day(settings, day, questions, draw)
    stack.command("monitor", NAME, "--at", (today + timedelta(days=2, hours=1)).isoformat())
    chained = stack.command("monitor", NAME, "--chain", str(decided["id"]))
    unhappy = [one for one in chained["breaches"] if one["signal"] == "thumbs_down"]
    closed = bool(chained["promotions"] and unhappy) and all(one["ended_at"] for one in unhappy)
    return {
        "closed": closed, "still_open": [one["signal"] for one in chained["breaches"] if not one["ended_at"]],
        "thumbs_up": up | after, "reviewed": reviewed, "seconds": waited, "training_run": run, "chain": chained,
    }  # fmt: skip


def _waited(settings: Settings, stack: Stack, run: dict[str, Any], decision: int) -> dict[str, float | None]:
    """Seconds from the row of the newest breach that the decision rests on to each step; None: there was no such step.

    Trained is not before data, their check and the baseline are done, which are tasks of the same run.
    """
    with open_pool(settings) as pool, pool.connection() as connection:
        known = decisions.by_id(connection, decision)
        if known is None:
            raise RuntimeError(f"decision {decision} is gone")
        found = max(signals.found_at(connection, known.breaches).values())
        training = model_runs.find(connection, known.run_key) if known.run_key else None
    first = stack.api.task("train_reranker", run["dag_run_id"], "collection")["start_date"]
    steps = {
        "decision": known.created_at, "claim": known.claimed_at, "start of the run": _time(run["start_date"]),
        "its first task": _time(first), "start of the training": training.started_at if training else None,
    }  # fmt: skip
    return {step: round((at - found).total_seconds(), 3) if at else None for step, at in steps.items()}


def folder_of(settings: Settings) -> Path:
    """The folder of the bench."""
    return settings.home.parent


def _training(stack: Stack) -> dict[str, Any]:
    """Wait for the training that the event starts, and approve its winner."""
    began, answered = time.monotonic(), False
    while time.monotonic() - began < 1800:
        for run in stack.api.runs("train_reranker"):
            if run["state"] in FINAL:
                return run
            state = stack.api.task("train_reranker", run["dag_run_id"], "approve")["state"]
            if state == "awaiting_input" and not answered:
                time.sleep(3)  # Airflow 3.3.2 fails a task that is answered in the moment in which it parks
                stack.api.answer("train_reranker", run["dag_run_id"], "approve", "Approve")
                answered = True
        time.sleep(0.5)
    raise RuntimeError("no training started, or it did not end")


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


if __name__ == "__main__":
    sys.exit(main())
