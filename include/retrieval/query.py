"""What is asked of a collection, and what is found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from include.store.scope import ALL_PRINCIPALS, AllPrincipals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from include.collection_file import Mode
    from include.store.search import Hit
__all__ = ["ALL_PRINCIPALS", "Found", "Query"]


@dataclass(frozen=True, slots=True)
class Query:
    """One question.

    :param top_k: passages wanted.
    :param mode: None: as the collection file says.
    :param filters: metadata that must match; a list of values means any of them.
    :param principals: for whom documents with an ACL are seen, none by default; :data:`ALL_PRINCIPALS`: all are.
    :param rerank: True demands the second stage, False leaves it out, None: as the collection file says.
    :param copies: show also passages that say the same as a better one.
    :param neighbours: chunks shown around each one found; None: as the collection file says.
    """

    text: str
    top_k: int = 10
    mode: Mode | None = None
    filters: Mapping[str, Any] = field(default_factory=dict)
    principals: Sequence[str] | AllPrincipals = ()
    rerank: bool | None = None
    copies: bool = False
    neighbours: int | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What answers it.

    :param hits: best first.
    :param passport: collection, generation, mode, embedder, lexical, reranker: what answered.
    :param seconds: embed, search, rerank.
    :param vector: of the question, shape (dimension,); None in lexical mode.
    """

    hits: list[Hit]
    passport: dict[str, Any]
    seconds: dict[str, float] = field(default_factory=dict)
    vector: NDArray[np.float32] | None = None
