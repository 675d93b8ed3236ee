"""Passages that are drawn from the live index by chance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from include.store import collections, generations, model_runs
from include.store.passages import sample_passages
from include.store.pool import open_pool
from tests.support import HashEmbedder, export, index

if TYPE_CHECKING:
    from pathlib import Path

    from include.config import Settings


def test_they_are_chunks_of_the_live_index(settings: Settings, collection: Any, documents: Path) -> None:
    for n in range(6):
        (documents / f"{n}.md").write_text(f"# Page {n}\n\n" + f"A sentence of page {n} that says something. " * 30)
    name = collection(chunking={"max_tokens": 60})
    index(settings, name, embedder=HashEmbedder())
    held = {(row["document"], row["text"]) for row in export(settings, name)}
    with open_pool(settings) as pool, pool.connection() as connection:
        live = generations.live_of(connection, name)
        everything = sample_passages(connection, live, 1000, seed=0)
        assert set(everything) == held
        assert len(everything) > 12
        some = sample_passages(connection, live, 5, seed=0)
        assert some == everything[:5]
        assert sample_passages(connection, live, 5, seed=1) != some
        assert sample_passages(connection, live, 0, seed=0) == []


def test_development_questions_are_asked_among_them(settings: Settings, collection: Any, documents: Path) -> None:
    from tests.training.tiny import plan, run

    for n in range(4):
        (documents / f"{n}.md").write_text(f"# Page {n}\n\nA sentence of page {n}.")
    index(settings, collection(), embedder=HashEmbedder())
    done = run(settings, plan(settings, "among", max_steps=1, dev_passages=3))
    with open_pool(settings) as pool, pool.connection() as connection:
        assert model_runs.by_key(connection, "among").collection_id == collections.collection_id(connection, "handbook")
    assert (done.training["dev_questions"], done.training["dev_passages"]) == (6, 6 + 3)
