"""docs/training.md names every argument of a training; those of a language model stand in docs/llm-training.md."""

from __future__ import annotations

import pytest

from include.config import PROJECT_ROOT
from include.training.arguments import ARGUMENTS


@pytest.mark.parametrize("family", sorted(ARGUMENTS))
def test_every_argument_is_documented(family: str) -> None:
    names = ("training.md", "llm-training.md") if family == "llm" else ("training.md",)
    page = "".join((PROJECT_ROOT / "docs" / name).read_text() for name in names)
    missing = [name for name in ARGUMENTS[family].model_fields if f"`{name}`" not in page]
    assert missing == []
