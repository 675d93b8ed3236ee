"""What a question must be."""

from __future__ import annotations

import pytest

from include.collection_file import Guardrails
from include.errors import BadConfiguration
from include.guardrails.questions import admit


def test_admitted_and_scrubbed() -> None:
    assert admit("Who is jane@example.com?", Guardrails()) == ("Who is jane@example.com?", ())
    scrubbing = Guardrails(scrub_queries=("EMAIL_ADDRESS",))
    assert admit("Who is jane@example.com?", scrubbing) == ("Who is <EMAIL_ADDRESS>?", ("pii_in_question",))
    assert admit("Who is Jane?", scrubbing) == ("Who is Jane?", ())


@pytest.mark.parametrize("question", ["", " \n", "x" * 41])
def test_refused(question: str) -> None:
    with pytest.raises(BadConfiguration, match="the question"):
        admit(question, Guardrails(max_query_characters=40))


def test_a_wrong_kind_is_named_where_it_stands() -> None:
    with pytest.raises(BadConfiguration, match=r"guardrails\.scrub_queries: unknown kind 'MAIL'"):
        admit("Who?", Guardrails(scrub_queries=("MAIL",)))
