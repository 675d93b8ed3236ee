"""What a question must be before anything is done with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.errors import BadConfiguration
from include.guardrails.personal import scrub

if TYPE_CHECKING:
    from include.collection_file import Guardrails


def admit(question: str, guardrails: Guardrails) -> tuple[str, tuple[str, ...]]:
    """The question as it may be searched, logged and sent to an LLM, and flags: ``pii_in_question``.

    :raises BadConfiguration: it is empty, or longer than ``guardrails.max_query_characters``.
    """
    if not question.strip():
        raise BadConfiguration("the question", "it is empty", "Ask something")
    if len(question) > guardrails.max_query_characters:
        raise BadConfiguration(
            "the question", f"it has {len(question)} characters, {guardrails.max_query_characters} are allowed",
            "Shorten it, or raise guardrails.max_query_characters",
        )  # fmt: skip
    clean, found = scrub(question.replace("\x00", ""), guardrails.scrub_queries, "guardrails.scrub_queries")
    return clean, ("pii_in_question",) if found else ()
