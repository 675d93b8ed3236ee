"""`up`, `down`, `demo`: the whole local stack, an embedded Postgres and Airflow with its UI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the commands."""
