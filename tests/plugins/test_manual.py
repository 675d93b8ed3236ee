"""The page of a DAG names the source, and never what opens it."""

from __future__ import annotations

from typing import Any

import pytest

from include.collection_file import Collection
from ragworks.manual import describe_collection


def _page(**source: Any) -> str:
    return describe_collection(Collection.model_validate({"name": "shop", "source": source}))


def test_files() -> None:
    page = _page(type="files", path="s3://bucket/docs", conn_id="lake")
    assert "| source | files: `s3://bucket/docs`, `**/*`, connection `lake` |" in page
    assert "refuses | files over" in page


def test_a_query() -> None:
    page = _page(type="sql", query='select "id", `a` || b as text,\n  updated_at\nfrom article', conn_id="shop")
    row = r"""| source | sql: `select "id", 'a' \|\| b as text, updated_at from article`, connection `shop` |"""
    assert row in page
    assert "refuses | rows over" in page


@pytest.mark.parametrize(
    "source",
    [
        {"type": "files", "path": "sftp://me:hidden@host/docs"},
        {"type": "files", "path": "sftp://me:hid@hidden@host/docs"},
        {"type": "sql", "query": "select 1", "url": "postgresql://me:hidden@host/shop"},
        {"type": "sql", "query": "select 1", "url": "postgresql://me:hid@hid/hidden?x@host/shop"},
        {"type": "sql", "query": "select 1", "url": "postgresql://me@host/shop?password=hidden"},
    ],
)
def test_no_credentials(source: dict[str, Any]) -> None:
    page = _page(**source)
    assert "hid" not in page.replace("//…@host", "")
    assert "//…@host/" in page


def test_a_long_query_is_cut() -> None:
    page = _page(type="sql", query=f"select {'x' * 500} from y", conn_id="c")
    assert "x" * 190 in page
    assert "x" * 200 not in page
