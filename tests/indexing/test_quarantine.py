"""What is refused stays shown, keeps nothing else out, and is not lost with a new generation or an outage."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from include.cli.main import main
from include.errors import BadData
from include.indexing.activate import rollback
from include.indexing.plan import plan_run
from include.store import collections, generations, quarantine, runs
from include.store.pool import open_pool
from tests.indexing.test_retries import Refuses
from tests.support import HashEmbedder, export, index, query, settle

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from include.config import Settings
    from include.embedding.embedder import Embedder

OPEN = "select uri, attempts, acknowledged_at is not null from ragworks.quarantine where resolved_at is null order by id"


@pytest.fixture
def run(settings: Settings, collection: Callable[..., str]) -> Callable[..., dict[str, Any]]:
    """Run the collection with an embedder that refuses poison; the gates are as they are by default."""
    collection()

    def call(embedder: Embedder | None = None, **options: Any) -> dict[str, Any]:
        return index(settings, "handbook", embedder=embedder or Refuses(), **options)

    return call


def _pages(documents: Path, number: int = 40, **others: str) -> None:
    for i in range(number):
        (documents / f"{i:02}.md").write_text(f"Page {i}.")
    for name, text in others.items():
        (documents / f"{name}.md").write_text(text)
    settle(documents)


def _shown(settings: Settings) -> dict[str, str]:
    return {row["document"]: row["text"] for row in export(settings, "handbook")}


def _without(documents: Path, call: Callable[[], object]) -> None:
    """Call while the source lists nothing."""
    away = documents.with_name("away")
    documents.rename(away)
    documents.mkdir()
    try:
        call()
    finally:
        documents.rmdir()
        away.rename(documents)


def _stopped(run: Callable[..., object], reason: str) -> Callable[[], object]:
    def call() -> None:
        with pytest.raises(BadData, match=reason):
            run()

    return call


def test_an_outage_neither_hides_nor_recounts_what_is_refused(
    settings: Settings, documents: Path, run: Callable[..., dict[str, Any]]
) -> None:
    _pages(documents, 80, e1="", e2="", p1="poison 1", p2="poison 2")
    assert run()["quarantined"] == 4
    before = query(settings, OPEN)
    _without(documents, _stopped(run, "would delete 80 of 80"))
    assert query(settings, OPEN) == before
    assert run()["quarantined"] == 4  # four of four would stop it, were they counted anew
    with open_pool(settings) as pool, pool.connection() as connection:
        connection.execute("update ragworks.quarantine set retry_at = now() - interval '1 second'")
    assert run(HashEmbedder())["quarantined"] == 2
    assert {"p1.md", "p2.md"} < set(_shown(settings))


def test_what_leaves_the_source_leaves_quarantine_and_comes_back_as_new(
    settings: Settings, documents: Path, run: Callable[..., dict[str, Any]]
) -> None:
    _pages(documents, e="", p="poison", q="fine")
    run()
    (documents / "q.md").write_text("poison by now")
    assert run()["quarantined"] == 3
    for name in ("e.md", "p.md"):  # no index holds them: nothing is published
        (documents / name).rename(documents.with_name(name))
    assert run()["quarantined"] == 1
    (documents / "q.md").rename(documents.with_name("q.md"))
    result = run()
    assert (result["quarantined"], result["plan"]["deleted"]) == (0, 1)
    assert query(settings, "select count(*) from ragworks.rejection") == [(0,)]
    for name in ("e.md", "q.md"):
        documents.with_name(name).rename(documents / name)
    assert run()["quarantined"] == 2
    assert [row[:2] for row in query(settings, OPEN)] == [("e.md", 1), ("q.md", 1)]


def test_a_refused_file_that_was_taken_away_does_not_stop_the_others(
    settings: Settings, documents: Path, run: Callable[..., dict[str, Any]]
) -> None:
    _pages(documents)
    run()
    for name in ("x", "y", "z"):
        (documents / f"{name}.md").write_text("")
    _stopped(run, "3 of 3 new or changed documents were rejected")()
    for name in ("x", "y", "z"):
        (documents / f"{name}.md").unlink()
    (documents / "new.md").write_text("new")
    assert run()["quarantined"] == 0
    assert "new.md" in _shown(settings)


def test_a_retry_keeps_tries_and_acknowledgement(
    settings: Settings, documents: Path, run: Callable[..., dict[str, Any]], collection: Callable[..., str]
) -> None:
    collection(validation={"max_rejected": 0.1})
    _pages(documents, 60, p1="poison 1", p2="poison 2", p3="poison 3")
    run()
    collection()  # three of three are too many by now, if they count anew
    _retry(settings)
    assert run()["quarantined"] == 3
    assert query(settings, OPEN) == [(f"p{i}.md", 2, True) for i in (1, 2, 3)]


def test_a_retry_that_is_killed_before_the_live_generation_takes_it_up(
    settings: Settings, documents: Path, run: Callable[..., dict[str, Any]], collection: Callable[..., str]
) -> None:
    _pages(documents, 60, p1="poison 1", p2="poison 2", p3="poison 3")
    run()
    _retry(settings)
    collection(index={"m": 8})
    from include.indexing.context import open_context

    with open_context(settings, "handbook", embedder=Refuses()) as context:
        plan_run(context, "killed")  # for the new generation; the process ends here
    collection()
    assert run()["quarantined"] == 3
    assert query(settings, OPEN) == [(f"p{i}.md", 2, True) for i in (1, 2, 3)]


def test_another_runs_publication_acknowledges_only_what_it_went_by(
    settings: Settings, documents: Path, run: Callable[..., dict[str, Any]], collection: Callable[..., str]
) -> None:
    _pages(documents, 28, **{f"p{i}": f"poison {i}" for i in range(12)})
    run(HashEmbedder())
    collection(embedding={"storage": "vector"})
    _stopped(lambda: run(key="a"), "12 of 40 new or changed")()
    with open_pool(settings) as pool, pool.connection() as connection, generations.attending(connection, 2):
        (documents / "03.md").write_text("edited")
        assert run(key="b")["plan"]["changed"] == 1
    _stopped(lambda: run(key="a"), "12 of 40 new or changed")()
    assert len(_shown(settings)) == 40


def test_a_new_generation_does_not_lose_documents(
    settings: Settings, documents: Path, run: Callable[..., dict[str, Any]], collection: Callable[..., str]
) -> None:
    """Even where the share of refused ones is no reason to stop."""
    _pages(documents, 28, **{f"p{i}": f"poison {i}" for i in range(12)})
    run(HashEmbedder())
    collection(embedding={"storage": "vector"}, validation={"max_rejected": 1.0})
    _stopped(run, r"generation 2 would lose 12 of 40 documents \(30.0%\).*: p0.md, p1.md, p10.md.* and 2 more")()
    assert len(_shown(settings)) == 40
    assert run(allow_deletes=True)["generation"] == 2
    assert len(_shown(settings)) == 28


def test_an_earlier_version_goes_into_a_new_generation(
    settings: Settings, documents: Path, run: Callable[..., dict[str, Any]], collection: Callable[..., str]
) -> None:
    _pages(documents)
    run()
    (documents / "03.md").write_text("poison")
    run()
    for m in (8, 12):
        collection(index={"m": m})
        assert run()["quarantined"] == 1
        assert _shown(settings)["03.md"] == "Page 3."
        again = run()
        assert (again["plan"]["unchanged"], again["chunks"]["written"], again["quarantined"]) == (40, 0, 1)
    (documents / "03.md").write_text("healed")
    assert run()["quarantined"] == 0
    assert _shown(settings)["03.md"] == "healed"


class RefusesAll(Refuses):
    """Refuses also the good version of one page."""

    def embed_documents(self, texts: Any, progress: object = None) -> Any:
        vectors = super().embed_documents(texts)
        vectors[[i for i, text in enumerate(texts) if text == "Page 3."]] = float("nan")
        return vectors


def test_an_earlier_version_that_is_refused_too(
    settings: Settings, documents: Path, run: Callable[..., dict[str, Any]], collection: Callable[..., str]
) -> None:
    """It is tried once a try, and says nothing new."""
    _pages(documents)
    run()
    (documents / "03.md").write_text("poison")
    run()
    collection(embedding={"storage": "vector"})
    embedder = RefusesAll()
    assert run(embedder)["quarantined"] == 1
    assert embedder.texts.count("Page 3.") == 1
    assert "03.md" not in _shown(settings)
    assert run(embedder)["plan"]["unchanged"] == 39


def test_few_bad_documents_do_not_stop_the_good_ones_of_a_large_collection(
    settings: Settings, documents: Path, run: Callable[..., dict[str, Any]]
) -> None:
    _pages(documents)
    run()
    for name in ("x", "y"):
        (documents / f"{name}.md").write_text("")
    (documents / "05.md").write_text("urgent correction")
    assert run()["quarantined"] == 2
    assert _shown(settings)["05.md"] == "urgent correction"


def test_a_person_acknowledges(
    settings: Settings,
    documents: Path,
    run: Callable[..., dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAGWORKS_DATABASE_URL", settings.database_url or "")
    _pages(documents)
    run()
    for i in range(9):
        (documents / f"x{i}.md").write_text("")
    (documents / "05.md").write_text("urgent correction")
    _stopped(run, "9 of 10 new or changed documents were rejected.*--acknowledge")()
    capsys.readouterr()
    assert main(("quarantine", "handbook", "--acknowledge", "--json")) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["acknowledged"], {row["acknowledged"] for row in found["quarantined"]}) == (9, {True})
    assert run()["quarantined"] == 9
    assert _shown(settings)["05.md"] == "urgent correction"
    (documents / "y1.md").write_text("")  # what comes later counts
    (documents / "y2.md").write_text("")
    (documents / "y3.md").write_text("")
    _stopped(run, "3 of 3 new or changed")()


def test_rows_of_a_generation_that_does_not_serve_are_not_shown(
    settings: Settings, documents: Path, run: Callable[..., dict[str, Any]], collection: Callable[..., str]
) -> None:
    _pages(documents, p="poison")
    assert run()["plan"]["added"] == 41
    again = run()
    assert (again["plan"]["unchanged"], again["quarantined"]) == (40, 1)
    collection(index={"m": 8})
    assert run(HashEmbedder())["quarantined"] == 0
    with open_pool(settings) as pool:
        rollback(pool, "handbook")
        with pool.connection() as connection:
            [row] = quarantine.open_rows(connection, collections.collection_id(connection, "handbook"))
    assert row.uri == "p.md"


def test_a_run_names_what_was_refused_in_its_index_step(
    settings: Settings, documents: Path, run: Callable[..., dict[str, Any]]
) -> None:
    _pages(documents, p="poison")
    result = run()
    with open_pool(settings) as pool, pool.connection() as connection:
        reasons = {d.uri: d.reason for d in runs.run_documents(connection, result["run"])}
    assert reasons["p.md"].startswith("new in the source; quarantined: a chunk")
    assert reasons["00.md"] == "new in the source"


@pytest.mark.parametrize("text", ["\u200b\u200b", "\u00ad", " \ufeff\n"])
def test_a_text_that_shows_nothing_is_empty(
    text: str, settings: Settings, documents: Path, run: Callable[..., dict[str, Any]]
) -> None:
    _pages(documents, 3, hidden=text, joined="visible\u200bword")
    assert run()["quarantined"] == 1
    assert query(settings, "select uri, expectation from ragworks.quarantine") == [("hidden.md", "text_not_empty")]


def test_a_renamed_file_whose_new_content_was_refused_takes_its_earlier_one_along(
    settings: Settings, documents: Path, run: Callable[..., dict[str, Any]], collection: Callable[..., str]
) -> None:
    _pages(documents)
    run()
    (documents / "03.md").write_text("poison")
    run()
    (documents / "03.md").rename(documents.with_name("03.md"))
    (documents / "moved.md").write_text("Page 3.")
    result = run()
    assert (result["plan"]["renamed"], result["quarantined"]) == (1, 0)
    assert _shown(settings)["moved.md"] == "Page 3."
    collection(index={"m": 8})  # a new generation is built of what the row says
    assert run()["quarantined"] == 0
    assert _shown(settings)["moved.md"] == "Page 3."
    (documents / "moved.md").write_text("Page 3, edited.")
    run()
    assert _shown(settings)["moved.md"] == "Page 3, edited."


def _retry(settings: Settings) -> None:
    """As `ragworks quarantine handbook --retry` does."""
    from include.cli.inspecting import _retry as retry

    with open_pool(settings) as pool, pool.connection() as connection:
        assert retry(connection, collections.collection_id(connection, "handbook")) == 3
