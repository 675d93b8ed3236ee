"""What the fault tests share, made once a session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.promises.fault_cases import Cases
from tests.promises.fault_servers import Children, Databases
from tests.promises.fault_sources import make_sources

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="package")
def children() -> Iterator[Children]:
    """A warm process whose children do the jobs."""
    started = Children()
    yield started
    started.close()


@pytest.fixture(scope="package")
def cases(postgres: str, children: Children, tmp_path_factory: pytest.TempPathFactory) -> Cases:
    """Sources, templates and expected states."""
    folder = tmp_path_factory.mktemp("faults")
    make_sources(folder / "sources")
    return Cases(children, Databases(postgres), folder / "sources", folder)
