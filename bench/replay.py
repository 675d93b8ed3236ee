"""Replays real documentation version by version with the real model; each state is compared with an index built from scratch.

    python -m bench.replay --series ../shared/data/docs-history/diffusers-releases --versions 6

For each version: texts embedded, texts a from-scratch index embeds, what an unchanged run does, and whether both exports are
equal (texts, spans and metadata exactly, vectors to 1e-3 cosine). Embedding everything again takes its time.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from include.config import Settings
from include.store import embedded
from tests.support import assert_same_index, export, index


def main() -> None:
    """Run and print a line a version."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=Path, required=True, help="a folder with materialize.py and vNN.tar.gz")
    parser.add_argument("--versions", type=int, default=6)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = _settings(Path(folder))
        try:
            for number in range(args.versions):
                materialize(args.series, f"v{number:02}", Path(folder) / "documents")
                print(json.dumps(_version(settings, number)), flush=True)
        finally:
            embedded.stop(settings.home)


def _version(settings: Settings, number: int) -> dict[str, object]:
    started = time.monotonic()
    step = index(settings, "incremental")
    seconds = time.monotonic() - started
    again = index(settings, "incremental")
    scratch = index(settings, "scratch", mode="rebuild", allow_deletes=True)
    assert_same_index(export(settings, "incremental"), export(settings, "scratch"))
    return {
        "version": number,
        "plan": step["plan"],
        "chunks": step["chunks"]["total"],
        "embedded": step["chunks"]["embedded"],
        "seconds": round(seconds, 1),
        "from_scratch_embedded": scratch["chunks"]["embedded"],
        "unchanged_run": {k: again["chunks"][k] for k in ("embedded", "written", "deleted")} | {"seconds": again["seconds"]},
        "equal": True,
    }


def materialize(series: Path, version: str, folder: Path) -> None:
    """Bring the folder to a version, touching only what differs, as a checkout does."""
    fresh = folder.with_name("fresh")
    shutil.rmtree(fresh, ignore_errors=True)
    subprocess.run([sys.executable, str(series / "materialize.py"), version, str(fresh)], check=True, capture_output=True)
    folder.mkdir(exist_ok=True)
    wanted = {p.relative_to(fresh) for p in fresh.rglob("*") if p.is_file()}
    for gone in [p for p in folder.rglob("*") if p.is_file() and p.relative_to(folder) not in wanted]:
        gone.unlink()
    for relative in wanted:
        target = folder / relative
        if not target.exists() or not filecmp.cmp(fresh / relative, target, shallow=False):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(fresh / relative, target)


def _settings(folder: Path) -> Settings:
    collections = folder / "collections"
    collections.mkdir()
    for name in ("incremental", "scratch"):
        source = {"type": "files", "path": str(folder / "documents"), "glob": "**/*.md"}
        (collections / f"{name}.yaml").write_text(yaml.safe_dump({"name": name, "source": source}))
    return Settings(home=folder / "home", collections_dir=collections)


if __name__ == "__main__":
    main()
