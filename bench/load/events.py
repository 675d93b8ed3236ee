"""What happens to the index under load: edits are indexed, a new generation takes over, and is taken back."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from psycopg import sql

from bench.workload import shares
from bench.workload.library import TOGETHER
from bench.workload.process import ROOT, ChildFailed, environment
from include.store import collections, generations
from include.store.pool import open_pool

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from include.config import Settings

Place = tuple[str, int, int, int]  # document, ordinal, start, end
LIMIT = 1800.0  # seconds for a command


@dataclass
class Story:
    """What happened when, and what each generation held in between.

    :param first: the generation that answered at the beginning.
    :param moments: name, seconds since the epoch from and to, what the command said.
    :param held: (generation, what it held) after each of them.
    """

    first: int
    moments: list[dict[str, Any]] = field(default_factory=list)
    held: list[tuple[int, frozenset[Place]]] = field(default_factory=list)


def command(settings: Settings, *arguments: str) -> dict[str, Any]:
    """Run the command line in a process of its own.

    :raises ChildFailed: it failed.
    """
    line = [sys.executable, "-m", "include", *arguments, "--json"]
    done = subprocess.run(line, cwd=ROOT, env=own(settings), capture_output=True, text=True, timeout=LIMIT, check=False)
    if done.returncode:
        raise ChildFailed(f"{' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()[-1500:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def own(settings: Settings) -> dict[str, str]:
    """The environment of a child that works on this home."""
    return environment() | {
        "RAGWORKS_HOME": str(settings.home), "RAGWORKS_COLLECTIONS_DIR": str(settings.collections_dir),
        "RAGWORKS_DATABASE_URL": settings.database_url or "",
    }  # fmt: skip


def tell(
    settings: Settings, data: Path, names: Sequence[str], edited: Sequence[str], sections: dict[str, Any], pause: float
) -> Story:
    """Let it happen, one after the other.

    :param edited: uris of documents that change: ones that the questions find.
    :param sections: of the collection file.
    """
    with open_pool(settings) as pool:
        story = Story(shares.live(pool).id)
    _look(settings, story)

    def edit(revision: int) -> None:
        before = f"Revision {revision}. " * revision  # of another length each time: every chunk below moves
        shares.write_source(data, settings.home, names, acl=False, texts=dict.fromkeys(edited, before))

    time.sleep(pause)
    edit(1)
    _do(settings, story, "re-index", "index", TOGETHER)
    time.sleep(pause)
    edit(2)
    shares.write_collection(settings, **_changed(sections, max(generation for generation, _ in story.held)))
    _do(settings, story, "new generation", "index", TOGETHER)
    time.sleep(pause)
    _do(settings, story, "rollback", "rollback", TOGETHER)
    time.sleep(pause)
    _do(settings, story, "rollback", "rollback", TOGETHER)
    time.sleep(pause)
    return story


def _changed(sections: dict[str, Any], number: int) -> dict[str, Any]:
    """Settings that make a new generation and embed little: pages are cut without their structure, words weighted anew.

    :param number: makes them different each time.
    """
    chunking = {**sections["chunking"], "markdown": False}
    return {**sections, "chunking": chunking, "lexical": {"k1": round(0.9 + number / 1000, 3)}}


def _do(settings: Settings, story: Story, name: str, *arguments: str) -> None:
    began = time.time()
    said = command(settings, *arguments)
    story.moments.append({"name": name, "from": began, "to": time.time(), "said": said})
    _look(settings, story)


def _look(settings: Settings, story: Story) -> None:
    """Note what every generation holds that answers or may answer again."""
    with open_pool(settings) as pool, pool.connection() as connection:
        for held in generations.generations(connection, collections.collection_id(connection, TOGETHER)):
            if held.state in ("live", "retired"):
                statement = sql.SQL(
                    "select d.uri, s.ordinal, s.start_char, s.end_char from {} s"
                    " join ragworks.document d on d.id = s.document_id"
                ).format(held.spans)
                story.held.append((held.id, frozenset(connection.execute(statement).fetchall())))


def mixed(answers: Sequence[tuple[int, Sequence[Sequence[Any]]]], story: Story) -> list[int]:
    """Which answers hold what their generation never held together: places in the list.

    An answer belongs to a generation when at one of the looks all of it was there.
    """
    return [number for number, (generation, places) in enumerate(answers) if generation not in _fits(places, story)]


def telling(answers: Sequence[tuple[int, Sequence[Sequence[Any]]]], story: Story) -> int:
    """How many answers do not fit every look: a mixture of states could not pass for one of these unseen."""
    return sum(len(_fits(places, story)) < len(story.held) for _, places in answers)


def _fits(places: Sequence[Sequence[Any]], story: Story) -> list[int]:
    """The generation of each look at which all of these were there."""
    return [held for held, found in story.held if all(tuple(place) in found for place in places)]
