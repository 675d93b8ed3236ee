"""A dataset in a file and back: what a person corrected becomes a new version, which knows where it came from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from include.collection_file import NearDuplicates
from include.datasets.lines import read_lines, write_lines
from include.datasets.options import DatasetOptions
from include.datasets.spool import spooled
from include.errors import BadData
from include.store import answering_passages, datasets
from include.store.datasets import Pair

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.datasets.lines import Line
    from include.progress import Progress
    from include.store.datasets import Dataset
    from include.store.pool import Pool


def export_dataset(pool: Pool, dataset: Dataset, path: str) -> int:
    """Write every row to a file; returns how many.

    :raises BadConfiguration: the file cannot be written.
    """
    with pool.connection() as connection:
        return write_lines(path, datasets.pairs(connection, dataset.id), dataset.id)


def import_dataset(pool: Pool, collection: int, path: str, *, name: str | None = None, progress: Progress) -> Dataset:
    """Save the rows of a file as they are, as a new version; the same rows are the version that has them.

    :param collection: id of the collection.
    :param name: of the dataset; None: as the version that was exported.
    :raises BadData: with file, line, what is wrong and what is right; nothing is saved.
    """
    progress.step("read rows", None)
    reader = _Reader(pool, collection, path)
    with spooled(reader.rows()) as rows, pool.connection() as connection:
        if reader.count == 0:
            raise BadData(path, "it holds no rows", "Export a dataset to see how a line looks")
        parent = datasets.dataset(connection, reader.parent) if reader.parent is not None else None
        if parent is not None and parent.collection_id != collection:
            raise BadData(path, f"dataset {parent.id} is of another collection", "Import it there")
        arguments = parent.arguments if parent else DatasetOptions(name=name or "training").model_dump(mode="json")
        chosen = name or (parent.name if parent else "training")
        threshold = (parent.statistics.get("threshold") if parent else None) or NearDuplicates().threshold
        return datasets.save(
            connection, collection, chosen, rows, arguments={**arguments, "name": chosen}, parent=reader.parent,
            statistics={"file": Path(path).name, "threshold": threshold}, origin="imported",
        )  # fmt: skip


class _Reader:
    """Reads lines as rows, and remembers which dataset they were exported from."""

    def __init__(self, pool: Pool, collection: int, path: str) -> None:
        self._pool, self._collection, self._path = pool, collection, path
        self.parent: int | None = None
        self.count = 0

    def rows(self) -> Iterator[Pair]:
        """Every row, checked.

        :raises BadData: a line does not say on which side it is, or has no passage, or comes from another dataset.
        """
        for line in read_lines(self._path):
            if self.count == 0:
                self.parent = line.dataset
            elif line.dataset != self.parent:
                raise BadData(
                    line.place, f"dataset is {line.dataset}, and {self.parent} before", "Import each export by itself"
                )
            self.count += 1
            yield self._row(line)

    def _row(self, line: Line) -> Pair:
        if line.split is None:
            raise BadData(line.place, "split is missing", "Write train or dev, or have it divided: dataset NAME --build --file")
        text = self._text(line) if line.positive is None else line.positive
        return Pair(
            line.query, line.document, line.start, line.end, text, line.label, line.origin, line.style, line.split,
            line.metadata, line.negatives,
        )  # fmt: skip

    def _text(self, line: Line) -> str:
        """What the named characters say."""
        if line.start is None or line.end is None:
            raise BadData(line.place, "positive is missing", "Write the passage, or start and end of it in the document")
        with self._pool.connection() as connection:
            text = answering_passages.stored_text(connection, self._collection, line.document, line.start, line.end)
        if not text or len(text) < line.end - line.start or not text.strip():
            raise BadData(
                line.place, f"{line.document} has no text from {line.start} to {line.end}",
                "Count characters of its stored text, from 0, or write the passage",
            )  # fmt: skip
        return text
