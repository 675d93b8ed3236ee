"""Checkpoints in the artifact store: what a training needs to go on elsewhere, whole or not at all."""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
from typing import TYPE_CHECKING, Any

from include.errors import BadData
from include.registry.artifacts import fetch_folder, publish, verified_place
from include.registry.stores import MANIFEST, open_store

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from include.config import Settings

logger = logging.getLogger(__name__)

KEEP = 2  # the newest one may turn out to be damaged


class Checkpoints:
    """Those of one training, ``checkpoints/<its key>/step-<n>`` below RAGWORKS_ARTIFACTS.

    :param store: where staging folders for it are to be made.
    """

    def __init__(self, settings: Settings, run_key: str) -> None:
        self.store = open_store(settings)
        self.where = f"checkpoints/{safe_name(run_key)}"

    def save(self, folder: Path, step: int, facts: Mapping[str, Any]) -> str:
        """Move a folder from the staging there, then remove those that are not needed any more.

        :return: its reference.
        :raises Transient: the store is full or away; the checkpoints before are as they were.
        """
        saved = publish(self.store, folder, f"{self.where}/step-{step}", {**facts, "step": step})
        logger.info("checkpoint of step %d saved to %s", step, saved)
        complete = [known for known in self.steps() if self._complete(known)]
        for old in set(self.steps()) - set(complete[-KEEP:]):
            self.store.remove(f"{self.where}/step-{old}")
        return saved

    def newest(self, target: Path) -> tuple[int, Path] | None:
        """The newest one that is whole: its step, and its folder on this machine.

        :param target: where it is copied to if it lies elsewhere.
        """
        for step in reversed(self.steps()):
            where = f"{self.where}/step-{step}"
            if not self._complete(step):
                logger.info("checkpoint of step %d was never finished: passed over", step)
                continue
            try:
                place = verified_place(self.store, where)
                if place is None:
                    shutil.rmtree(target, ignore_errors=True)
                    target.mkdir(parents=True)
                    fetch_folder(self.store, where, target)
                return step, place or target
            except BadData as error:
                logger.warning("%s: the one before is taken", error)
                self.store.remove(where)
        return None

    def steps(self) -> list[int]:
        """Steps of which something lies there, rising."""
        names = (re.fullmatch(r"step-(\d+)", name) for name in self.store.names(self.where))
        return sorted(int(found[1]) for found in names if found)

    def remove(self) -> None:
        """Remove all: the training was judged."""
        for step in self.steps():
            self.store.remove(f"{self.where}/step-{step}")
        self.store.remove(self.where)

    def _complete(self, step: int) -> bool:
        return MANIFEST in self.store.names(f"{self.where}/step-{step}")


def remove(settings: Settings, run_key: str) -> None:
    """Remove the checkpoints of a training that was judged; nothing happens when there are none."""
    Checkpoints(settings, run_key).remove()


def safe_name(run_key: str) -> str:
    """A run key as the name of one folder; other keys have other names."""
    digest = hashlib.sha256(run_key.encode()).hexdigest()[:10]
    return f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', run_key).strip('.-')[:100]}-{digest}"
