"""The name of a document in messages and JSON."""

from __future__ import annotations

import pytest

from include.store.naming import Name, documents_in


@pytest.mark.parametrize(
    ("uri", "text", "expected"),
    [
        ("a.md", "moved from a.md", "moved from [forgotten]"),
        ("a.md", "would delete 2 of 5 (40.0%): a.md, b.md. Run", "would delete 2 of 5 (40.0%): [forgotten], b.md. Run"),
        ("a.md", "cannot read a.md: it is gone", "cannot read [forgotten]: it is gone"),
        ("a.md", "the last is a.md. Repair it", "the last is [forgotten]. Repair it"),
        ("a.md", "data.md, docs/a.md, a.md.bak, a.md/b, xa.md", "data.md, docs/a.md, a.md.bak, a.md/b, xa.md"),
        ("a+(b) c.md", "see 'a+(b) c.md'", "see '[forgotten]'"),
        ("7", "duplicate id: 7 is in line 17", "duplicate id: [forgotten] is in line 17"),
    ],
)  # fmt: skip
def test_text(uri: str, text: str, expected: str) -> None:
    assert Name(uri).out_of_text(text) == expected


def test_json() -> None:
    report = {
        "rows": ["a.md", "a.md line 3", "a.md#12", "a.md#L4", "b.md", "data.md"],
        "worst": [
            {"documents": ["a.md", "b.md"], "query": "of a.md"},
            {"document": "a.md", "text": "its heading"},
            {"documents": ["a.md"], "query": "its other heading"},
        ],
        "a.md": {"why": "it changed"},
        "stopped": "it would delete a.md",
        "count": 3,
    }
    assert Name("a.md").out_of_json(report) == {
        "rows": ["b.md", "data.md"],
        "worst": [{"documents": ["b.md"], "query": "of [forgotten]"}],
        "stopped": "it would delete [forgotten]",
        "count": 3,
    }


def test_what_json_is_about() -> None:
    found = [{"document": "b", "text": "c"}]
    assert documents_in({"documents": ["a", 7], "worst": [{"found": found}], "document": {"document": "d"}}) == {"a", "b", "d"}
    assert documents_in({"documents": 12, "document": None}) == documents_in([None, "a"]) == set()
