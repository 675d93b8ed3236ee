"""Notices a model that changed under its name: vectors of two models in one index would make its distances meaningless."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from include.embedding.embedder import CANARY_TOLERANCE
from include.errors import Terminal
from include.indexing.embeddable import check_embedder
from include.indexing.reuse import canary_drift, reusable, vector_drift
from include.store import chunks, generations

if TYPE_CHECKING:
    from include.indexing.context import IndexContext
    from include.store.generations import Generation
    from include.store.pool import Connection


def check_canary(connection: Connection, context: IndexContext, target: Generation, *, rebuild: bool) -> None:
    """Embed the canary strings, compare them with those of the vectors that the generation has or may take over, and keep them.

    The model is asked between two transactions, so that no lock waits for it.

    :param rebuild: it takes over nothing.
    :raises Terminal: they moved by more than ``CANARY_TOLERANCE``.
    """
    reuse = reusable(connection, target, rebuild=rebuild)
    # An earlier release may have kept no canary: then the vectors that are there tell of their model.
    sample = [] if reuse.canary else chunks.sample_vectors(connection, target, reuse.sources)
    connection.commit()
    made = check_embedder(context.embedder).ravel().tolist()
    drift = 0.0
    if sample:
        now = context.embedder.embed_documents([text for text, _ in sample])
        drift = vector_drift(np.stack([vector for _, vector in sample]), now)
    generations.save_canary(connection, target.id, made)
    kept = generations.generation(connection, target.id).canary  # another worker's, if that was first
    before = [c for c in (kept, reuse.canary, *(g.canary for g in reuse.sources)) if c]
    drift = max(drift, *(canary_drift(canary, made) for canary in before))
    if drift > CANARY_TOLERANCE:
        raise Terminal(
            f"the embedder of {context.collection.name} changed under the same name",
            f"its canary strings moved by {drift:.4f} cosine, more than {CANARY_TOLERANCE}",
            "Restore the model, or run with --rebuild to embed everything again",
        )
