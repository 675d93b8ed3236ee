"""What every reranker offers, and which one a collection asks for."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from include.config import Settings

logger = logging.getLogger(__name__)

CHAMPION = "champion"


class Reranker(Protocol):
    """A model that reads a question and a passage together. Making one is cheap; the model is loaded by the first text.

    ``name`` is what the collection file calls it. Two rerankers with the same ``fingerprint`` give the same scores.
    ``weight`` is the share of its score in the final one that was fitted for it, 0 to 1; None when nobody did. May be called
    from several threads.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def fingerprint(self) -> str: ...  # noqa: D102
    @property
    def weight(self) -> float | None: ...  # noqa: D102

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """One score a text, in the order of the texts; higher is better, on any scale."""
        ...


def open_reranker(spec: str, settings: Settings) -> Reranker | None:
    """The reranker that ``retrieval.reranker`` names; nothing heavy is imported yet.

    :param spec: ``champion``, a folder, or a name on the hub.
    :return: None when the champion is asked for and there is none; the same object for the same model otherwise.
    :raises BadConfiguration: there is no such model, or it is not a reranker.
    :raises ServiceUnavailable: the hub does not answer and no copy is here.
    """
    if spec == CHAMPION:
        return _champion()
    return _open(spec)


@lru_cache(maxsize=1)
def _champion() -> None:
    """No registry of models exists yet, so nothing has been promoted; said once a process."""
    logger.info("reranker 'champion': none has been promoted, search has one stage")


@lru_cache(maxsize=4)
def _open(spec: str) -> Reranker:
    from include.retrieval.cross_encoder import CrossEncoderReranker

    return CrossEncoderReranker(spec)
