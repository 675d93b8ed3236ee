"""Who may not read a document never sees a word of it, in any mode."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from include.retrieval.query import ALL_PRINCIPALS, Query
from include.retrieval.searcher import Searcher
from include.store import search
from include.store.pool import open_pool
from tests.support import HashEmbedder, index, query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from include.collection_file import Mode
    from include.config import Settings

TEXT = "Salaries of the staff, page {}."
ACLS = {"public": None, "hr": ["hr"], "both": ["hr", "boss"], "nobody": [], "sql": ["x' or true --"]}


@pytest.fixture
def searcher(settings: Settings, documents: Path, collection: Callable[..., str]) -> Iterator[Searcher]:
    """Five documents that differ in who may read them."""
    for name in ACLS:
        (documents / f"{name}.md").write_text(TEXT.format(name))
    collection(near_duplicates={"threshold": 0.5}, retrieval={"neighbours": 1})
    index(settings, "handbook", embedder=HashEmbedder())
    for name, acl in ACLS.items():
        query_ = "update ragworks.generation_document set acl = %s::text[] where document_id ="
        query(settings, f"{query_} (select id from ragworks.document where uri = %s) returning 1", acl, f"{name}.md")
    with open_pool(settings) as pool:
        yield Searcher(settings, pool, "handbook", embedder=HashEmbedder())


WHO_SEES_WHAT: list[tuple[tuple[str, ...], set[str]]] = [
    ((), {"public"}),
    (("hr",), {"public", "hr", "both"}),
    (("boss", "other"), {"public", "both"}),
    (("",), {"public"}),
    (("h%", "' or true --"), {"public"}),
    (("x' or true --",), {"public", "sql"}),
]


@pytest.mark.parametrize("scan", ["exact", "index"])
def test_who_sees_what(scan: search.Scan, searcher: Searcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "choose_scan", lambda *_: scan)
    modes: tuple[Mode, ...] = ("hybrid", "dense", "lexical")
    for (principals, seen), mode, copies in itertools.product(WHO_SEES_WHAT, modes, (True, False)):
        found = searcher.find(Query("salaries of the staff", 10, mode, principals=principals, copies=copies))
        named = {hit.document for hit in found.hits} | {copy.document for hit in found.hits for copy in hit.duplicates}
        assert named == {f"{name}.md" for name in seen}, (principals, mode, copies)
        unseen = [TEXT.format(name) for name in ACLS.keys() - seen]
        assert not any(text in hit.text for hit in found.hits for text in unseen)


def test_an_evaluation_sees_all(searcher: Searcher) -> None:
    found = searcher.find(Query("salaries", principals=ALL_PRINCIPALS, copies=True))
    assert len(found.hits) == len(ACLS)
    assert len(searcher.documents("salaries", top_k=10)) == len(ACLS)


def test_texts_are_not_read_even_if_a_key_slips_through(searcher: Searcher, settings: Settings) -> None:
    """The second lock: where texts are read the ACL is asked once more."""
    from include.store import generations
    from include.store.scope import open_scope

    with open_pool(settings) as pool, pool.connection() as connection:
        live = generations.live_of(connection, "handbook")
        keys = connection.execute("select document_id, seq from ragworks.chunks_1").fetchall()
        scope = open_scope(connection, live, {}, ["boss"])
        hits = search.read(connection, live, [(key, 1.0, {}) for key in keys], scope)
    assert {hit.document for hit in hits} == {"public.md", "both.md"}
