"""What makes a new generation, and what does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.collection_file import Collection, load_collection
from include.indexing.spec import describe_difference, generation_spec, spec_hash
from tests.support import HashEmbedder, assert_same_index, export, index, query

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from include.config import Settings


def _spec(**sections: object) -> dict[str, object]:
    source = {"type": "files", "path": "x"}
    return generation_spec(Collection.model_validate({"name": "x", "source": source, **sections}), HashEmbedder())


def test_hash_covers_settings_and_not_the_models_name() -> None:
    base = spec_hash(_spec())
    assert spec_hash(_spec(chunking={"max_tokens": 100})) != base
    assert spec_hash(_spec(chunking={"markdown": False})) != base
    assert spec_hash(_spec(embedding={"storage": "vector"})) != base
    assert spec_hash(_spec(index={"m": 8})) != base
    assert spec_hash(_spec(embedding={"model": "another-name-of-the-same-weights"})) == base
    assert spec_hash(_spec(validation={"max_rejected": 0.5}, schedule="@daily", description="x")) == base


def test_difference_is_said_in_words() -> None:
    said = describe_difference(_spec(), _spec(chunking={"max_tokens": 100}))
    assert said == "chunking.max_tokens 200 → 100, lexical.average_terms 50 → 25"


def test_changed_chunking_builds_a_new_generation(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    """The old one is kept for going back; texts that stay the same are not embedded again."""
    collection()
    collection("scratch", chunking={"max_tokens": 30})
    (documents / "long.md").write_text("\n\n".join(f"Paragraph {i} says something of its own." for i in range(60)))
    (documents / "short.md").write_text("A short page.")
    first = index(settings, "handbook", embedder=HashEmbedder())
    collection(chunking={"max_tokens": 30})
    embedder = HashEmbedder()
    second = index(settings, "handbook", embedder=embedder)
    assert second["generation"] != first["generation"]
    assert second["plan"]["changed"] == 2
    assert "A short page." not in embedder.texts
    states = query(settings, "select state from ragworks.generation order by id")
    assert states == [("retired",), ("live",)]
    index(settings, "scratch", embedder=HashEmbedder())
    assert_same_index(export(settings, "handbook"), export(settings, "scratch"))
    assert load_collection(settings, "handbook").chunking.max_tokens == 30


def test_rebuild_reads_and_embeds_everything(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    collection()
    (documents / "a.md").write_text("One page.")
    first = index(settings, "handbook", embedder=HashEmbedder())
    before = export(settings, "handbook")
    again = index(settings, "handbook", embedder=HashEmbedder(), mode="rebuild")
    assert again["generation"] != first["generation"]
    assert again["chunks"] == {"total": 1, "embedded": 1, "reused": 0, "written": 1, "deleted": 0}
    assert_same_index(export(settings, "handbook"), before)


def test_plan_changes_nothing(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    collection()
    (documents / "a.md").write_text("One page.")
    plan = index(settings, "handbook", embedder=HashEmbedder(), mode="plan")
    assert (plan["plan"]["added"], plan["generation"]) == (1, None)
    for table in ("generation", "document", "document_text", "source_object", "work_item", "quarantine"):
        assert query(settings, f"select count(*) from ragworks.{table}") == [(0,)]
    assert query(settings, "select state from ragworks.run") == [("planned",)]
    assert query(settings, "select uri, action, reason from ragworks.run_document") == [("a.md", "added", "new in the source")]


def test_renamed_and_identical_texts_are_not_embedded_again(
    settings: Settings, documents: Path, collection: Callable[..., str]
) -> None:
    collection()
    for number in range(4):
        (documents / f"{number}.md").write_text(f"Page {number}.")
    index(settings, "handbook", embedder=HashEmbedder())
    for number in range(4):
        (documents / f"{number}.md").rename(documents / f"moved-{number}.md")
    (documents / "copy.md").write_text("Page 1.")
    embedder = HashEmbedder()
    result = index(settings, "handbook", embedder=embedder)
    assert embedder.texts == []
    assert (result["plan"]["renamed"], result["plan"]["added"], result["plan"]["deleted"]) == (4, 1, 0)
    reasons = query(settings, "select uri, reason from ragworks.run_document where action = 'renamed' order by uri")
    assert ("moved-0.md", "moved from 0.md") in reasons


def test_metadata_alone_writes_no_chunk(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    path = documents / "rows.jsonl"
    collection(source={"type": "jsonl", "path": str(path)})
    path.write_text('{"id": "a", "text": "Row.", "metadata": {"team": "red"}}\n')
    index(settings, "handbook", embedder=HashEmbedder())
    path.write_text('{"id": "a", "text": "Row.", "metadata": {"team": "blue"}}\n')
    result = index(settings, "handbook", embedder=HashEmbedder())
    assert (result["plan"]["metadata_only"], result["chunks"]["written"]) == (1, 0)
    assert export(settings, "handbook")[0]["metadata"]["team"] == "blue"


def test_an_insertion_at_the_top_writes_no_vector_again(
    settings: Settings, documents: Path, collection: Callable[..., str]
) -> None:
    """Moved chunks are updated in place: HNSW is not touched for them."""
    collection()
    body = "\n\n".join(f"## Section {i}\n\n" + f"Sentence about subject {i}. " * 40 for i in range(20))
    (documents / "long.md").write_text(body)
    first = index(settings, "handbook", embedder=HashEmbedder())
    (documents / "long.md").write_text(f"# A new title\n\nWith a new introduction. {'More of it. ' * 80}\n\n{body}")
    second = index(settings, "handbook", embedder=HashEmbedder())
    assert second["chunks"]["embedded"] <= 5
    assert second["chunks"]["reused"] >= first["chunks"]["total"] - 2
    assert second["chunks"]["deleted"] <= 2


def test_changed_canary_stops_the_run(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    import numpy as np
    import pytest

    from include.errors import Terminal

    class Drifted(HashEmbedder):
        def embed_documents(self, texts, progress=None):  # type: ignore[no-untyped-def]
            vectors = super().embed_documents(texts) + 0.05
            return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    collection()
    (documents / "a.md").write_text("One page.")
    index(settings, "handbook", embedder=HashEmbedder())
    (documents / "b.md").write_text("Another page.")
    with pytest.raises(Terminal, match="changed under the same name"):
        index(settings, "handbook", embedder=Drifted())
    assert index(settings, "handbook", embedder=HashEmbedder())["chunks"]["total"] == 2
