"""Promise 10: one laptop, no cloud, no GPU, no hub: an empty home, no network but loopback, and everything works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from include.config import PROJECT_ROOT
from include.store import embedded

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from include.config import Settings

# A process that can open no connection to anywhere but this machine.
LOOPBACK_ONLY = """
import socket, sys
real = socket.socket.connect
def connect(self, address):
    if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
        raise OSError(f"no network: {address}")
    return real(self, address)
socket.socket.connect = connect
from include.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_index_and_search(settings: Settings, documents: Path, collection: Callable[..., str], tmp_path: Path) -> None:
    (documents / "animals.md").write_text("# Animals\n\nKangaroos carry their young in a pouch.")
    (documents / "physics.txt").write_text("Light travels at three hundred thousand kilometres a second.")
    collection()
    home, empty = tmp_path / "ragworks", tmp_path / "empty"
    empty.mkdir()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(empty),
        "PYTHONPATH": str(PROJECT_ROOT),
        "RAGWORKS_HOME": str(home),
        "RAGWORKS_COLLECTIONS_DIR": str(settings.collections_dir),
        "HF_HOME": str(empty / "hub"),
        "CUDA_VISIBLE_DEVICES": "",
    }

    def ragworks(*arguments: str) -> dict[str, Any]:
        command = [sys.executable, "-c", LOOPBACK_ONLY, *arguments, "--json"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return dict(json.loads(done.stdout))

    try:
        assert ragworks("index", "handbook")["chunks"]["embedded"] == 2
        assert ragworks("index", "handbook")["chunks"]["embedded"] == 0
        answer = ragworks("search", "handbook", "which animal has a pouch?")
    finally:
        embedded.stop(home)
    assert answer["results"][0]["document"] == "animals.md"
    assert not (empty / "hub").exists()
