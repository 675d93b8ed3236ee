"""Validation reports: what each Great Expectations suite found, batch by batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from include.store.pool import Connection


@dataclass(frozen=True, slots=True)
class ReportRow:
    """The result of one suite over one batch."""

    suite: str
    success: bool
    evaluated: int
    rejected: int
    result: dict[str, Any]
    created_at: datetime


def save_report(
    connection: Connection,
    run_id: int,
    suite: str,
    *,
    success: bool,
    evaluated: int,
    rejected: int,
    result: Mapping[str, Any],
) -> None:
    """Store one batch's result."""
    connection.execute(
        "insert into ragworks.validation_report (run_id, suite, success, evaluated, rejected, result)"
        " values (%s, %s, %s, %s, %s, %s)",
        (run_id, suite, success, evaluated, rejected, Jsonb(dict(result))),
    )


def reports(connection: Connection, run_id: int) -> list[ReportRow]:
    """All results of a run, in order."""
    with connection.cursor(row_factory=class_row(ReportRow)) as cursor:
        return cursor.execute(
            "select suite, success, evaluated, rejected, result, created_at from ragworks.validation_report"
            " where run_id = %s order by id",
            (run_id,),
        ).fetchall()
