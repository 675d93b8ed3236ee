"""What was in flight while a document was forgotten: whoever writes it later leaves the document out, or `forget` waits."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from include.answering.answer import Answer
from include.answering.ask import Asked, keep
from include.answering.quotes import Citation
from include.collection_file import load_collection
from include.indexing.erasing import erase_document
from include.retrieval.searcher import Searcher
from include.serving.logbook import Entry, Logbook
from include.serving.metrics import Metrics
from include.store import answers, datasets, deployments, evaluations, forgotten, golden, kept_out, model_runs, query_log
from include.store.golden import GoldenQuery, GoldenSpan
from include.store.pool import open_pool
from include.store.query_log import LoggedQuery
from tests.datasets.zoo import pair
from tests.store.remains import in_rows
from tests.support import HashEmbedder, index, query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from include.collection_file import Collection
    from include.config import Settings
    from include.retrieval.query import Found
    from include.store.pool import Connection, Pool
    from include.store.search import Hit

URI, MARKER = "people/jane-7391.md", "Kowalczyk7391"
ROLE = "ragworks_kept_out_test"


@pytest.fixture
def pool(settings: Settings, documents: Path, collection: Callable[..., str]) -> Iterator[Pool]:
    """Three pages, one of them about a person."""
    collection()
    (documents / "people").mkdir()
    (documents / URI).write_text(f"# About {MARKER}\n\n{MARKER} lives in the old mill.")
    for number in range(2):
        (documents / f"{number}.md").write_text(f"# Page {number}\n\nIt says {number}.")
    index(settings, "handbook", embedder=HashEmbedder())
    with open_pool(settings) as pool:
        yield pool


@pytest.fixture
def settled(settings: Settings) -> Collection:
    return load_collection(settings, "handbook")


def _hits(settings: Settings, pool: Pool) -> list[Hit]:
    """All pages, the person's second."""
    hits, _ = Searcher(settings, pool, "handbook", embedder=HashEmbedder()).search("mill", top_k=10)
    by_name = {hit.document: hit for hit in hits}
    return [by_name["0.md"], by_name[URI], by_name["1.md"]]


def _answer(hits: list[Hit]) -> Answer:
    cited = tuple(Citation(n, h.document, h.start, h.end, h.text) for n, h in enumerate(hits, 1))
    said = f"{MARKER} lives in the old mill [2]."
    return Answer(f"What says {URI}?", said, cited, tuple(hits), False, False, 0.9, 1.0, ("low_groundedness",), {})


def _results(hits: list[Hit]) -> list[dict[str, Any]]:
    return [{"document": h.document, "ordinal": h.ordinal, "start": h.start, "end": h.end, "score": h.score} for h in hits]


def _nowhere(settings: Settings) -> None:
    assert in_rows(settings, [URI, MARKER]) == set()


def _assert_less_the_person(settings: Settings) -> None:
    """The answer is there as `forget` leaves one: no text, and the other passages under their numbers."""
    _nowhere(settings)
    assert query(settings, "select question, text, flags from ragworks.answer") == [
        ("What says [forgotten]?", None, ["low_groundedness", "forgotten"])
    ]
    assert query(settings, "select number, uri from ragworks.answer_source order by number") == [(1, "0.md"), (3, "1.md")]
    ((citations,),) = query(settings, "select citations from ragworks.answer")
    assert [one["document"] for one in citations] == ["0.md", "1.md"]


def test_an_answer_of_the_command_line(pool: Pool, settings: Settings, settled: Collection) -> None:
    hits = _hits(settings, pool)
    found: Any = type("Found", (), {"passport": {"generation": 1}, "hits": hits, "vector": None})()
    made: Found = found
    erase_document(pool, 1, URI)
    keep(pool, settled, Asked(_answer(hits), made, {}))
    _assert_less_the_person(settings)


def test_what_a_server_logs_later(pool: Pool, settings: Settings, settled: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches and answers of a batch, for which it is asked once."""
    hits, asked = _hits(settings, pool), []
    original = kept_out.hold
    erase_document(pool, 1, URI)
    monkeypatch.setattr(kept_out, "hold", lambda *args: asked.append(1) or original(*args))
    logbook = Logbook(pool, Metrics())
    searches = [LoggedQuery(1, "search", 1, f"{n} of {URI}", passport={"best": URI}, results=_results(hits)) for n in range(30)]
    with monkeypatch.context() as slow:
        slow.setattr(logbook, "_hurry", False)
        for one in searches:
            logbook.add(Entry(one, settled))
        logbook.add(Entry(LoggedQuery(1, "chat", 1, "who?", results=_results(hits)), settled, _answer(hits)))
    logbook.close()
    _assert_less_the_person(settings)
    assert query(settings, "select count(*), min(jsonb_array_length(results)) from ragworks.query_log") == [(31, 2)]
    assert query(settings, "select query, passport from ragworks.query_log where query like '7 %%'") == [
        ("7 of [forgotten]", {"best": "[forgotten]"})
    ]
    assert len(asked) <= 3, "once a batch, however many questions it holds"


def test_an_answer_that_had_nothing_of_it_is_kept_whole(pool: Pool, settings: Settings, settled: Collection) -> None:
    hits = [hit for hit in _hits(settings, pool) if hit.document != URI]
    erase_document(pool, 1, URI)
    with pool.connection() as connection:
        logged = LoggedQuery(1, "chat", 1, "who?", results=_results(hits))
        query_log.save_queries(connection, [logged])
        answers.save_answer(connection, logged.id, _answer(hits))
    assert query(settings, "select text, flags from ragworks.answer") == [
        (f"{MARKER} lives in the old mill [2].", ["low_groundedness"])
    ]


def _write_question(connection: Connection) -> None:
    query_log.save_queries(connection, [LoggedQuery(1, "search", 1, "who?", results=[{"document": URI}, {"document": "0.md"}])])


def _write_report(connection: Connection) -> None:
    report = {
        "worst": [{"query": f"Who is {MARKER}?", "documents": ["0.md", URI]}, {"query": "Other?", "documents": ["0.md"]}],
        "note": f"worst in {URI}",
    }
    evaluations.save(connection, 1, generation=1, run=None, name=f"of {URI}", configuration={}, report=report)


def _write_golden(connection: Connection) -> None:
    golden.save(connection, 1, [GoldenQuery(f"Who is {MARKER}?", (GoldenSpan(URI, 0, 12),))])


def _write_training(connection: Connection) -> None:
    (run,) = connection.execute("select id from ragworks.model_run").fetchone() or (0,)
    told = {"told": [{"query": f"Who is {MARKER}?", "documents": [URI]}, {"query": "Other?", "documents": ["0.md"]}]}
    model_runs.change(connection, run, evaluation=told, gate=told, error=f"worst in {URI}", step=7)


def _write_verification(connection: Connection) -> None:
    (live,) = connection.execute("select id from ragworks.deployment").fetchone() or (0,)
    said = {"questions": [{"query": f"Who is {MARKER}?", "said": MARKER, "documents": [URI]}], "problems": []}
    deployments.save_verification(connection, live, said)


WRITERS = [_write_question, _write_report, _write_golden, _write_training, _write_verification]


@pytest.fixture
def trained(pool: Pool) -> None:
    """A training, and a model that serves, whose reports are still to be written."""
    with pool.connection() as connection:
        made = datasets.save(connection, 1, "training", [pair(1, negatives=())], arguments={}, statistics={})
        model_runs.plan(
            connection, "dag/1", family="reranker", collection=1, dataset=made.id, arguments={}, work_hash="w", base="b",
            base_fingerprint="f", code_version="c",
        )  # fmt: skip
        connection.execute(
            "insert into ragworks.deployment (environment, family, collection_id, action, state)"
            " values ('dev', 'reranker', 1, 'rollback', 'live')"
        )


@pytest.mark.usefixtures("trained")
def test_forget_waits_for_what_is_being_written(pool: Pool, settings: Settings) -> None:
    def forget() -> None:
        with pool.connection() as connection:
            forgotten.forget(connection, 1, URI)

    with ThreadPoolExecutor(1) as threads, pool.connection() as connection:
        for write in WRITERS:
            with connection.transaction():
                write(connection)
                erasing = threads.submit(forget)
                time.sleep(1.5)  # longer than it takes Postgres to notice a deadlock
                assert not erasing.done(), write.__name__
            erasing.result(60)
            _nowhere(settings)
            with connection.transaction():
                forgotten.restore(connection, 1, URI)


@pytest.mark.usefixtures("trained")
def test_what_is_written_waits_for_forget(pool: Pool, settings: Settings) -> None:
    def writing(write: Callable[[Connection], None]) -> None:
        with others.connection() as connection:
            write(connection)

    count = len(WRITERS)
    with (
        open_pool(settings, max_size=count) as others, ThreadPoolExecutor(count) as threads, pool.connection() as connection
    ):  # fmt: skip
        with connection.transaction():
            forgotten.forget(connection, 1, URI)
            waiting = [threads.submit(writing, write) for write in WRITERS]
            time.sleep(1.5)
            assert [one.done() for one in waiting] == [False] * count
        for one in waiting:
            one.result(60)
    _nowhere(settings)


@pytest.mark.usefixtures("trained")
def test_what_is_written_later_keeps_everything_else(pool: Pool, settings: Settings) -> None:
    erase_document(pool, 1, URI)
    with pool.connection() as connection:
        for write in WRITERS:
            write(connection)
    _nowhere(settings)
    left = [{"query": "Other?", "documents": ["0.md"]}]
    assert query(settings, "select name, report from ragworks.evaluation") == [
        ("of [forgotten]", {"worst": left, "note": "worst in [forgotten]"})
    ]
    assert query(settings, "select evaluation, gate, error, step from ragworks.model_run") == [
        ({"told": left}, {"told": left}, "worst in [forgotten]", 7)
    ]
    assert query(settings, "select verification from ragworks.deployment") == [({"questions": [], "problems": []},)]
    assert query(settings, "select results from ragworks.query_log") == [([{"document": "0.md"}],)]


def test_golden_queries_of_a_file_that_still_names_it(pool: Pool, settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    """Each import leaves it out again; undone, it comes in again."""
    file = [
        GoldenQuery(f"Who is {MARKER}?", (GoldenSpan(URI, 0, 12), GoldenSpan(URI))),
        GoldenQuery(f"Where, says {URI}?", (GoldenSpan(URI), GoldenSpan("0.md")), {"of": URI, "team": "x"}, answer=MARKER),
        GoldenQuery("Page 1?", (GoldenSpan("1.md"),), answer="1"),
        GoldenQuery("Nobody knows?", (), answerable=False),
    ]
    erase_document(pool, 1, URI)
    for _ in range(2):
        with pool.connection() as connection, caplog.at_level(logging.WARNING):
            assert golden.save(connection, 1, file) == 3
        assert "1 golden queries were left out" in caplog.text
        _nowhere(settings)
        with pool.connection() as connection:
            assert list(golden.golden_queries(connection, 1)) == [
                GoldenQuery("Where, says [forgotten]?", (GoldenSpan("0.md"),), {"of": "[forgotten]", "team": "x"}),
                *file[2:],
            ]
    with pool.connection() as connection:
        forgotten.restore(connection, 1, URI)
        assert golden.save(connection, 1, file) == 4


def test_a_server_that_may_only_write_its_log(pool: Pool, settings: Settings) -> None:
    """As docs/operations.md gives rights: none on generations, whose rows it could not lock."""
    rights = (
        "grant usage on schema ragworks to {0}; grant select on all tables in schema ragworks to {0};"
        " grant insert, update, delete on ragworks.query_log, ragworks.answer, ragworks.answer_source to {0}"
    )
    erase_document(pool, 1, URI)
    try:
        with pool.connection() as connection:
            connection.execute(f"create role {ROLE} nologin")  # type: ignore[arg-type]
            connection.execute(rights.format(ROLE))  # type: ignore[arg-type]
        with pool.connection() as connection, connection.transaction():
            connection.execute(f"set local role {ROLE}")  # type: ignore[arg-type]
            _write_question(connection)
    finally:
        with pool.connection() as connection:
            connection.execute(f"drop owned by {ROLE}; drop role {ROLE}")  # type: ignore[arg-type]
    assert query(settings, "select results from ragworks.query_log") == [([{"document": "0.md"}],)]


def test_a_collection_is_not_kept_waiting_by_another(pool: Pool, settings: Settings) -> None:
    with pool.connection() as connection, connection.transaction():
        connection.execute("insert into ragworks.collection (name) values ('other')")
    with pool.connection() as connection, connection.transaction():
        forgotten.forget(connection, 1, URI)
        with pool.connection() as other:
            other.execute("set lock_timeout = '2s'")
            rows = other.execute("select id from ragworks.collection where name = 'other'").fetchone() or (0,)
            query_log.save_queries(other, [LoggedQuery(rows[0], "search", results=[{"document": URI}], id=uuid4())])
            other.execute("reset lock_timeout")
    assert query(settings, "select results from ragworks.query_log") == [([{"document": URI}],)]  # of the other's document
