"""A collection's source as a run reads it: whoever compares fingerprints with those of a run opens it here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from include.privacy.source import scrubbed
from include.sources import open_source

if TYPE_CHECKING:
    from collections.abc import Mapping

    from include.collection_file import Collection
    from include.sources.source import Source


def open_collection_source(collection: Collection, *, storage_options: Mapping[str, Any] | None = None) -> Source:
    """The source of :func:`include.sources.open_source`, behind the collection's scrubber where it has one.

    :raises BadConfiguration: as ``open_source``, and for an unknown kind in ``privacy.scrub``.
    """
    return scrubbed(open_source(collection, storage_options=storage_options), collection.privacy)
