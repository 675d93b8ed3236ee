"""What a command prints: one JSON object on stdout with --json, else tables for people; progress and logs on stderr."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from include.progress import Silent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from include.progress import Progress


PIPED_WIDTH = 120  # columns of a table that nobody's terminal bounds


class Output:
    """Prints results; ``as_json`` decides for whom."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def result(self, value: Any) -> None:
        """The command's JSON result; nothing when a person is reading."""
        if self.as_json:
            print(json.dumps(value, ensure_ascii=False, default=str))

    def line(self, text: str = "") -> None:
        """A line for a person; nothing with --json."""
        if not self.as_json:
            print(text, flush=True)  # a reader at a pipe waits for it

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str = "") -> None:
        """A table for a person; nothing with --json."""
        if self.as_json:
            return
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*columns, title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for row in rows:
            table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
        Console(width=None if sys.stdout.isatty() else PIPED_WIDTH).print(table)

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Bars on stderr when it is a terminal."""
        if not sys.stderr.isatty():
            yield Silent()
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
            yield _TerminalProgress(bars)


class _TerminalProgress:
    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._task: TaskID | None = None

    def step(self, name: str, total: int | None) -> None:
        if self._task is not None:
            self._bars.remove_task(self._task)
        self._task = self._bars.add_task(name, total=total)

    def advance(self, count: int) -> None:
        if self._task is not None:
            self._bars.advance(self._task, count)
