"""All that the steps of one indexing run share, opened once per process."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from include.config import load_collection
from include.embedding.embedder import check_window, open_embedder
from include.indexing.progress import Progress, Silent
from include.sources import open_source
from include.store.pool import open_pool

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from include.config import Collection, Settings
    from include.embedding.embedder import Embedder
    from include.sources.source import Source
    from include.store.pool import Pool


@dataclass(frozen=True, slots=True)
class IndexContext:
    """A collection, its source, its embedder and the database."""

    collection: Collection
    source: Source
    embedder: Embedder
    pool: Pool
    progress: Progress = field(default_factory=Silent)


@contextmanager
def open_context(
    settings: Settings,
    name: str,
    *,
    embedder: Embedder | None = None,
    progress: Progress | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Iterator[IndexContext]:
    """Open a collection for indexing; nothing is read or loaded yet.

    :param embedder: instead of the one in the collection's settings.
    :param storage_options: for fsspec, from an Airflow connection.
    """
    collection = load_collection(settings, name)
    source = open_source(collection, storage_options=storage_options)
    chosen = embedder or open_embedder(collection.embedding, settings)
    check_window(collection, chosen)
    with open_pool(settings) as pool:
        yield IndexContext(collection, source, chosen, pool, progress or Silent())
