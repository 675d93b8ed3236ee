"""Promise 7: from an answer's id to the exact passages, the models and the run that wrote them, though the index moved on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from include.answering.ask import ask, keep
from include.answering.llm import LLM
from include.cli.main import main
from include.collection_file import load_collection
from include.indexing.erasing import erase_document
from include.retrieval.query import Query
from include.retrieval.searcher import Searcher
from include.store import answers
from include.store.pool import open_pool
from tests.answering.llm_server import serve_llm
from tests.store.remains import in_rows
from tests.support import HashEmbedder, index, query

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from uuid import UUID

    from include.config import Settings
    from include.store.answers import StoredAnswer

QUESTION = "When does the office in Lisbon open?"
SENTENCE = "The office in Lisbon opens at 8:30."
LEXICAL = {"mode": "lexical"}


@pytest.fixture
def pages(documents: Path, collection: Callable[..., str]) -> Path:
    """Two pages; nothing is deleted by accident in so small a place."""
    collection(retrieval=LEXICAL, validation={"max_deleted": 1.0})
    (documents / "office.md").write_text(f"# Office\n\n{SENTENCE} It closes at six.")
    (documents / "travel.md").write_text("# Travel\n\nTrips from the Lisbon office need approval.")
    return documents


def _ask(settings: Settings, llm: LLM | None = None) -> UUID:
    handbook = load_collection(settings, "handbook")
    with open_pool(settings) as pool:
        searcher = Searcher(settings, pool, "handbook", embedder=HashEmbedder())
        return keep(pool, handbook, ask(searcher, settings, handbook, Query(QUESTION), llm))


def _load(settings: Settings, answer_id: UUID) -> StoredAnswer:
    with open_pool(settings) as pool, pool.connection() as connection:
        stored = answers.load_answer(connection, answer_id)
    assert stored
    return stored


def test_after_the_index_has_moved_on(
    settings: Settings, pages: Path, collection: Callable[..., str],
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    index(settings, "handbook", embedder=HashEmbedder())
    ((first_run, key),) = query(settings, "select id, key from ragworks.run")
    with serve_llm() as fake:
        fake.reply = "In Lisbon the office opens at 8:30 [1]."
        answer_id = _ask(settings, LLM(fake.url, "tiny"))
    before = _load(settings, answer_id)
    page = (pages / "office.md").read_text()
    (pages / "office.md").write_text("# Office\n\nIt moved to Porto.")
    index(settings, "handbook", embedder=HashEmbedder())
    collection(retrieval=LEXICAL, validation={"max_deleted": 1.0}, chunking={"max_tokens": 100}, generations={"keep": 0})
    index(settings, "handbook", embedder=HashEmbedder())
    assert query(settings, "select to_regclass('ragworks.chunks_1') is null") == [(True,)]  # its generation is gone

    after = _load(settings, answer_id)
    assert after == before
    assert (after.question, after.text) == (QUESTION, "In Lisbon the office opens at 8:30 [1].")
    source = after.sources[0]
    assert (source.document, source.text) == ("office.md", page[source.start : source.end])
    assert SENTENCE in (source.text or "")
    assert after.citations[0]["quote"] == SENTENCE
    assert page[after.citations[0]["start"] : after.citations[0]["end"]] == SENTENCE
    assert (source.run_id, source.run, source.run_mode) == (first_run, key, "incremental")
    assert {
        "collection",
        "generation",
        "mode",
        "embedder",
        "lexical",
        "reranker",
        "prompt",
        "llm",
        "id",
    } <= after.passport.keys()
    assert after.passport["generation"] == 1
    assert after.passport["llm"]["model"] == "tiny"
    assert after.passport["prompt"]["name"] == "grounded"

    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    capsys.readouterr()
    assert main(["answer", str(answer_id), "--json"]) == 0
    shown: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (shown["sources"][0]["text"], shown["sources"][0]["run"]) == (source.text, key)
    assert main(["answer", str(answer_id)]) == 0
    printed = capsys.readouterr().out
    assert SENTENCE in printed
    assert f"written by run {key} (incremental" in printed


def test_a_forgotten_document_is_in_no_answer(settings: Settings, pages: Path) -> None:
    index(settings, "handbook", embedder=HashEmbedder())
    answer_id = _ask(settings)
    assert ("answer_source", SENTENCE) in in_rows(settings, [SENTENCE])
    assert ("answer", SENTENCE) in in_rows(settings, [SENTENCE])
    with open_pool(settings) as pool:
        erased = erase_document(pool, 1, "office.md").erased
    assert erased.keys() >= {"answer", "answer_source"}
    assert not {table for table, _ in in_rows(settings, [SENTENCE, "office.md", "at 8:30"])} & {"answer", "answer_source"}
    stored = _load(settings, answer_id)
    assert (stored.text, stored.question, stored.citations, stored.flags) == (None, QUESTION, [], ["forgotten"])
    assert [source.document for source in stored.sources] == ["travel.md"]


def test_without_texts_only_places_are_kept(settings: Settings, pages: Path, collection: Callable[..., str]) -> None:
    collection(retrieval=LEXICAL, query_log={"keep_texts_days": 0})
    index(settings, "handbook", embedder=HashEmbedder())
    answer_id = _ask(settings)
    assert not {table for table, _ in in_rows(settings, [SENTENCE, "opens", QUESTION])} & {
        "answer",
        "answer_source",
        "query_log",
    }
    stored = _load(settings, answer_id)
    assert (stored.question, stored.text, "quote" in stored.citations[0]) == (None, None, False)
    assert SENTENCE in (stored.sources[0].text or "")  # read from the document, which has not changed
    assert not stored.sources[0].kept
    (pages / "office.md").write_text("# Office\n\nIt moved.")
    index(settings, "handbook", embedder=HashEmbedder())
    assert _load(settings, answer_id).sources[0].text is None
