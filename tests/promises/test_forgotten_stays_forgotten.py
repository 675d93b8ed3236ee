"""A forgotten document is nowhere, at once, and stays out: whatever runs are doing, and whatever the source says."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from include.errors import BadData, Transient
from include.indexing.activate import rollback
from include.indexing.context import open_context
from include.indexing.embed import index_shard
from include.indexing.erasing import erase_document
from include.indexing.plan import plan_run
from include.indexing.publish import publish_run, validate_run
from include.retrieval.searcher import Searcher
from include.sources.local import LocalFolder
from include.store import chunks, datasets, forgotten, golden, reports, work_items
from include.store.conversations import Conversation, save_conversations
from include.store.datasets import Negative, Pair
from include.store.pool import open_pool
from tests.conftest import write_rows
from tests.store.remains import in_rows
from tests.support import HashEmbedder, assert_same_index, export, index, query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from include.config import Settings
    from include.indexing.erasing import Erasure

URI, MARKER = "people/jane-7391.md", "Kowalczyk7391"
JSONL = "row-7391"
NOWHERE: set[tuple[str, str]] = set()


class _Poison(HashEmbedder):
    """Refuses, by a vector that is none, texts with a certain word."""

    def embed_documents(self, texts: Sequence[str], progress: object = None) -> NDArray[np.float32]:
        vectors = super().embed_documents(texts)
        vectors[[i for i, t in enumerate(texts) if "poison" in t]] = np.nan
        return vectors


@pytest.fixture
def pages(documents: Path, collection: Callable[..., str]) -> Path:
    """Ten pages, one of them about a person."""
    collection(validation={"max_deleted": 0.5, "max_rejected": 0.5})
    (documents / "people").mkdir()
    for number in range(9):
        (documents / f"{number}.md").write_text(f"# Page {number}\n\nIt says {number}.")
    (documents / URI).write_text(f"# About {MARKER}\n\n{MARKER} lives in the old mill.")
    return documents


def _forget(settings: Settings, uri: str = URI, **options: Any) -> Erasure:
    with open_pool(settings) as pool:
        return erase_document(pool, 1, uri, **options)


def _live(settings: Settings) -> set[str]:
    return {row["document"] for row in export(settings, "handbook")}


def _read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are opened from now on."""
    opened: list[str] = []
    original = LocalFolder.open

    def counted(self: LocalFolder, uri: str) -> Any:
        opened.append(uri)
        return original(self, uri)

    monkeypatch.setattr(LocalFolder, "open", counted)
    return opened


def _chats() -> list[Conversation]:
    """One that rests on the document, and two that only name it: in the question, in what is known of it."""
    asked = ({"role": "user", "content": "Who lives there?"}, {"role": "assistant", "content": f"{MARKER} [1]"})
    naming = ({"role": "user", "content": f"What says {URI}?"}, {"role": "assistant", "content": "Nothing."})
    plain = ({"role": "user", "content": "Who knows?"}, {"role": "assistant", "content": "Nobody."})
    return [
        Conversation(asked, uri="3.md", documents=(URI, "3.md")), Conversation(naming), Conversation(plain, metadata={"a": URI})
    ]  # fmt: skip


def test_it_is_nowhere(settings: Settings, pages: Path, collection: Callable[..., str]) -> None:
    """Live, retired, building and staged; refused, renamed, named in errors and reports: every place at once."""
    page = pages / URI
    index(settings, "handbook", embedder=HashEmbedder())
    page.rename(pages / "elsewhere.md")
    index(settings, "handbook", embedder=HashEmbedder())
    (pages / "elsewhere.md").rename(page)  # moved from elsewhere.md, and the other way round
    index(settings, "handbook", embedder=HashEmbedder())
    page.write_text(f"# About {MARKER}\n\nNow with poison.")
    index(settings, "handbook", embedder=_Poison())  # in quarantine, the good version stays live
    with open_pool(settings) as pool, pool.connection() as connection:
        spans = (golden.GoldenSpan(URI, 0, 20), golden.GoldenSpan(URI))
        golden.save(connection, 1, [golden.GoldenQuery(f"Where does {MARKER} live?", spans)])
        about = Pair(f"Where does {MARKER} live?", URI, 0, 20, f"{MARKER} lives in the old mill.")
        other = Pair("What does page 3 say?", "3.md", 0, 8, "It says 3.", negatives=(Negative(URI, 0, 20, MARKER),))
        datasets.save(connection, 1, "training", [about, other], arguments={}, statistics={"seen": [URI]})
        save_conversations(connection, 1, "chats", _chats(), kind="conversations", arguments={}, statistics={})
    collection(chunking={"max_tokens": 100}, validation={"max_deleted": 0.5, "max_rejected": 0.5})
    page.write_text(f"# About {MARKER}\n\nIn another mill.")
    index(settings, "handbook", embedder=HashEmbedder())  # a second generation; the first retires
    aside = page.read_text()
    for path in (*pages.glob("[0-6].md"), page):
        path.unlink()
    with pytest.raises(BadData, match=URI):
        index(settings, "handbook", embedder=HashEmbedder())  # the brake names it in the run's error and plan
    for number in range(7):
        (pages / f"{number}.md").write_text(f"# Page {number}\n\nIt says {number}.")
    page.write_text(aside + f"\n\n{MARKER} moved.")
    with open_context(settings, "handbook", embedder=HashEmbedder()) as context:
        plan_run(context, "rebuilt", mode="rebuild")
        index_shard(context, "rebuilt")
        page.write_text(aside + f"\n\n{MARKER} moved again.")
        plan_run(context, "staged")
        index_shard(context, "staged")
        page.write_text(aside + f"\n\n{MARKER} in a version of which only the text is left.")
        plan_run(context, "overtaken")
        page.write_text(aside + f"\n\n{MARKER} is still to be embedded.")
        plan_run(context, "queued")

        held = {table for table, _ in in_rows(settings, [URI, MARKER])}
        assert held >= {
            "document", "document_text", "generation_document", "quarantine", "run", "run_document", "source_object",
            "validation_report", "golden_span", "golden_query", "dataset", "dataset_row", "dataset_negative",
            "dataset_conversation", "spans_1", "spans_2", "spans_3", "staged_2",
        }  # fmt: skip
        erasure = _forget(settings)
        assert in_rows(settings, [URI, MARKER, "jane-7391"]) == NOWHERE
        assert erasure.known
        assert erasure.erased.keys() >= {*held - {"golden_query"}, "work_item"}
        assert (erasure.shared_with, erasure.models) == ([], [])
        assert _live(settings) == {f"{n}.md" for n in range(9)}
        index_shard(context, "rebuilt")
        publish_run(context, "rebuilt")  # planned before, published after
    assert _live(settings) == {f"{n}.md" for n in range(9)}
    assert in_rows(settings, [URI, MARKER]) == NOWHERE
    assert query(settings, "select count(*) from ragworks.run_document where uri = '3.md'")[0][0] > 0  # others keep theirs


def test_search_and_export_at_once(settings: Settings, pages: Path) -> None:
    index(settings, "handbook", embedder=HashEmbedder())
    with open_pool(settings) as pool:
        searcher = Searcher(settings, pool, "handbook", embedder=HashEmbedder())
        assert URI in {hit.document for hit in searcher.search("mill", top_k=20)[0]}
        erase_document(pool, 1, URI)
        assert {hit.document for hit in searcher.search("mill", top_k=20)[0]} == {f"{n}.md" for n in range(9)}
    _equals_rebuild(settings, pages)


def _equals_rebuild(settings: Settings, pages: Path) -> None:
    """The live index is the one that a source without the document gives."""
    live = export(settings, "handbook")
    (pages / URI).rename(pages.parent / "jane.md")
    index(settings, "handbook", embedder=HashEmbedder(), mode="rebuild", allow_deletes=True)
    assert_same_index(live, export(settings, "handbook"))
    (pages.parent / "jane.md").rename(pages / URI)


def test_files_stay_out_and_unchanged_runs_read_nothing(
    settings: Settings, pages: Path, collection: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    time.sleep(0.1)  # files that changed just before a listing are read twice
    index(settings, "handbook", embedder=HashEmbedder())
    _forget(settings)
    opened = _read(monkeypatch)
    for _ in range(20):
        result = index(settings, "handbook", embedder=HashEmbedder())
        assert (result["plan"]["unchanged"], result["quarantined"], sum(result["plan"].values())) == (9, 0, 9)
    assert opened == []
    (pages / URI).write_text(f"{MARKER} in a new version.")
    index(settings, "handbook", embedder=HashEmbedder())
    collection(chunking={"max_tokens": 100})
    index(settings, "handbook", embedder=HashEmbedder())
    assert opened == []
    index(settings, "handbook", embedder=HashEmbedder(), mode="rebuild")
    assert sorted(opened) == [f"{n}.md" for n in range(9)]
    assert _live(settings) == {f"{n}.md" for n in range(9)}
    assert in_rows(settings, [URI, MARKER]) == NOWHERE


def test_rows_stay_out_and_unchanged_runs_read_nothing(
    settings: Settings, documents: Path, collection: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"id": f"row-{n}", "text": f"Row {n}."} for n in range(30)] + [{"id": JSONL, "text": f"About {MARKER}."}]
    write_rows(documents / "a.jsonl", rows)
    write_rows(documents / "b.jsonl", [{"id": "row-b", "text": "Row b."}, {"id": JSONL, "text": f"{MARKER} twice."}])
    collection(source={"type": "jsonl", "path": str(documents)})
    time.sleep(0.1)
    assert index(settings, "handbook", embedder=HashEmbedder())["quarantined"] == 1  # the second row of that id
    _forget(settings, JSONL)
    opened = _read(monkeypatch)
    for _ in range(20):
        result = index(settings, "handbook", embedder=HashEmbedder())
        assert (result["plan"]["unchanged"], result["quarantined"], sum(result["plan"].values())) == (31, 0, 31)
    assert opened == []
    rows[-1]["text"] = ""  # it would be refused now
    write_rows(documents / "a.jsonl", [*rows, {"id": "row-new", "text": "New."}])
    result = index(settings, "handbook", embedder=HashEmbedder())
    assert (opened, result["plan"]["added"], result["quarantined"]) == (["a.jsonl"], 1, 0)
    index(settings, "handbook", embedder=HashEmbedder(), mode="rebuild")
    assert _live(settings) == {f"row-{n}" for n in range(30)} | {"row-b", "row-new"}
    assert in_rows(settings, [JSONL, MARKER]) == NOWHERE


class _Waiting(HashEmbedder):
    """Stops where it embeds the document, until it is let go on."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.go_on = threading.Event(), threading.Event()

    def embed_documents(self, texts: Sequence[str], progress: object = None) -> NDArray[np.float32]:
        if any(MARKER in text for text in texts):
            self.reached.set()
            assert self.go_on.wait(30)
        return super().embed_documents(texts)


def test_while_a_worker_has_it_in_memory(settings: Settings, pages: Path) -> None:
    """The worker of another thread embeds the batch, finds its claim gone, and does the rest again."""
    embedder = _Waiting()
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(index, settings, "handbook", embedder=embedder)
        assert embedder.reached.wait(30)
        assert _forget(settings, wait_seconds=0.1).known
        assert in_rows(settings, [URI, MARKER]) == NOWHERE
        embedder.go_on.set()
        assert run.result(60)["chunks"]["total"] == 9
    assert in_rows(settings, [URI, MARKER]) == NOWHERE
    assert _live(settings) == {f"{n}.md" for n in range(9)}


@contextmanager
def _paused(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> Iterator[tuple[threading.Event, threading.Event]]:
    """The first call of a function stops when its work is done, in its transaction."""
    reached, go_on = threading.Event(), threading.Event()
    original = getattr(module, name)

    def paused(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        if not reached.is_set():
            reached.set()
            assert go_on.wait(30)
        return result

    with monkeypatch.context() as patched:
        patched.setattr(module, name, paused)
        yield reached, go_on


@pytest.mark.parametrize("step", ["write_documents", "save_report", "complete"])
def test_while_a_worker_writes_it(step: str, settings: Settings, pages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Erasing waits for the worker's transaction and removes what that wrote."""
    module = {"write_documents": chunks, "save_report": reports, "complete": work_items}[step]
    with open_context(settings, "handbook", embedder=HashEmbedder()) as context, ThreadPoolExecutor(2) as threads:
        plan_run(context, "run")
        with _paused(monkeypatch, module, step) as (reached, go_on):
            worker = threads.submit(index_shard, context, "run")
            assert reached.wait(30)
            erasing = threads.submit(_forget, settings)
            time.sleep(1.5)  # longer than it takes Postgres to notice a deadlock
            assert not erasing.done()
            go_on.set()
            worker.result(60)
            assert "chunks_1" in erasing.result(60).erased
        assert in_rows(settings, [URI, MARKER]) == NOWHERE
        validate_run(context, "run")
        publish_run(context, "run")
    assert _live(settings) == {f"{n}.md" for n in range(9)}


def test_while_the_queue_is_filled(settings: Settings, pages: Path) -> None:
    """Another run queues documents while the erasing transaction is open: it must not trip over the missing one."""
    with open_context(settings, "handbook", embedder=HashEmbedder()) as context, ThreadPoolExecutor(1) as threads:
        generation = plan_run(context, "run").generation
        with context.pool.connection() as connection, context.pool.connection() as other:
            (run,) = other.execute("select id from ragworks.run").fetchone() or (0,)
            other.commit()
            with connection.transaction():
                forgotten.forget(connection, 1, URI)
                queueing = threads.submit(work_items.enqueue_pending, other, 1, generation, run)
                time.sleep(0.5)
                assert not queueing.done()
            queueing.result(30)
            other.commit()
        index_shard(context, "run")
        publish_run(context, "run")
    assert _live(settings) == {f"{n}.md" for n in range(9)}
    assert in_rows(settings, [URI, MARKER]) == NOWHERE


def test_while_a_run_plans(settings: Settings, pages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The document is in the plan's memory: erasing waits, says so when that takes too long, and then does it whole."""
    with ThreadPoolExecutor(2) as threads, _paused(monkeypatch, LocalFolder, "open") as (reached, go_on):
        run = threads.submit(index, settings, "handbook", embedder=HashEmbedder())
        assert reached.wait(30)
        with monkeypatch.context() as impatient:
            impatient.setattr(forgotten, "LOCK_SECONDS", 1)
            with pytest.raises(Transient, match="Try again"):
                _forget(settings)
        assert query(settings, "select count(*) from ragworks.forgotten") == [(0,)]
        erasing = threads.submit(_forget, settings)
        time.sleep(0.3)
        assert not erasing.done()
        go_on.set()
        erasing.result(60)
        run.result(60)
    assert _live(settings) == {f"{n}.md" for n in range(9)}
    assert in_rows(settings, [URI, MARKER]) == NOWHERE


def test_going_back_does_not_bring_it_back(settings: Settings, pages: Path, collection: Callable[..., str]) -> None:
    index(settings, "handbook", embedder=HashEmbedder())
    collection(chunking={"max_tokens": 100})
    index(settings, "handbook", embedder=HashEmbedder())
    _forget(settings)
    with open_pool(settings) as pool:
        assert rollback(pool, "handbook")["generation"] == 1
    assert _live(settings) == {f"{n}.md" for n in range(9)}
    index(settings, "handbook", embedder=HashEmbedder())
    assert _live(settings) == {f"{n}.md" for n in range(9)}


def test_the_same_text_under_another_name_is_another_document(settings: Settings, pages: Path) -> None:
    """Its text stays for that one; and a renamed file is not kept out. Both are said, not hidden."""
    (pages / "copy.md").write_text((pages / URI).read_text())
    index(settings, "handbook", embedder=HashEmbedder())
    assert _forget(settings).shared_with == ["copy.md"]
    assert in_rows(settings, [URI]) == NOWHERE
    assert MARKER in next(row["text"] for row in export(settings, "handbook") if row["document"] == "copy.md")
    assert _forget(settings, "copy.md").shared_with == []
    assert in_rows(settings, [MARKER]) == NOWHERE
    (pages / URI).rename(pages / "renamed.md")
    index(settings, "handbook", embedder=HashEmbedder())
    assert _live(settings) == {f"{n}.md" for n in range(9)} | {"renamed.md"}


def test_never_seen_and_twice(settings: Settings, pages: Path) -> None:
    (pages / URI).rename(pages.parent / "jane.md")
    index(settings, "handbook", embedder=HashEmbedder())
    assert not _forget(settings, reason="asked for").known
    (pages.parent / "jane.md").rename(pages / URI)
    index(settings, "handbook", embedder=HashEmbedder())
    again = _forget(settings)
    assert (again.known, again.erased) == (False, {})
    assert query(settings, "select reason from ragworks.forgotten") == [("asked for",)]
    assert _live(settings) == {f"{n}.md" for n in range(9)}


def test_the_only_document(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    """A source that lists nothing else is in order: runs go on as over any unchanged source."""
    collection()
    (documents / "jane.md").write_text(f"About {MARKER}.")
    index(settings, "handbook", embedder=HashEmbedder())
    _forget(settings, "jane.md")
    for mode in ("incremental", "incremental", "rebuild", "incremental"):
        result = index(settings, "handbook", embedder=HashEmbedder(), mode=mode)
        assert (sum(result["plan"].values()), result["chunks"]["total"], result["quarantined"]) == (0, 0, 0)
    assert query(settings, "select count(*) from ragworks.run where state = 'done'") == [(5,)]
    (documents / "new.md").write_text("Something new.")
    assert index(settings, "handbook", embedder=HashEmbedder())["plan"]["added"] == 1
    assert _live(settings) == {"new.md"}


def test_the_only_document_before_it_was_ever_seen(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    collection()
    (documents / "other.md").write_text("Other.")
    index(settings, "handbook", embedder=HashEmbedder())
    _forget(settings, "jane.md")
    _forget(settings, "other.md")
    (documents / "other.md").rename(documents / "jane.md")
    assert sum(index(settings, "handbook", embedder=HashEmbedder())["plan"].values()) == 0
    (documents / "jane.md").unlink()
    with pytest.raises(BadData, match="holds no documents"):  # now it is empty, whoever was forgotten
        index(settings, "handbook", embedder=HashEmbedder())


def test_the_only_row(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    write_rows(documents / "a.jsonl", [{"id": JSONL, "text": f"About {MARKER}."}])
    collection(source={"type": "jsonl", "path": str(documents)})
    index(settings, "handbook", embedder=HashEmbedder())
    _forget(settings, JSONL)
    for mode in ("incremental", "rebuild", "incremental"):
        assert index(settings, "handbook", embedder=HashEmbedder(), mode=mode)["chunks"]["total"] == 0
    assert query(settings, "select count(*) from ragworks.run where state = 'done'") == [(4,)]


def test_undo_lets_a_file_in_again(settings: Settings, pages: Path) -> None:
    index(settings, "handbook", embedder=HashEmbedder())
    before = export(settings, "handbook")
    _forget(settings)
    index(settings, "handbook", embedder=HashEmbedder())
    with open_pool(settings) as pool, pool.connection() as connection:
        assert forgotten.restore(connection, 1, URI)
        assert not forgotten.restore(connection, 1, URI)
    index(settings, "handbook", embedder=HashEmbedder())
    assert_same_index(export(settings, "handbook"), before)


def test_undo_lets_a_row_in_again_whichever_file_has_it_now(
    settings: Settings, documents: Path, collection: Callable[..., str]
) -> None:
    others = [{"id": f"row-{n}", "text": f"Row {n}."} for n in range(5)]
    write_rows(documents / "a.jsonl", [*others, {"id": JSONL, "text": f"About {MARKER}."}])
    write_rows(documents / "b.jsonl", [{"id": "row-b", "text": "Row b."}])
    collection(source={"type": "jsonl", "path": str(documents)})
    index(settings, "handbook", embedder=HashEmbedder())
    before = export(settings, "handbook")
    _forget(settings, JSONL)
    write_rows(documents / "a.jsonl", others)
    write_rows(documents / "b.jsonl", [{"id": "row-b", "text": "Row b."}, {"id": JSONL, "text": f"About {MARKER}."}])
    index(settings, "handbook", embedder=HashEmbedder())
    with open_pool(settings) as pool, pool.connection() as connection:
        assert forgotten.restore(connection, 1, JSONL)
    embedder = HashEmbedder()
    index(settings, "handbook", embedder=embedder)
    assert_same_index(export(settings, "handbook"), before)
    assert [text for text in embedder.texts if "Row" in text] == []  # read again, not embedded again
