"""A file of conversations as a dataset: as it is, or one source of a build; and a dataset as a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from include.datasets.conversations.drafts import text_keys
from include.datasets.conversations.held_out import asked
from include.datasets.conversations.lines import lines_of, read_conversations
from include.datasets.conversations.options import LlmDataOptions
from include.datasets.conversations.sides import near_keys, sides_of
from include.datasets.lines import write_objects
from include.errors import BadData
from include.store import conversations, datasets

if TYPE_CHECKING:
    from include.datasets.conversations.lines import Line
    from include.progress import Progress
    from include.store.conversations import Conversation, Kind
    from include.store.datasets import Dataset
    from include.store.pool import Pool


def export_conversations(pool: Pool, dataset: Dataset, path: str) -> int:
    """Write every row to a file; returns how many.

    :raises BadConfiguration: the file cannot be written.
    """
    with pool.connection() as connection:
        return write_objects(path, lines_of(conversations.conversations(connection, dataset.id), dataset.id))


def import_conversations(
    pool: Pool, collection: int, path: str, kind: Kind, *, name: str | None = None, progress: Progress
) -> Dataset:
    """Save the conversations of a file as they are, as a new version; the same rows are the version that has them.

    Lines that do not say on which side they are get one. What a line repeats word for word is taken once, and counted.

    :param collection: id of the collection.
    :param name: of the dataset; None: that of the version that was exported, else the kind.
    :raises BadData: malformed lines, each by its number; nothing is saved.
    """
    progress.step("read conversations", None)
    lines = read_conversations(path, kind)
    with pool.connection() as connection:
        parent = _parent(lines)
        source = datasets.dataset(connection, parent) if parent is not None else None
        if source is not None and (source.collection_id != collection or source.kind != kind):
            raise BadData(path, f"dataset {source.id} is of another collection or kind", "Import it there")
        known = source.arguments if source else LlmDataOptions(kind=kind).model_dump(mode="json")
        chosen = name or (source.name if source else kind)
        options = LlmDataOptions.model_validate({**known, "name": chosen, "kind": kind, "file": path}, strict=False)
        once = list({repr((line.conversation.messages, line.conversation.rejected)): line for line in reversed(lines)}.values())
        once.reverse()
        rows = [line.conversation for line in once]
        sides = sides_of(keys_of(rows, options.near_duplicate), [line.split for line in once], options)
        return conversations.save_conversations(
            connection, collection, chosen, (replace(row, split=side) for row, side in zip(rows, sides, strict=True)),
            kind=kind, arguments=options.model_dump(mode="json"), parent=parent, origin="imported",
            statistics={"file": Path(path).name, "dropped": {"duplicate": len(lines) - len(rows)} if once != lines else {}},
        )  # fmt: skip


def keys_of(rows: list[Conversation], threshold: float) -> list[tuple[str, ...]]:
    """By which conversations belong together: documents, questions that are nearly the same, long answers."""
    near = near_keys([(row.question, asked(row)) for row in rows], threshold)
    return [
        (*(f"d {uri}" for uri in row.named), *text_keys(row.question, row.answer), *keys)
        for row, keys in zip(rows, near, strict=True)
    ]


def _parent(lines: list[Line]) -> int | None:
    parents = {line.dataset for line in lines}
    if len(parents) > 1:
        other = next(line for line in lines if line.dataset != lines[0].dataset)
        raise BadData(other.place, f"dataset is {other.dataset}, and {lines[0].dataset} before", "Import each export by itself")
    return next(iter(parents))
