"""All that the steps of one indexing run share, opened once per process."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from include.collection_file import CHAMPION, Chunking, Index, load_collection
from include.embedding.embedder import check_window, open_embedder, open_recorded, recorded_embedding
from include.errors import Terminal
from include.indexing.chunking import CHUNKER_VERSION
from include.indexing.cutter import Cutter
from include.indexing.opening import open_collection_source
from include.indexing.spec import generation_spec, spec_hash
from include.progress import Progress, Silent
from include.registry.champions import with_champion
from include.store.pool import open_pool

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from include.collection_file import Collection
    from include.config import Settings
    from include.embedding.embedder import Embedder
    from include.sources.source import Source
    from include.store.generations import Generation
    from include.store.pool import Pool


@dataclass(frozen=True, slots=True)
class IndexContext:
    """A collection, its source, its embedder and the database.

    :param follows_champion: the collection file asks for the embedder that was promoted; ``collection`` names which that was.
    """

    settings: Settings
    collection: Collection
    source: Source
    embedder: Embedder
    pool: Pool
    progress: Progress = field(default_factory=Silent)
    cutter: Cutter = field(default_factory=Cutter)
    follows_champion: bool = False

    def for_generation(self, generation: Generation) -> IndexContext:
        """The same with the settings and the model that a generation was begun with.

        :raises Terminal: its chunker or its model is not to be had any more.
        """
        if generation.spec_hash == spec_hash(generation_spec(self.collection, self.embedder)):
            return self
        spec = generation.spec
        version = spec["chunking"].get("version")
        if version != CHUNKER_VERSION:
            raise Terminal(
                f"generation {generation.id} was cut by chunker {version}", f"this version has {CHUNKER_VERSION}",
                f"Run: ragworks index {self.collection.name}",
            )  # fmt: skip
        embedding = recorded_embedding(spec)
        same = generation.embedder == self.embedder.fingerprint
        embedder = self.embedder if same else open_recorded(generation.embedder, embedding, self.settings)
        sections = {
            "chunking": Chunking.model_validate({k: v for k, v in spec["chunking"].items() if k != "version"}),
            # No row depends on the price: what is embedded now costs what the file says now.
            "embedding": embedding.model_copy(update={"price_per_million_tokens": self._price}),
            "index": Index.model_validate(spec["index"]),
        }
        return replace(self, collection=self.collection.model_copy(update=sections), embedder=embedder)

    @property
    def _price(self) -> float | None:
        return self.collection.embedding.price_per_million_tokens


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

    Where the file says ``embedding.model: champion`` the context names the model that this means now.

    :param embedder: instead of the one in the collection's settings.
    :param storage_options: for fsspec, from an Airflow connection.
    """
    collection = load_collection(settings, name)
    source = open_collection_source(collection, storage_options=storage_options)
    with open_pool(settings) as pool:
        follows = collection.embedding.model == CHAMPION
        if follows:
            with pool.connection() as connection:
                collection = with_champion(connection, settings, collection)
        chosen = embedder or open_embedder(collection.embedding, settings)
        check_window(collection, chosen)
        yield IndexContext(settings, collection, source, chosen, pool, progress or Silent(), follows_champion=follows)
