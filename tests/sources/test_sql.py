"""The rows of a query: every change is seen by key and update time, whatever order they were written in."""

from __future__ import annotations

import datetime as dt
import math
import sqlite3
import tracemalloc
from contextlib import closing, contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import sqlalchemy.event
import sqlalchemy.pool
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from include.collection_file import Collection
from include.errors import BadConfiguration, ServiceUnavailable
from include.sources import open_source
from include.sources.sql import SqlSource
from include.sources.sql_values import racy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from include.sources.source import Document

OLD = "2026-01-01 10:00:00.5"


class Shop:
    """A database with a table of articles, SQLite or Postgres."""

    def __init__(self, url: str, connect: Callable[[], Any], mark: str) -> None:
        self.url, self._connect, self._mark = url, connect, mark

    def run(self, statement: str, *parameters: Any) -> None:
        with closing(self._connect()) as connection:
            connection.execute(statement.replace("?", self._mark), parameters)
            connection.commit()

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        with closing(self._connect()) as connection:
            yield connection
            connection.commit()

    def put(self, key: Any, text: str | None, updated: str | None = OLD, **more: Any) -> None:
        columns = {"id": key, "text": text, "updated_at": updated, **more}
        marks = ", ".join("?" * len(columns))
        self.run(f"insert into article ({', '.join(columns)}) values ({marks})", *columns.values())


def _sqlite(path: Path, key: str = "text") -> Shop:
    shop = Shop(f"sqlite:///{path}", lambda: sqlite3.connect(path), "?")
    shop.run(f"create table article (id {key}, title text, text text, updated_at timestamp, price numeric, acl text)")
    return shop


def _postgres(url: str, key: str = "text") -> Shop:
    shop = Shop(url, lambda: psycopg.connect(url), "%s")
    shop.run(f"create table article (id {key}, title text, text text, updated_at timestamp, price numeric, acl text[])")
    return shop


@pytest.fixture
def second_database(postgres: str) -> Iterator[str]:
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("drop database if exists shop with (force)")
        connection.execute("create database shop")
    parts = conninfo_to_dict(postgres)
    yield f"postgresql://{parts['user']}:{parts['password']}@{parts['host']}:{parts['port']}/shop"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("drop database shop with (force)")


@pytest.fixture(params=["sqlite", "postgres"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Shop:
    if request.param == "sqlite":
        return _sqlite(tmp_path / "shop.db")
    return _postgres(request.getfixturevalue("second_database"))


def opened(shop: Shop, max_bytes: int = 20_000_000, query: str = "select * from article", **source: Any) -> SqlSource:
    settings = {"type": "sql", "query": query, "url": shop.url, **source}
    made = open_source(Collection.model_validate({"name": "a", "source": settings, "validation": {"max_bytes": max_bytes}}))
    assert isinstance(made, SqlSource)
    return made


def stamps(shop: Shop, **options: Any) -> dict[str, str]:
    listed = list(opened(shop, **options).listing())
    assert [obj.uri for obj in listed] == sorted({obj.uri for obj in listed})
    return {obj.uri: obj.fingerprint for obj in listed}


def read(shop: Shop, **options: Any) -> dict[str, Document]:
    source = opened(shop, **options)
    objects = list(source.listing())
    found = [(obj, list(documents)) for obj, documents in source.read_many(objects)]
    assert [obj for obj, _ in found] == objects
    return {document.uri: document for _, documents in found for document in documents}


def test_rows_become_documents(shop: Shop) -> None:
    shop.put("a", "Body of a", title="Title")
    shop.put("b", None, title="B", price=2.5)
    found = read(shop, title="title", text=["text", "price"], metadata=["price", "updated_at"])
    assert found["a"].text == "Title\n\nBody of a"
    assert found["a"].metadata["title"] == "Title"
    assert found["a"].acl is None
    assert found["b"].text == "B\n\n2.5"
    assert found["b"].metadata["price"] == 2.5
    assert str(found["b"].metadata["updated_at"]).startswith("2026-01-01")
    assert not any(document.problem for document in found.values())


def test_an_unchanged_row_keeps_its_fingerprint_and_a_changed_one_does_not(shop: Shop) -> None:
    for key in "abc":
        shop.put(key, "x")
    before = stamps(shop)
    assert stamps(shop) == before
    shop.run("update article set updated_at = '2026-01-02 00:00:00.25' where id = 'b'")
    after = stamps(shop)
    assert {key for key in after if after[key] != before[key]} == {"b"}


def test_what_a_single_watermark_misses(shop: Shop) -> None:
    shop.put("first", "x", "2026-01-01 10:00:00.5")
    with shop.transaction() as late:
        late.execute("insert into article (id, text, updated_at) values ('late', 'x', '2026-01-01 09:00:00.5')")
        if shop.url.startswith("postgres"):  # SQLite has one writer at a time
            shop.put("second", "x", "2026-01-01 11:00:00.5")
            assert set(stamps(shop)) == {"first", "second"}
    before = stamps(shop)
    assert "late" in before
    shop.put("equal", "x", "2026-01-01 10:00:00.5")
    shop.run("update article set updated_at = '2025-01-01 10:00:00.5' where id = 'first'")  # a clock that went back
    shop.run("delete from article where id = 'late'")
    after = stamps(shop)
    assert set(after) - set(before) == {"equal"}
    assert set(before) - set(after) == {"late"}
    assert after["first"] != before["first"]


@pytest.mark.parametrize("order", ["", " order by id desc", " order by lower(id), text"])
def test_code_point_order_whatever_the_database_does(second_database: str, tmp_path: Path, order: str) -> None:
    keys = ["b", "B", "a", "ä", "Z", "_", "é", "😀", "\uffee", "10", "9", "a b", "a/b", "ab"]
    for shop in (_sqlite(tmp_path / "s.db", "text collate nocase"), _postgres(second_database)):
        for key in keys:
            shop.put(key, f"text of {key}")
        query = f"select * from article{order}"
        assert list(stamps(shop, query=query)) == sorted(keys)
        assert {uri: d.text for uri, d in read(shop, query=query).items()} == {key: f"text of {key}" for key in keys}


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("bigint", [1, 2, 30, -4, 9_000_000_000]),
        ("uuid", ["0c0ee23c-6d0c-4d4e-a6a8-2a9b1e4f2a10", "ffffffff-6d0c-4d4e-a6a8-2a9b1e4f2a10"]),
        ("numeric(10, 2)", [1, 2.5]),
        ("timestamptz", ["2026-01-01 10:00:00+02", "2026-01-01 10:00:00.123+00"]),
        ("char(4)", ["ab", "cd"]),
        ("date", ["2026-01-01"]),
    ],
)
def test_ids_of_any_type_are_found_again(second_database: str, kind: str, keys: list[Any]) -> None:
    shop = _postgres(second_database, kind)
    for key in keys:
        shop.put(key, "x")
    found = read(shop)
    assert len(found) == len(keys)
    assert [d.problem for d in found.values()] == [""] * len(keys)


def test_an_index_of_the_table_serves_the_reading(second_database: str) -> None:
    shop = _postgres(second_database, "bigint primary key")
    shop.run("insert into article (id, text, updated_at) select n, 'x', now() from generate_series(1, 50000) n")
    shop.run("analyze article")
    shop.run("alter database shop set plan_cache_mode = force_custom_plan")
    source = opened(shop)
    ids = [obj for obj in source.listing() if obj.uri in ("7", "8", "9")]
    before = _scans(shop)
    assert len(list(source.read_many(ids))) == 3
    after = _scans(shop)
    assert (after[0] - before[0], after[1] - before[1]) == (0, 1)


def _scans(shop: Shop) -> tuple[int, int]:
    with shop.transaction() as connection:
        connection.execute("select pg_stat_force_next_flush()")
        connection.commit()
        row = connection.execute("select seq_scan, idx_scan from pg_stat_user_tables where relname = 'article'").fetchone()
    return int(row[0]), int(row[1] > 0)


def test_sqlite_takes_one_and_the_text_1_for_one_id(tmp_path: Path) -> None:
    shop = _sqlite(tmp_path / "s.db", "")
    for key in (1, 2, "3", "x"):
        shop.put(key, f"text {key}")
    shop.put("2", "another")
    found = read(shop)
    assert {uri: d.text for uri, d in found.items()} == {"1": "text 1", "2": "", "3": "text 3", "x": "text x"}
    assert found["2"].problem.startswith("duplicate id: 2 rows of the query have it")


def test_repeated_ids_are_refused_and_every_change_of_them_is_seen(shop: Shop) -> None:
    shop.put("a", "one", "2026-01-01 10:00:00.5")
    shop.put("a", "two", "2026-01-02 10:00:00.5")
    shop.put("b", "fine")
    before = stamps(shop)
    found = read(shop)
    assert found["a"].problem == "duplicate id: 2 rows of the query have it; make source.id a column that is unique"
    assert found["b"].problem == ""
    assert stamps(shop) == before
    shop.run("update article set updated_at = '2026-01-01 09:00:00.5' where text = 'one'")
    middle = stamps(shop)
    assert middle["a"] != before["a"]
    shop.run("delete from article where text = 'two'")
    assert stamps(shop)["a"] not in (middle["a"], before["a"])
    assert read(shop)["a"].text == "one"


def test_rows_without_a_usable_id_are_told(shop: Shop) -> None:
    shop.put(None, "x")
    shop.put(None, "y")
    shop.put(" ", "blank")
    shop.put("k" * 1001, "long")
    shop.put("good", "fine")
    found = read(shop)
    assert stamps(shop).keys() == found.keys()
    assert found["good"].problem == ""
    problems = sorted(d.problem for uri, d in found.items() if uri != "good")
    assert [p.split(";")[0] for p in problems] == ["id NULL", "id is empty", "id is longer than 1,000 bytes"]
    assert all(len(uri) < 300 for uri in found)


def test_a_row_without_update_time_is_read_in_every_run(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    shop.put("a", "x", None)
    shop.put("b", "y")
    first, second = stamps(shop), stamps(shop)
    assert first["a"] != second["a"]
    assert first["b"] == second["b"]
    assert "1 rows have no updated_at: they are read in every run" in caplog.text
    assert read(shop)["a"].text == "x"


def test_a_stamp_of_this_second_may_stand_for_two_versions(shop: Shop) -> None:
    now = "current_timestamp" if shop.url.startswith("sqlite") else "date_trunc('second', now()::timestamp)"
    shop.run(f"insert into article (id, text, updated_at) values ('a', 'x', {now})")
    shop.put("b", "y")
    first, second = stamps(shop), stamps(shop)
    assert first["a"] != second["a"]
    assert first["b"] == second["b"]


@pytest.mark.parametrize("unit", [1, 10**3, 10**6, 10**9])
@pytest.mark.parametrize("kind", [int, float, Decimal, str])
def test_a_number_of_this_second_may_stand_for_two_versions(unit: int, kind: Callable[[Any], Any]) -> None:
    second = 1_796_000_000
    clock = [
        dt.datetime.fromtimestamp(second + 0.7, dt.UTC),
        dt.datetime.fromtimestamp(second + 9000, dt.UTC).replace(tzinfo=None),
    ]
    assert racy(kind(second * unit), clock)
    assert racy(kind((second - 1) * unit), clock)
    assert not racy(kind((second - 2) * unit), clock)
    assert not racy(kind((second + 9000) * unit), clock)  # a clock without a zone does not say which moment it is
    if unit > 1:  # finer than a second
        assert racy(kind(second * unit + unit * 68 // 100), clock)
        assert not racy(kind(second * unit + unit * 6 // 10), clock)


@pytest.mark.parametrize(
    "value",
    [
        7,
        123_456_789,
        10**15,
        2**80,
        -1_796_000_000,
        True,
        0.5,
        math.nan,
        math.inf,
        Decimal("NaN"),
        Decimal("Infinity"),
        "1",
        "",
    ],
)
def test_a_counter_is_no_time(value: Any) -> None:
    assert not racy(value, [dt.datetime.fromtimestamp(1_796_000_000, dt.UTC)])


def test_a_second_update_within_the_second_of_an_epoch_is_seen(second_database: str, tmp_path: Path) -> None:
    for shop, now in (
        (_sqlite(tmp_path / "epoch.db"), "unixepoch()"),
        (_postgres(second_database), "extract(epoch from now())"),
    ):
        number = "integer" if shop.url.startswith("sqlite") else "bigint"
        query = f"select id, text, cast(version as {number}) as version from article"
        shop.run(f"alter table article add column version {number}")
        shop.run(f"insert into article (id, text, version) values ('a', 'x', cast({now} as {number})), ('b', 'y', 4711)")
        first = stamps(shop, query=query, updated_at="version")
        shop.run("update article set text = 'second'")
        second = stamps(shop, query=query, updated_at="version")
        assert first["a"] != second["a"]
        assert first["b"] == second["b"]


def test_a_zone_does_not_change_a_fingerprint(second_database: str) -> None:
    shop = _postgres(second_database)
    shop.run("alter table article alter updated_at type timestamptz")
    shop.put("a", "x", "2026-01-01 10:00:00.5+00")
    before = stamps(shop)
    shop.run("alter database shop set timezone = 'Asia/Tokyo'")
    assert stamps(shop) == before


def test_a_row_version_is_an_update_time_too(second_database: str) -> None:
    shop = _postgres(second_database)
    for key in "ab":
        shop.put(key, "x")
    before = stamps(shop, query="select id, text, xmin as version from article", updated_at="version")
    shop.run("update article set text = 'y' where id = 'b'")
    after = stamps(shop, query="select id, text, xmin as version from article", updated_at="version")
    assert {key for key in after if after[key] != before[key]} == {"b"}
    as_bytes = "select id, text, decode(md5(text), 'hex') as version from article"
    assert len(set(stamps(shop, query=as_bytes, updated_at="version").values())) == 2


@pytest.mark.parametrize(
    "other",
    [{"text": ["title"]}, {"query": "select * from article where 1 = 1"}, {"metadata": ["price"]}, {"max_bytes": 7}],
)
def test_other_settings_read_every_row_again(shop: Shop, other: dict[str, Any]) -> None:
    shop.put("a", "x")
    assert stamps(shop)["a"] != stamps(shop, **other)["a"]


def test_a_row_that_is_gone_by_the_time_it_is_read(shop: Shop) -> None:
    shop.put("a", "x")
    shop.put("b", "y")
    source = opened(shop)
    objects = list(source.listing())
    shop.run("delete from article where id = 'a'")
    first, second = (next(documents) for _, documents in source.read_many(objects))
    assert (first.uri, first.problem) == ("a", "the row is gone since it was listed; run again")
    assert (second.text, second.problem) == ("y", "")
    assert next(source.read(objects[1])).text == "y"


def test_more_rows_than_one_query_asks_for_in_the_order_asked(shop: Shop) -> None:
    with shop.transaction() as connection:
        connection.cursor().executemany(
            f"insert into article (id, text, updated_at) values ({', '.join([shop._mark] * 3)})",
            [(f"{n:05}", f"text {n}", OLD) for n in range(1200)],
        )
    source = opened(shop)
    objects = list(source.listing())[::-1]
    found = [(obj.uri, next(documents).text) for obj, documents in source.read_many(objects)]
    assert found == [(f"{n:05}", f"text {n}") for n in reversed(range(1200))]


def test_a_batch_too_large_to_hold_is_read_in_parts(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("include.sources.sql._MOST_HELD", 25_000)
    for n in range(30):
        shop.put(f"{n:02}", "x" * 10_000)
    tracemalloc.start()
    source = opened(shop)
    sizes = [len(next(documents).text) for _, documents in source.read_many(list(source.listing()))]
    tracemalloc.stop()
    assert sizes == [10_000] * 30


def test_the_limit_of_a_row(shop: Shop) -> None:
    shop.put("a", "x" * 100)
    shop.put("b", "x")
    found = read(shop, max_bytes=60)
    assert found["a"].problem.startswith("the row is 1")
    assert "the limit validation.max_bytes is 60; raise it or split the row" in found["a"].problem
    assert found["b"].problem == ""


def test_values_that_cannot_be_stored(tmp_path: Path) -> None:
    shop = _sqlite(tmp_path / "s.db")
    shop.put("nul", "a\0b")
    shop.put("bytes", "x", price=b"\x00\x01")
    shop.put("infinite", "x", price=float("inf"))
    shop.run("insert into article values ('latin', 't', cast(x'e9' as text), '2026-01-01', 1, null)")
    shop.run("insert into article values (cast(x'e96964' as text), 't', 'x', '2026-01-01', 1, null)")
    found = read(shop, metadata=["price"])
    assert found["nul"].problem == "text holds a NUL character; remove it"
    assert found["bytes"].problem == "price is bytes; cast it to text in source.query"
    assert "number too large" in found["infinite"].problem
    assert found["latin"].problem.startswith("text holds a lone surrogate")
    assert any("lone surrogate" in d.problem for uri, d in found.items() if uri.startswith("(no usable id)"))
    assert len(found) == 5


def test_values_of_postgres_as_json(second_database: str) -> None:
    shop = Shop(second_database, lambda: psycopg.connect(second_database), "%s")
    query = """
        select 1 as id, timestamp '2026-01-01' as updated_at, 'x' as text, date '2026-02-03' as day,
          1.50::numeric(8, 2) as price,
          '12345678901234567890.5'::numeric as exact, '{"a": [1, null]}'::jsonb as tree, array['p', 'q'] as tags,
          '0c0ee23c-6d0c-4d4e-a6a8-2a9b1e4f2a10'::uuid as code, true as flag, null::int as nothing,
          timestamptz '2026-01-01 12:00+02' as at, '10:00'::time as opens, 'a:b %s %% :c' as odd, interval '1 minute' as lasts,
          '10.0.0.1'::inet as host -- a comment at the end"""
    names = ["day", "price", "exact", "tree", "tags", "code", "flag", "nothing", "at", "opens", "odd", "lasts", "host"]
    (document,) = read(shop, query=query, metadata=names).values()
    assert document.problem == ""
    assert document.metadata == {
        "day": "2026-02-03",
        "price": 1.5,
        "exact": "12345678901234567890.5",
        "tree": {"a": [1, None]},
        "tags": ["p", "q"],
        "code": "0c0ee23c-6d0c-4d4e-a6a8-2a9b1e4f2a10",
        "flag": True,
        "nothing": None,
        "at": "2026-01-01T10:00:00+00:00",
        "opens": "10:00:00",
        "odd": "a:b %s %% :c",
        "lasts": 60.0,
        "host": "10.0.0.1",
    }
    (refused,) = read(shop, query=query, text=["tree"]).values()
    assert refused.problem == "tree is a JSON object; make it text in source.query"


def test_access_lists(shop: Shop) -> None:
    lists = shop.url.startswith("postgres")
    shop.put("public", "x")
    shop.put("some", "x", acl=["a", "b"] if lists else '["a", "b"]')
    shop.put("nobody", "x", acl=[] if lists else "[]")
    shop.put("odd", "x", acl=["a", None] if lists else "staff")
    found = read(shop, acl="acl")
    assert (found["public"].acl, found["some"].acl, found["nobody"].acl) == (None, ("a", "b"), ())
    assert found["odd"].problem.startswith("acl is not a list of names")


def test_a_query_of_parts(shop: Shop) -> None:
    shop.put("a", "x")
    query = '-- all\nwith part as (select * from article) select id as "Key", text, updated_at as changed from part;'
    (document,) = read(shop, query=query, id="Key", updated_at="changed").values()
    assert (document.uri, document.text) == ("a", "x")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            {"updated_at": "updatedat"},
            r"source\.updated_at 'updatedat': the query has no such column.*Perhaps updated_at is meant",
        ),
        ({"metadata": ["zzz"]}, r"source\.metadata 'zzz': the query has no such column, it has id, title, text"),
        ({"query": "select * from nowhere"}, r"source\.url: the database says: .*nowhere"),
        ({"query": "select * frm article"}, r"source\.url: the database says: .*syntax"),
        ({"query": "delete from article"}, r"source\.query: it begins with neither SELECT nor WITH"),
        ({"query": "select 1) x; delete from article; --"}, r"source\.url: the database says"),
    ],
)
def test_bad_settings_are_named(shop: Shop, source: dict[str, Any], expected: str) -> None:
    shop.put("a", "x")
    with pytest.raises(BadConfiguration, match=expected) as caught:
        opened(shop, **source).listing()
    assert "\n" not in str(caught.value)
    assert list(stamps(shop)) == ["a"]


def test_the_database_is_opened_to_read_only(second_database: str) -> None:
    shop = _postgres(second_database)
    shop.run("create function spoil() returns int language sql as 'delete from article returning 1'")
    shop.put("a", "x")
    with pytest.raises(BadConfiguration, match="read-only transaction"):
        opened(shop, query="select id, text, updated_at, spoil() from article").listing()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("not a url", "it is not a URL of SQLAlchemy"),
        ("nosuch://host/db", "SQLAlchemy has no dialect 'nosuch'"),
        ("mysql://me:hidden@host/db", "its driver pymysql is not installed. pip install pymysql"),
        ("oracle+oracledb://me:hidden@host/db", "its driver oracledb is not installed. pip install oracledb"),
        ("sqlite:////nowhere/shop.db", "there is no file /nowhere/shop.db"),
    ],
)
def test_urls_that_cannot_be_used(url: str, expected: str) -> None:
    with pytest.raises(BadConfiguration, match=expected) as caught:
        opened(Shop(url, lambda: None, ""))
    assert "hidden" not in str(caught.value)


def test_a_wrong_password_and_no_server(second_database: str) -> None:
    wrong = second_database.replace(":" + second_database.split(":")[2].split("@")[0] + "@", ":not-the-secret@")
    with pytest.raises(BadConfiguration, match="password authentication failed") as caught:
        opened(Shop(wrong, lambda: None, "")).listing()
    assert "not-the-secret" not in str(caught.value)
    with pytest.raises(ServiceUnavailable, match="the database does not answer"):
        opened(Shop("postgresql://u:not-the-secret@127.0.0.1:1/db", lambda: None, "")).listing()


def test_a_database_that_drops_in_the_middle(second_database: str, postgres: str) -> None:
    shop = _postgres(second_database, "bigint")
    shop.run("insert into article (id, text, updated_at) select n, 'x', '2026-01-01' from generate_series(1, 20000) n")

    def cut(*_: Any) -> None:
        with psycopg.connect(postgres, autocommit=True) as connection:
            connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = 'shop'")

    source = opened(shop)
    rows = source._stamps()
    next(rows)
    cut()
    with pytest.raises(ServiceUnavailable, match="the database does not answer"):
        list(rows)
    objects = list(source.listing())[:600]
    reading = source.read_many(objects)
    next(reading)
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("alter database shop allow_connections false"))
        cut()
        with pytest.raises(ServiceUnavailable):
            list(reading)
        connection.execute(sql.SQL("alter database shop allow_connections true"))


def test_a_locked_database_is_an_outage(tmp_path: Path) -> None:
    shop = _sqlite(tmp_path / "s.db")
    shop.put("a", "x")
    with closing(sqlite3.connect(tmp_path / "s.db", isolation_level=None)) as other:
        other.execute("begin exclusive")
        source = opened(Shop(f"{shop.url}?timeout=0.1", lambda: None, ""))
        with pytest.raises(ServiceUnavailable, match="locked"):
            source.listing()


def test_a_large_table_is_never_held(shop: Shop) -> None:
    rows, key = 20_000, "k" * 200
    with shop.transaction() as connection:
        connection.cursor().executemany(
            f"insert into article (id, text, updated_at) values ({', '.join([shop._mark] * 3)})",
            [(f"{key}{n:06}", "x", OLD) for n in range(rows)],
        )
    kinds: set[str] = set()
    engine = opened(shop)._database._engine
    source = opened(shop)

    def note(_: Any, cursor: Any, *__: Any) -> None:
        kinds.add(type(cursor).__name__)

    sqlalchemy.event.listen(source._database._engine, "before_cursor_execute", note)
    tracemalloc.start()
    count = sum(1 for _ in source.listing())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == rows
    assert peak < 5_200 * 2 * 300, "no more than the rows of one fetch"  # all of them would take four times that
    assert engine.dialect.name == "sqlite" or any("ServerCursor" in kind for kind in kinds)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("text::int", "22P02 invalid input syntax for type integer: …"),
        ("text::jsonb", "22P02 invalid input syntax for type json"),
        ("('12345678' || length(text) || '99')::int", "22003 value … is out of range for type integer"),
        ("shout(text)", "P0001"),
    ],
)
def test_an_error_about_a_value_does_not_quote_it(second_database: str, column: str, expected: str) -> None:
    """It is kept with the run, and the value is of a row that the scrubber never saw."""
    shop = _postgres(second_database)
    body = "begin raise exception using message = said; end"
    shop.run(f"create function shout(said text) returns text language plpgsql as '{body}'")
    shop.put("a", 'jane."j".doe@example.com ' + "x" * 400)
    source = opened(shop, query=f"select id, {column} as text, updated_at from article")
    with pytest.raises(BadConfiguration) as caught:
        list(source.read_many(list(source.listing())))
    assert f"the database says: {expected}" in str(caught.value)
    assert "run the query in the database" in str(caught.value)
    assert not [word for word in ("jane", "example.com", "doe", "1234") if word in str(caught.value)]


def test_whole_numbers_of_any_length_stay_what_they_are(second_database: str) -> None:
    shop = Shop(second_database, lambda: psycopg.connect(second_database), "%s")
    query = """select 1 as id, timestamp '2026-01-01' as updated_at, 4111111111111111::numeric(16) as card,
      12345678901234567890::numeric as longer, 1e300::numeric as large, 1e400::numeric as largest, 2.50::numeric as price"""
    (document,) = read(shop, query=query, text=["card"], metadata=["card", "longer", "large", "largest", "price"]).values()
    assert document.text == "4111111111111111"
    assert document.metadata == {
        "card": 4111111111111111, "longer": 12345678901234567890, "large": 10**300, "largest": str(10**400), "price": 2.5,
    }  # fmt: skip
    assert all(isinstance(document.metadata[name], int) for name in ("card", "longer", "large"))
