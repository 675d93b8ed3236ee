"""Vectors of two models never stand in one index: whatever a generation was made of, it knows the model of its vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from include.errors import Terminal
from include.indexing.context import open_context
from include.indexing.embed import index_shard
from include.indexing.plan import plan_run
from tests.support import HashEmbedder, export, index, query, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from include.config import Settings

CHANGED = "changed under the same name"


class Other(HashEmbedder):
    """The same name, other weights."""

    def embed_documents(self, texts: Sequence[str], progress: object = None) -> NDArray[np.float32]:
        return -super().embed_documents(texts)[:, ::-1].copy()


@pytest.fixture
def run(settings: Settings, documents: Path) -> Callable[..., dict[str, object]]:
    def indexed(embedder: HashEmbedder | None = None, **options: str) -> dict[str, object]:
        settle(documents)
        return index(settings, "handbook", embedder=embedder or HashEmbedder(), **options)

    return indexed


def _pages(documents: Path, count: int = 8) -> None:
    for number in range(count):
        (documents / f"{number}.md").write_text(f"# Page {number}\n\nText number {number} about things.")


def _of_model(settings: Settings, model: HashEmbedder) -> tuple[int, int]:
    """(live vectors that this model gives, live vectors)."""
    rows = export(settings, "handbook")
    made = model.embed_documents([row["text"] for row in rows])
    held = np.array([row["embedding"] for row in rows])
    return int(np.sum(np.sum(made * held, axis=1) > 0.99)), len(rows)


def _forget_canaries(settings: Settings, *states: str) -> None:
    """As generations of earlier releases are that were made of vectors of others alone."""
    query(settings, "update ragworks.generation set canary = null where state = any(%s) returning id", list(states))


def _two_of_reused_vectors(run: Callable[..., object], documents: Path, collection: Callable[..., str], keep: int = 1) -> None:
    collection()
    _pages(documents)
    run()
    for m in (8, 10):
        collection(index={"m": m}, generations={"keep": keep})
        run()


def test_a_generation_of_reused_vectors_keeps_their_canary(
    run: Callable[..., dict[str, object]], settings: Settings, documents: Path, collection: Callable[..., str]
) -> None:
    _two_of_reused_vectors(run, documents, collection)
    kept = query(settings, "select canary from ragworks.generation order by id")
    assert len(kept) == 2
    assert kept[0] == kept[1] != (None,)
    (documents / "new.md").write_text("# New\n\nA new text.")
    with pytest.raises(Terminal, match=CHANGED):
        run(Other())
    assert _of_model(settings, HashEmbedder()) == (8, 8)
    run()
    assert _of_model(settings, HashEmbedder()) == (9, 9)


def test_a_rebuild_writes_no_vector_of_the_new_model_into_the_live_generation(
    run: Callable[..., dict[str, object]], settings: Settings, documents: Path, collection: Callable[..., str]
) -> None:
    _two_of_reused_vectors(run, documents, collection)
    (documents / "new.md").write_text("# New\n\nA new text.")
    settle(documents)
    with open_context(settings, "handbook", embedder=Other()) as context:
        plan_run(context, "rebuilt", mode="rebuild")
        index_shard(context, "rebuilt")  # brings the live one in step first, were its model there
        assert _of_model(settings, HashEmbedder()) == (8, 8)
    run(Other(), mode="rebuild")
    assert _of_model(settings, Other()) == (9, 9)


def test_after_a_rebuild_no_vector_of_the_model_before_is_used(
    run: Callable[..., dict[str, object]], settings: Settings, documents: Path, collection: Callable[..., str]
) -> None:
    _two_of_reused_vectors(run, documents, collection)
    run(Other(), mode="rebuild")
    _forget_canaries(settings, "retired")
    collection(index={"m": 12}, generations={"keep": 3})
    done = run(Other())
    assert done["chunks"]["embedded"] == 0  # type: ignore[index]
    assert _of_model(settings, Other()) == (8, 8)


@pytest.mark.parametrize("before", ["a sibling's canary", "the vectors themselves"])
def test_an_index_that_kept_no_canary_is_not_mixed_either(
    before: str, run: Callable[..., dict[str, object]], settings: Settings, documents: Path, collection: Callable[..., str]
) -> None:
    _two_of_reused_vectors(run, documents, collection)
    _forget_canaries(settings, "live", *([] if before == "a sibling's canary" else ["retired"]))
    (documents / "new.md").write_text("# New\n\nA new text.")
    with pytest.raises(Terminal, match=CHANGED):
        run(Other())
    run(Other(), mode="plan")
    assert _of_model(settings, HashEmbedder()) == (8, 8)
    run()
    assert _of_model(settings, HashEmbedder()) == (9, 9)
    assert query(settings, "select canary is not null from ragworks.generation where state = 'live'") == [(True,)]


def test_a_refused_rebuild_gives_no_vectors_to_the_next_generation(
    run: Callable[..., dict[str, object]], settings: Settings, documents: Path, collection: Callable[..., str]
) -> None:
    """The endpoint served another model for a while, and serves the former again: what that made is left alone."""
    collection()
    _pages(documents)
    run()
    run(Other(), mode="rebuild")
    query(settings, "update ragworks.generation set state = 'failed' where state = 'live' returning id")
    query(settings, "update ragworks.generation set state = 'live' where state = 'retired' returning id")
    collection(index={"m": 8})
    run()
    assert _of_model(settings, HashEmbedder()) == (8, 8)
    (documents / "new.md").write_text("# New\n\nA new text.")
    run()
    assert _of_model(settings, HashEmbedder()) == (9, 9)


def test_two_workers_that_begin_at_once_with_different_models(
    settings: Settings, documents: Path, collection: Callable[..., str]
) -> None:
    """While the second embeds its canary the first keeps its own: the second stops."""
    collection()
    _pages(documents)
    settle(documents)

    class Late(Other):
        def embed_documents(self, texts: Sequence[str], progress: object = None) -> NDArray[np.float32]:
            made = HashEmbedder().embed_documents(texts).ravel().tolist()
            query(settings, "update ragworks.generation set canary = %s where canary is null returning id", made)
            return super().embed_documents(texts)

    with pytest.raises(Terminal, match=CHANGED):
        index(settings, "handbook", embedder=Late())
