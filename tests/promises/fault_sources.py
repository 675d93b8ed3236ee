"""The documents of the fault tests: an old and a new state of a folder of files and of a folder of rows.

Both states are made once and never touched again; a case sees one of them through a link. So a source that is taken back
has its old times and inodes, as if nothing had been: the hardest way to take it back.
"""

from __future__ import annotations

import json
import os
import random
import time
from typing import TYPE_CHECKING, Any

from tests.promises.faults import NOT_FINITE

if TYPE_CHECKING:
    from pathlib import Path

WORDS = ("index", "vector", "chunk", "query", "token", "shard", "lease", "plan", "queue", "batch", "score", "recall", "schema")
UNCHANGED = 14


def make_sources(folder: Path) -> None:
    """``files/old``, ``files/new``, ``rows/old``, ``rows/new``: about thirty documents each.

    No uri is good in one state and refused in the other: the last good version would stay, and a rebuild never saw it.
    """
    rng = random.Random(5)
    _make_files(folder / "files" / "old", folder / "files" / "new", rng)
    _make_rows(folder / "rows" / "old", folder / "rows" / "new", rng)
    time.sleep(0.1)  # files that were just written count as changing


def text(rng: random.Random, paragraphs: int) -> list[str]:
    """Paragraphs of about 25 words."""
    return [(" ".join(rng.choices(WORDS, k=rng.randint(15, 40))) + ".").capitalize() for _ in range(paragraphs)]


def _make_files(old: Path, new: Path, rng: random.Random) -> None:
    for folder in (old, new):
        (folder / "sub").mkdir(parents=True)
    pages = {f"page{n:02}": [f"# Page {n}", *text(rng, rng.randint(2, 9))] for n in range(UNCHANGED + 12)}
    for name, paragraphs in pages.items():
        _write(old / f"{name}.md", paragraphs)
    names = iter(list(pages))
    for _ in range(UNCHANGED):
        _link(old, new, next(names))
    for _ in range(3):  # a paragraph edited
        name = next(names)
        _write(new / f"{name}.md", [*pages[name][:1], *text(rng, 1), *pages[name][2:]])
    for _ in range(2):  # one inserted at the top, one lost at the end
        name = next(names)
        _write(new / f"{name}.md", [*text(rng, 1), *pages[name][:-1]])
    for _ in range(2):  # renamed
        _link(old, new, next(names), to="sub/moved-{}")
    name = next(names)  # renamed and edited
    _write(new / f"sub/other-{name}.md", [*pages[name], *text(rng, 1)])
    name = next(names)  # touched
    _write(new / f"{name}.md", pages[name])
    assert len(list(names)) == 3  # deleted
    for number in range(4):
        _write(new / f"added{number}.md", [f"# Added {number}", *text(rng, rng.randint(1, 6))])
    _write(new / "copy.md", pages["page00"])  # the same text as another's
    _write(new / "empty.md", [""])  # refused by the document suite
    _write(new / "control.md", ["red \x1b[31m text"])
    _write(new / "infinite.md", [f"A text that is {NOT_FINITE} as a vector."])  # refused by the chunk suite
    for folder in (old, new):
        _write(folder / "always-empty.md", [""])


def _write(path: Path, paragraphs: list[str]) -> None:
    path.write_text("\n\n".join(paragraphs))


def _link(old: Path, new: Path, name: str, to: str = "{}") -> None:
    os.link(old / f"{name}.md", new / f"{to.format(name)}.md")


def _make_rows(old: Path, new: Path, rng: random.Random) -> None:
    first = [_row(f"a{n}", rng) for n in range(12)]
    second = [_row(f"b{n}", rng) for n in range(12)]
    third = [_row(f"c{n}", rng) for n in range(3)]
    empty = {"id": "empty", "text": ""}
    _write_rows(old / "a.jsonl", [*first, empty])
    _write_rows(old / "b.jsonl", second)
    _write_rows(old / "c.jsonl", third)
    changed = [dict(row) for row in first]
    changed[1]["text"] = "\n\n".join(text(rng, 4))
    changed[2]["metadata"] = {"section": "moved"}  # metadata only
    changed[3]["acl"] = ["team-a"]  # access only
    changed[4]["id"] = "renamed"
    moved = second[3]  # from b.jsonl to a.jsonl
    twice = third[0] | {"text": "another text under the id of a row of an unchanged file"}
    unstorable = {"id": "infinite", "text": f"A row that is {NOT_FINITE}."}
    _write_rows(new / "a.jsonl", [*changed[:6], *changed[8:], moved, twice, _row("added", rng), unstorable, empty])
    _write_rows(new / "b.jsonl", [*second[:3], *second[4:11], second[0] | {"text": "twice in a file"}])
    os.link(old / "c.jsonl", new / "c.jsonl")
    _write_rows(new / "d.jsonl", [_row("d0", rng), {"id": "bad", "text": "no list", "acl": "team-a"}])


def _row(identifier: str, rng: random.Random) -> dict[str, Any]:
    metadata = {"section": rng.choice(WORDS)}
    return {"id": identifier, "title": f"Row {identifier}", "text": "\n\n".join(text(rng, 3)), "metadata": metadata}


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
