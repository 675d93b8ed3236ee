"""Each expectation fails for the row it is meant for, and for no other."""

from __future__ import annotations

from typing import Any

import pytest

from include.collection_file import Validation
from include.quality.suites import chunk_rules, document_rules
from include.quality.validate import validate

GOOD_DOCUMENT = {
    "uri": "a.md", "duplicate_of": None, "problem": None, "visible_characters": 10, "size": 10, "control_characters": 0,
    "missing_metadata": None,
}  # fmt: skip
GOOD_CHUNK = {
    "tokens": 5, "start": 0, "end": 10, "document_length": 10, "exact": True, "text": "some text", "dimension": 384,
    "finite": True, "norm": 1.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        ({"duplicate_of": "duplicate id: first seen at line 1"}, "uri_unique"),
        ({"problem": "not text"}, "readable"),
        ({"uri": ""}, "uri_length"),
        ({"uri": "x" * 3000}, "uri_length"),
        ({"visible_characters": 0}, "text_not_empty"),
        ({"size": 20_000_001}, "size_within_limit"),
        ({"control_characters": 3}, "no_control_characters"),
        ({"missing_metadata": "team"}, "required_metadata"),
    ],
)
def test_documents(bad: dict[str, Any], rule: str) -> None:
    verdict = _validate("documents", document_rules(Validation()), GOOD_DOCUMENT, bad)
    assert {i: f.rule for i, f in verdict.failures.items()} == {1: rule}


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        ({"tokens": 0}, "chunk_tokens"),
        ({"tokens": 201}, "chunk_tokens"),
        ({"start": 10}, "chunk_span_order"),
        ({"end": 11}, "chunk_span_inside"),
        ({"exact": False}, "chunk_span_exact"),
        ({"text": "a\x00b"}, "chunk_no_control_characters"),
        ({"text": "a\x1b[0m"}, "chunk_no_control_characters"),
        ({"dimension": 383}, "embedding_dimension"),
        ({"finite": False}, "embedding_finite"),
        ({"norm": 0.0}, "embedding_norm"),
        ({"norm": 1.5}, "embedding_norm"),
    ],
)
def test_chunks(bad: dict[str, Any], rule: str) -> None:
    verdict = _validate("chunks", chunk_rules(max_tokens=200, dimension=384), GOOD_CHUNK, bad)
    assert {i: f.rule for i, f in verdict.failures.items()} == {1: rule}


def test_the_stored_result_names_rows_and_expectations() -> None:
    verdict = _validate("documents", document_rules(Validation()), GOOD_DOCUMENT, {"visible_characters": 0})
    by_name = {e["name"]: e for e in verdict.result["expectations"]}
    assert by_name["text_not_empty"]["rows"] == ["row 1"]
    assert by_name["text_not_empty"]["success"] is False
    assert by_name["readable"]["success"] is True
    assert len(by_name) == len(document_rules(Validation()))


def test_a_suite_that_cannot_be_computed_is_no_pass() -> None:
    with pytest.raises(RuntimeError, match="could not be computed"):
        validate("documents", document_rules(Validation()), {"uri": ["a"]}, ["a"])


def _validate(suite: str, rules: Any, good: dict[str, Any], bad: dict[str, Any]) -> Any:
    rows = [good, good | bad, good]
    columns = {name: [row[name] for row in rows] for name in good}
    return validate(suite, rules, columns, [f"row {i}" for i in range(3)])
