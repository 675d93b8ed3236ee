"""Keeps the documents that a worker works on from others for as long as the work takes, and no longer.

Renewed at signs of progress alone, a lease would run out between two signs that are far apart: a large model on a slow
machine, a transaction that waits for a publication. Renewed by a thread alone, it would be kept for ever by a worker
that hangs. So a thread renews while the last sign is younger than one lease: what hangs is free after one to two of
them. A process that was killed or stopped renews nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Self

import psycopg

from include.store import work_items

if TYPE_CHECKING:
    from include.store.work_items import Worker

logger = logging.getLogger(__name__)

RENEWALS = 6  # in one lease: it outlasts some that fail
PATIENCE = 10.0  # seconds for a renewal that is under way when the work ends


class ClaimLost(Exception):
    """Documents of the batch changed, or others took them over: what was made of it must not be written."""


class Lease:
    """A claim that is renewed within the block.

    :param documents: how many were claimed.
    """

    def __init__(self, worker: Worker, generation_id: int, documents: int) -> None:
        self._worker, self._generation, self._documents = worker, generation_id, documents
        self._seen = time.monotonic()
        self._lost, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._renew, name="ragworks-lease", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(PATIENCE)

    def sign(self) -> None:
        """The work goes on.

        :raises ClaimLost: it need not, for it cannot be written any more.
        """
        self._seen = time.monotonic()
        if self._lost.is_set():
            raise ClaimLost

    def _renew(self) -> None:
        said = False
        while not self._over.wait(work_items.LEASE_SECONDS / RENEWALS):
            if time.monotonic() - self._seen > work_items.LEASE_SECONDS:
                if not said:
                    logger.warning("no progress for %d seconds: others may soon take these documents", work_items.LEASE_SECONDS)
                said = True
                continue
            try:
                held = work_items.renew(self._worker, self._generation)
            except psycopg.Error as error:
                logger.warning("could not renew the lease of %d documents: %s", self._documents, error)
                if not self._worker.connection.closed:
                    continue  # the lease outlasts this
                held = 0  # with its connection the claim has gone
            if held < self._documents:
                self._lost.set()
                return
