"""A database as the source of an index: after every change the index is what a rebuild would make of the rows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from include.errors import BadConfiguration
from include.sources.sql import SqlSource
from tests.sources.test_sql import Shop, _sqlite, second_database, shop  # noqa: F401  (fixtures)
from tests.support import HashEmbedder, assert_same_index, export, index, query

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from include.config import Settings


@pytest.fixture
def indexed(shop: Shop, settings: Settings, collection: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: F811
    """``indexed()``: run, compare with a rebuild from scratch, return what the run did, with the rows that it read."""
    source = {"type": "sql", "query": "select * from article", "title": "title", "metadata": ["price"], "url": shop.url}
    embedder, asked = HashEmbedder(), []
    original = SqlSource._read

    def noted(self: SqlSource, objects: Any) -> Any:
        asked.extend(obj.uri for obj in objects)
        return original(self, objects)

    monkeypatch.setattr(SqlSource, "_read", noted)
    numbers = iter(range(100))

    def run(**options: Any) -> dict[str, Any]:
        collection("shop", source=source, validation={"max_deleted": 1, "max_rejected": 1})
        embedder.texts.clear()
        asked.clear()
        done = index(settings, "shop", embedder=embedder, **options)
        done["read"], done["texts"] = sorted(asked), list(embedder.texts)
        fresh = f"fresh_{next(numbers)}"
        collection(fresh, source=source, validation={"max_deleted": 1, "max_rejected": 1})
        index(settings, fresh, embedder=HashEmbedder())
        assert_same_index(export(settings, "shop"), export(settings, fresh))
        return done

    return run


def _counts(done: dict[str, Any]) -> dict[str, int]:
    return {action: count for action, count in done["plan"].items() if count and action != "unchanged"}


def test_every_change_of_the_rows(shop: Shop, indexed: Any) -> None:  # noqa: F811
    for n in range(8):
        shop.put(f"k{n}", f"Text of row {n}.", title=f"Row {n}", price=n)
    assert _counts(indexed()) == {"added": 8}

    again = indexed()
    assert (_counts(again), again["read"], again["texts"], again["chunks"]["written"]) == ({}, [], [], 0)

    shop.run("update article set text = 'Other text.', updated_at = '2026-02-01 00:00:00.5' where id = 'k1'")
    shop.run("update article set updated_at = '2026-02-01 00:00:00.5' where id = 'k2'")
    shop.run("delete from article where id = 'k3'")
    changed = indexed()
    assert _counts(changed) == {"changed": 1, "deleted": 1}
    assert changed["read"] == ["k1", "k2"]
    assert changed["chunks"]["embedded"] == 1

    shop.put("late", "Committed late, with an older timestamp.", "2020-01-01 00:00:00.5")
    shop.put("equal", "With a timestamp that was there before.", "2026-02-01 00:00:00.5")
    late = indexed()
    assert (_counts(late), late["read"]) == ({"added": 2}, ["equal", "late"])

    shop.run("update article set id = 'moved' where id = 'k4'")
    moved = indexed()
    assert (_counts(moved), moved["chunks"]["embedded"]) == ({"renamed": 1}, 0)

    shop.run("update article set price = 99, updated_at = '2026-03-01 00:00:00.5' where id = 'k5'")
    metadata = indexed()
    assert (_counts(metadata), metadata["chunks"]["embedded"]) == ({"metadata_only": 1}, 0)


def test_refused_rows_wait_in_quarantine_and_keep_their_last_good_version(
    shop: Shop,  # noqa: F811
    indexed: Any,
    settings: Settings,
) -> None:
    shop.put("a", "The good text of a.")
    shop.put("b", "The text of b.")
    indexed()
    shop.put("a", "A second row of the same id.")
    shop.put(None, "No id.")
    collided = index(settings, "shop", embedder=HashEmbedder())
    assert collided["plan"]["deleted"] == 0
    rows = dict(query(settings, "select uri, expectation from ragworks.quarantine where resolved_at is null"))
    assert rows == {"a": "uri_unique", "(no usable id) NULL": "readable"}
    assert "The good text of a." in [row["text"] for row in export(settings, "shop")]
    shop.run("delete from article where text = 'A second row of the same id.' or id is null")
    indexed()
    assert query(settings, "select uri from ragworks.quarantine where resolved_at is null") == []


def test_a_large_table(shop: Shop, settings: Settings, collection: Callable[..., str]) -> None:  # noqa: F811
    with shop.transaction() as connection:
        connection.cursor().executemany(
            f"insert into article (id, text, updated_at) values ({', '.join([shop._mark] * 3)})",
            [(n, f"Text of row {n}.", "2026-01-01 10:00:00.5") for n in range(2500)],
        )
    collection("shop", source={"type": "sql", "query": "select * from article", "url": shop.url})
    embedder = HashEmbedder()
    assert index(settings, "shop", embedder=embedder)["plan"]["added"] == 2500
    embedder.texts.clear()
    assert index(settings, "shop", embedder=embedder)["plan"]["unchanged"] == 2500
    assert embedder.texts == []


def test_a_connection_of_the_environment(
    tmp_path: Path, settings: Settings, collection: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    database = _sqlite(tmp_path / "shop.db")
    database.put("a", "Its text.")
    collection("shop", source={"type": "sql", "query": "select * from article", "conn_id": "warehouse"})
    monkeypatch.delenv("AIRFLOW_CONN_WAREHOUSE", raising=False)
    with pytest.raises(BadConfiguration, match=r"source\.conn_id warehouse: the variable AIRFLOW_CONN_WAREHOUSE is not set"):
        index(settings, "shop", embedder=HashEmbedder())
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "sqlite", "host": str(tmp_path / "shop.db")}))
    assert index(settings, "shop", embedder=HashEmbedder())["plan"]["added"] == 1


def test_an_empty_query_says_so(tmp_path: Path, settings: Settings, collection: Callable[..., str]) -> None:
    database = _sqlite(tmp_path / "shop.db")
    collection("shop", source={"type": "sql", "query": "select * from article", "url": database.url})
    with pytest.raises(Exception, match="the query returns no rows"):
        index(settings, "shop", embedder=HashEmbedder())
