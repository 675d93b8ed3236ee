"""After erasing, no byte of the document is in the files of the tables, of their overflow and of their indexes."""

from __future__ import annotations

import random
import string
from typing import TYPE_CHECKING

import psycopg
import pytest

from include.indexing.erasing import erase_document
from include.store.pool import open_pool
from tests.store.remains import in_files, in_rows
from tests.support import HashEmbedder, export, index

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from include.config import Settings

URI, MARKER = "people/jane-7391.md", "Kowalczyk7391"


@pytest.fixture
def indexed(settings: Settings, documents: Path, collection: Callable[..., str]) -> Settings:
    """Short pages around one with text enough to overflow its row; edited once, built anew once."""
    letters = random.Random(7)
    words = ["".join(letters.choices(string.ascii_letters, k=12)) for _ in range(3000)]
    for number in range(0, 3000, 25):
        words[number] = MARKER
    collection()
    (documents / "people").mkdir()
    for name in ("before", "people/jane-7391", "zebra"):
        body = " ".join(words) if name == "people/jane-7391" else f"A page called {name}."
        (documents / f"{name}.md").write_text(f"# Of {MARKER if 'jane' in name else name}\n\n{body}")
    index(settings, "handbook", embedder=HashEmbedder())
    with (documents / URI).open("a") as page:
        page.write(" More.")
    index(settings, "handbook", embedder=HashEmbedder())
    collection(chunking={"max_tokens": 100})
    index(settings, "handbook", embedder=HashEmbedder())
    return settings


def test_no_byte_remains(indexed: Settings) -> None:
    needles = [URI, MARKER]
    tables = {table for table, _ in in_files(indexed, needles)}
    assert {"document", "document_text", "generation_document", "run_document", "source_object"} <= tables
    assert any(table.startswith("spans_") for table in tables)  # headings
    with open_pool(indexed) as pool:
        erasure = erase_document(pool, 1, URI, rewrite=True)
    assert erasure.not_vacuumed == []
    assert in_rows(indexed, needles) == set()
    assert in_files(indexed, needles) == set()
    assert {row["document"] for row in export(indexed, "handbook")} == {"before.md", "zebra.md"}


def test_a_plain_vacuum_frees_every_row(indexed: Settings) -> None:
    """Nothing dead is left for later, also in indexes, where Postgres would otherwise wait until it is worth it."""
    with open_pool(indexed) as pool:
        assert erase_document(pool, 1, URI).not_vacuumed == []
        with pool.connection() as connection:
            dead = connection.execute(
                "select relname, n_dead_tup from pg_stat_user_tables where schemaname = 'ragworks' and n_dead_tup > 0"
                " and relname = any(%s)",
                (["document_text", "generation_document", "source_object"],),
            ).fetchall()
    assert dead == []


def test_who_still_sees_the_rows_is_named(indexed: Settings) -> None:
    """An export that began before: its snapshot keeps the rows; the command says so instead of claiming more than it did."""
    with psycopg.connect(indexed.database_url or "") as reader:
        reader.execute("set transaction isolation level repeatable read")
        reader.execute("select count(*) from ragworks.document")
        with open_pool(indexed) as pool:
            erasure = erase_document(pool, 1, URI, wait_seconds=0.3)
            assert "document_text" in erasure.not_vacuumed
        reader.rollback()
    with open_pool(indexed) as pool:
        again = erase_document(pool, 1, URI, rewrite=True)
    assert (again.known, again.not_vacuumed) == (False, [])
    assert in_files(indexed, [URI, MARKER]) == set()


def test_a_held_table_does_not_stop_it(indexed: Settings) -> None:
    with psycopg.connect(indexed.database_url or "") as other, open_pool(indexed) as pool:
        other.execute("lock table ragworks.quarantine in share update exclusive mode")  # as another vacuum does
        assert "quarantine" in erase_document(pool, 1, URI, wait_seconds=0.3).not_vacuumed
    assert in_rows(indexed, [URI, MARKER]) == set()
