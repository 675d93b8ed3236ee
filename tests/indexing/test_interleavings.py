"""Two runs, two generations, repairs and reverts in unlucky order: each of these once lost or invented something."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from include.errors import BadData, Terminal
from include.indexing.context import open_context
from include.indexing.embed import index_shard
from include.indexing.plan import plan_run
from include.indexing.publish import publish_run, validate_run
from include.sources.jsonl import JsonlSource
from tests.conftest import write_rows
from tests.support import HashEmbedder, assert_same_index, export, index, query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from include.config import Settings
    from include.indexing.context import IndexContext


@pytest.fixture
def context(settings: Settings, documents: Path, collection: Callable[..., str]) -> Iterator[IndexContext]:
    """A live collection of ten pages."""
    collection(validation={"max_deleted": 0.5})
    _pages(documents, range(10))
    index(settings, "handbook", embedder=HashEmbedder())
    with open_context(settings, "handbook", embedder=HashEmbedder()) as opened:
        yield opened


def _pages(documents: Path, numbers: Sequence[int], text: str = "Page") -> None:
    for number in numbers:
        (documents / f"{number}.md").write_text(f"{text} {number}.")


def _live(settings: Settings) -> set[str]:
    return {row["document"] for row in export(settings, "handbook")}


def _equals_rebuild(settings: Settings, collection: Callable[..., str], **sections: Any) -> None:
    collection("scratch", **sections)
    index(settings, "scratch", embedder=HashEmbedder())
    assert_same_index(export(settings, "handbook"), export(settings, "scratch"))


def test_a_new_generation_has_what_came_meanwhile(context: IndexContext, settings: Settings, documents: Path) -> None:
    plan_run(context, "rebuild", mode="rebuild")
    _pages(documents, range(10, 14))
    index(settings, "handbook", embedder=HashEmbedder())
    index_shard(context, "rebuild")
    validate_run(context, "rebuild")
    publish_run(context, "rebuild")
    assert len(_live(settings)) == 14


def test_a_run_whose_generation_was_replaced_says_so(context: IndexContext, settings: Settings, documents: Path) -> None:
    _pages(documents, [10])
    plan_run(context, "slow")
    index(settings, "handbook", embedder=HashEmbedder(), mode="rebuild")
    index_shard(context, "slow")
    assert not publish_run(context, "slow").changed  # the rebuild has it already
    assert len(_live(settings)) == 11


def test_stale_queue_rows_do_not_keep_a_worker_busy(context: IndexContext, settings: Settings, documents: Path) -> None:
    plan_run(context, "rebuild", mode="rebuild")
    _pages(documents, range(10), "Other page")
    index(settings, "handbook", embedder=HashEmbedder())  # publishes, and collects the texts that the queue names
    assert index_shard(context, "rebuild") == 10
    publish_run(context, "rebuild")
    assert {row["text"] for row in export(settings, "handbook")} == {f"Other page {i}." for i in range(10)}


class _Nan(HashEmbedder):
    fingerprint = "hash:broken"

    def embed_documents(self, texts: Sequence[str], progress: object = None) -> NDArray[np.float32]:
        return super().embed_documents(texts) * (1.0 if texts and texts[0].startswith("The quick") else np.nan)


def test_what_one_generation_refused_another_accepts(context: IndexContext, settings: Settings, documents: Path) -> None:
    before = export(settings, "handbook")
    with pytest.raises(BadData, match="10 of 10"):
        index(settings, "handbook", embedder=_Nan())
    assert export(settings, "handbook") == before
    back = index(settings, "handbook", embedder=HashEmbedder())
    assert (back["plan"]["unchanged"], back["quarantined"]) == (10, 0)


def test_an_all_refused_generation_never_goes_live(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    collection(validation={"max_rejected": 0.5})
    _pages(documents, range(20))
    with pytest.raises(BadData, match="20 of 20"):
        index(settings, "handbook", embedder=_Nan())


def test_a_half_read_file_is_read_again(
    settings: Settings, documents: Path, collection: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection drops in the middle of a new version, then the link points to the old one again."""
    old, new, link = documents / "v1.jsonl", documents / "v2.jsonl", documents / "current.jsonl"
    write_rows(old, [{"id": str(i), "text": f"Old {i}."} for i in range(1500)])
    write_rows(new, [{"id": str(i), "text": f"New {i}."} for i in range(1500)])
    for path in (old, new):
        os.utime(path, (1e9, 1e9))
    link.symlink_to(old)
    collection(source={"type": "jsonl", "path": str(link)})
    index(settings, "handbook", embedder=HashEmbedder())
    before = export(settings, "handbook")
    link.unlink()
    link.symlink_to(new)
    read = JsonlSource.read

    def breaks(self: JsonlSource, obj: Any) -> Iterator[Any]:
        for number, document in enumerate(read(self, obj)):
            if number == 1200:
                raise ConnectionError("cut")
            yield document

    with monkeypatch.context() as patched:
        patched.setattr(JsonlSource, "read", breaks)
        with pytest.raises(ConnectionError):
            index(settings, "handbook", embedder=HashEmbedder())
    link.unlink()
    link.symlink_to(old)
    index(settings, "handbook", embedder=HashEmbedder())
    assert export(settings, "handbook") == before


def test_a_repair_under_the_same_run_key_opens_the_gate(context: IndexContext, settings: Settings, documents: Path) -> None:
    """Airflow's "clear" runs a stopped plan again with the same run id."""
    _pages(documents, range(10, 14))
    for number in range(4):
        (documents / f"{number}.md").write_text("")
    with pytest.raises(BadData, match="rejected"):
        plan_run(context, "cleared")
    _pages(documents, range(4), "Repaired")
    assert plan_run(context, "cleared").quarantined == 0
    index_shard(context, "cleared")
    publish_run(context, "cleared")
    assert len(_live(settings)) == 14


def test_a_line_inserted_above_makes_no_bad_row_new(
    settings: Settings, documents: Path, collection: Callable[..., str]
) -> None:
    rows = [{"id": str(i), "text": "" if i % 50 == 0 else f"Row {i}."} for i in range(200)]
    write_rows(documents / "rows.jsonl", rows)
    collection(source={"type": "jsonl", "path": str(documents / "rows.jsonl")})
    assert index(settings, "handbook", embedder=HashEmbedder())["quarantined"] == 4
    write_rows(documents / "rows.jsonl", [{"id": "top", "text": "On top."}, *rows])
    result = index(settings, "handbook", embedder=HashEmbedder())
    assert (result["quarantined"], result["plan"]["added"]) == (4, 1)


class _Poison(HashEmbedder):
    def embed_documents(self, texts: Sequence[str], progress: object = None) -> NDArray[np.float32]:
        vectors = super().embed_documents(texts)
        vectors[[i for i, t in enumerate(texts) if "poison" in t]] = np.nan
        return vectors


def test_bad_then_good_then_bad_again_is_seen_again(context: IndexContext, settings: Settings, documents: Path) -> None:
    for text, quarantined in (("poison", 1), ("good", 0), ("poison", 1)):
        (documents / "3.md").write_text(f"Now {text}.")
        assert index(settings, "handbook", embedder=_Poison())["quarantined"] == quarantined


def test_an_access_list_follows_even_where_new_content_is_refused(
    settings: Settings, documents: Path, collection: Callable[..., str]
) -> None:
    path = documents / "rows.jsonl"
    collection(source={"type": "jsonl", "path": str(path)})

    def rows(text: str, acl: list[str]) -> None:
        write_rows(path, [{"id": "x", "text": text, "acl": acl}, *({"id": str(i), "text": f"Row {i}."} for i in range(30))])

    acl = "select g.acl from ragworks.generation_document g join ragworks.document d on d.id = g.document_id where d.uri = 'x'"
    for text, readers in (("Secret.", ["all"]), ("Secret poison.", ["all"]), ("Secret poison.", ["boss"])):
        rows(text, readers)
        index(settings, "handbook", embedder=_Poison())
        assert query(settings, acl) == [(readers,)]
    assert [r["text"] for r in export(settings, "handbook") if r["document"] == "x"] == ["Secret."]


def test_duplicates_across_files_do_not_depend_on_history(
    settings: Settings, documents: Path, collection: Callable[..., str]
) -> None:
    source = {"type": "jsonl", "path": str(documents)}
    collection(source=source)
    write_rows(documents / "b.jsonl", [{"id": "x", "text": "From b."}, {"id": "y", "text": "Y."}])
    index(settings, "handbook", embedder=HashEmbedder())
    write_rows(documents / "a.jsonl", [{"id": "x", "text": "From a."}])
    assert index(settings, "handbook", embedder=HashEmbedder())["quarantined"] == 1
    _equals_rebuild(settings, collection, source=source)
    write_rows(documents / "a.jsonl", [{"id": "z", "text": "Z."}])
    result = index(settings, "handbook", embedder=HashEmbedder())
    assert result["quarantined"] == 0
    assert {r["document"]: r["text"] for r in export(settings, "handbook")} == {"x": "From b.", "y": "Y.", "z": "Z."}


def test_allowed_deletions_are_those_the_run_showed(
    context: IndexContext, settings: Settings, documents: Path, collection: Callable[..., str]
) -> None:
    _pages(documents, [10])
    plan_run(context, "allowed", allow_deletes=True)
    for number in range(8):
        (documents / f"{number}.md").unlink()
    with pytest.raises(BadData, match="would delete 8"):
        index(settings, "handbook", embedder=HashEmbedder())
    index_shard(context, "allowed")
    with pytest.raises(BadData, match="would delete 8"):
        publish_run(context, "allowed")
    assert len(_live(settings)) == 10


def test_settings_edited_between_plan_and_index(
    context: IndexContext, settings: Settings, documents: Path, collection: Callable[..., str]
) -> None:
    _pages(documents, [10])
    plan_run(context, "planned")
    collection(chunking={"max_tokens": 20})
    with open_context(settings, "handbook", embedder=HashEmbedder()) as edited:
        index_shard(edited, "planned")
        publish_run(edited, "planned")
    _equals_rebuild(settings, collection)  # the run went on as planned
    collection(chunking={"max_tokens": 20})
    index(settings, "handbook", embedder=HashEmbedder())
    _equals_rebuild(settings, collection, chunking={"max_tokens": 20})


class _Moved(HashEmbedder):
    """Another model under the same name."""

    def embed_documents(self, texts: Sequence[str], progress: object = None) -> NDArray[np.float32]:
        vectors = super().embed_documents(texts) + 0.05
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_vectors_of_two_models_never_mix(
    context: IndexContext, settings: Settings, documents: Path, collection: Callable[..., str]
) -> None:
    _pages(documents, [10])
    collection(chunking={"max_tokens": 20})  # a new generation, which would reuse the old vectors
    with pytest.raises(Terminal, match="changed under the same name"):
        index(settings, "handbook", embedder=_Moved())
    index(settings, "handbook", embedder=_Moved(), mode="rebuild")
    embedder = _Moved()
    _pages(documents, [11])
    (documents / "12.md").write_text("Page 3.")  # held by the retired generation of the other model too
    index(settings, "handbook", embedder=embedder)
    rows = export(settings, "handbook")
    expected = _Moved().embed_documents([row["text"] for row in rows])
    assert np.allclose(np.array([row["embedding"] for row in rows]), expected, atol=2e-3)


def test_a_resumed_build_counts_its_deletions_once(
    context: IndexContext, settings: Settings, documents: Path, collection: Callable[..., str]
) -> None:
    collection(chunking={"max_tokens": 20}, validation={"max_deleted": 0.35})
    with open_context(settings, "handbook", embedder=HashEmbedder()) as changed:
        plan_run(changed, "killed")
        index_shard(changed, "killed")
    for number in range(3):
        (documents / f"{number}.md").unlink()
    assert index(settings, "handbook", embedder=HashEmbedder())["plan"]["deleted"] == 3
    assert len(_live(settings)) == 7


def test_a_killed_rebuild_goes_on(context: IndexContext, settings: Settings, documents: Path) -> None:
    plan_run(context, "killed", mode="rebuild")
    index_shard(context, "killed")
    embedder = HashEmbedder()
    again = index(settings, "handbook", embedder=embedder, mode="rebuild")
    assert (again["chunks"]["embedded"], again["chunks"]["total"], embedder.texts) == (0, 10, [])
    assert query(settings, "select count(*) from ragworks.generation where state = 'building'") == [(0,)]
