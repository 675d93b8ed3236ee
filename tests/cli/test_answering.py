"""`ask` and `answer` on the command line, with the real model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from include.cli.main import main
from tests.support import index

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from include.config import Settings


@pytest.fixture
def shell(
    settings: Settings, documents: Path, collection: Callable[..., str], environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> Callable[..., tuple[int, str]]:  # fmt: skip
    """Runs a command over a small indexed collection."""
    (documents / "office.md").write_text("# Office\n\nThe office in Lisbon opens at 8:30 on weekdays. It closes at six.")
    (documents / "cats.md").write_text("# Cats\n\nCats sleep most of the day.")
    index(settings, collection(guardrails={"max_query_characters": 200}))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        code = main(arguments)
        return code, capsys.readouterr().out

    return run


def test_ask_then_answer(shell: Callable[..., tuple[int, str]]) -> None:
    code, out = shell("ask", "handbook", "When does the office in Lisbon open?", "--json")
    asked: dict[str, Any] = json.loads(out)
    assert (code, asked["answer"]) == (0, "The office in Lisbon opens at 8:30 on weekdays. [1]")
    assert asked["extractive"]
    assert asked["passport"]["confidence"] == "all-MiniLM-L6-v2-1"
    assert asked["citations"][0]["document"] == "office.md"
    assert asked["confidence"] > 0.5
    code, out = shell("answer", asked["id"], "--json")
    assert (code, json.loads(out)["text"]) == (0, asked["answer"])
    code, out = shell("ask", "handbook", "When does the office in Lisbon open?", "--top-k", "1", "--mode", "dense")
    assert code == 0
    assert "[1] office.md [" in out
    assert "extracted: no LLM is set" in out
    code, out = shell("ask", "handbook", "Which bacteria cause Lyme disease?", "--json")
    assert (json.loads(out)["abstained"], json.loads(out)["flags"]) == (True, ["low_confidence"])
    for arguments, message in (
        (("answer", "7"), "not the id of an answer"),
        (("answer", "00000000-0000-0000-0000-000000000000"), "none of this id"),
        (("ask", "handbook", "x" * 201), "200 are allowed"),
        (("ask", "handbook", " "), "empty"),
    ):
        code, out = shell(*arguments, "--json")
        assert code == 65
        assert message in json.loads(out)["error"]
