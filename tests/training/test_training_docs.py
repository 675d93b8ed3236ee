"""docs/training.md names every argument of a training."""

from __future__ import annotations

import pytest

from include.config import PROJECT_ROOT
from include.training.arguments import ARGUMENTS


@pytest.mark.parametrize("family", sorted(ARGUMENTS))
def test_every_argument_is_documented(family: str) -> None:
    page = (PROJECT_ROOT / "docs" / "training.md").read_text()
    missing = [name for name in ARGUMENTS[family].model_fields if f"`{name}`" not in page]
    assert missing == []
