"""The lines of an exported dataset, which a person may correct and import again, and of files of pairs made elsewhere."""

from __future__ import annotations

import gzip
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from include.errors import BadConfiguration
from include.evaluation.checked_lines import Wrong, json_object, known, metadata, numbered_lines, span, storable
from include.store.datasets import Negative, Pair

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from include.store.datasets import Split

LINE = '{"query": "…", "document": "…", "start": 0, "end": 80, "positive": "…", "split": "train", "negatives": []}'
SPLITS: tuple[Split, ...] = ("train", "dev", "test")
ORIGINS = ("qrels", "feedback", "llm", "headings", "imported")
_KEYS = {
    "dataset", "query", "document", "start", "end", "positive", "label", "origin", "style", "split", "metadata", "negatives",
}  # fmt: skip
_NEGATIVE_KEYS = {"document", "start", "end", "text", "score"}
_MOST_NEGATIVES = 1000
_MAX_STYLE = 50


@dataclass(frozen=True, slots=True)
class Line:
    """One line, checked.

    :param positive: the passage; None: the best one of the document.
    :param split: None: not said.
    :param dataset: id of the dataset that it was exported from.
    """

    place: str
    query: str
    document: str
    start: int | None = None
    end: int | None = None
    positive: str | None = None
    label: float = 1.0
    origin: str = "imported"
    style: str = ""
    split: Split | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    negatives: tuple[Negative, ...] = ()
    dataset: int | None = None


def read_lines(path: str) -> Iterator[Line]:
    """Lines of a file, plain or gzipped, one at a time; blank lines are skipped.

    :raises BadData: with file, line, what is wrong and what is right.
    """
    for number, text in numbered_lines(path):
        place = f"{path} line {number}"
        try:
            yield _line(text, place)
        except Wrong as error:
            raise error.at(place) from None


def write_lines(path: str, rows: Iterable[Pair], dataset: int) -> int:
    """Write rows to a file; returns how many. See :func:`write_objects`."""
    return write_objects(path, (as_line(row, dataset) for row in rows))


def write_objects(path: str, objects: Iterable[Mapping[str, Any]]) -> int:
    """Write a line each to a file, gzipped if its name ends so; the file appears whole or not at all.

    :return: how many.
    :raises BadConfiguration: it cannot be written.
    """
    target = Path(path)
    part = target.with_name(target.name + ".part")
    count = 0
    try:
        with _open(part, gzipped=path.endswith(".gz")) as file:
            for count, one in enumerate(objects, 1):  # noqa: B007 - what is left is the number of lines
                file.write(json.dumps(one, ensure_ascii=False) + "\n")
        part.replace(target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise BadConfiguration(path, error.strerror or str(error), "Name a file in a folder that can be written") from error
    return count


def as_line(row: Pair, dataset: int) -> dict[str, Any]:
    """A row as :func:`read_lines` takes it; what is not known is left out."""
    line: dict[str, Any] = {
        "dataset": dataset, "split": row.split, "query": row.query, "document": row.uri, "start": row.start, "end": row.end,
        "positive": row.positive, "label": row.label, "origin": row.origin, "style": row.style or None,
        "metadata": dict(row.metadata) or None,
        "negatives": [_negative_line(negative) for negative in row.negatives],
    }  # fmt: skip
    return _present(line)


def _negative_line(negative: Negative) -> dict[str, Any]:
    place = {"document": negative.uri, "start": negative.start, "end": negative.end}
    return _present({**place, "text": negative.text, "score": negative.score})


def _present(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _open(path: Path, *, gzipped: bool) -> IO[str]:
    return gzip.open(path, "wt", encoding="utf-8") if gzipped else path.open("w", encoding="utf-8")


def _line(text: str, place: str) -> Line:
    row = json_object(text, LINE)
    known(row, _KEYS, "the line")
    first, last = span(row.get("start"), row.get("end"), "it") or (None, None)
    split, origin, dataset = row.get("split"), row.get("origin", "imported"), row.get("dataset")
    if split not in (None, *SPLITS):
        raise Wrong(f"split is {split!r}", f"Write one of {', '.join(SPLITS)}")
    if origin not in ORIGINS:
        raise Wrong(f"origin is {origin!r}", f"Write one of {', '.join(ORIGINS)}, or leave it out")
    if dataset is not None and (isinstance(dataset, bool) or not isinstance(dataset, int)):
        raise Wrong(f"dataset is {dataset!r}", "Leave the number as it was exported, or leave it out")
    return Line(
        place,
        storable(row.get("query"), "query", LINE),
        storable(row.get("document"), "document", LINE),
        first,
        last,
        None if row.get("positive") is None else storable(row["positive"], "positive", LINE),
        _label(row.get("label", 1)),
        origin,
        _style(row.get("style", "")),
        split,
        metadata(row.get("metadata")),
        _negatives(row.get("negatives", [])),
        dataset,
    )


def _label(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and 0 <= value <= 1):
        raise Wrong(f"label is {value!r}", "Write a number from 0 (does not answer) to 1, or leave it out for 1")
    return float(value)


def _style(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _MAX_STYLE:
        raise Wrong(f"style is {value!r}", "Write a word, or leave it out")
    return storable(value, "style", LINE) if value else ""


def _negatives(value: Any) -> tuple[Negative, ...]:
    if not isinstance(value, list) or len(value) > _MOST_NEGATIVES:
        raise Wrong(f"negatives is not a list of at most {_MOST_NEGATIVES}", 'Write [{"document": "…", "text": "…"}]')
    return tuple(_negative(one, f"negatives[{number}]") for number, one in enumerate(value))


def _negative(value: Any, where: str) -> Negative:
    if not isinstance(value, dict):
        raise Wrong(f"{where} is not a JSON object", 'Write {"document": "…", "text": "…"}')
    known(value, _NEGATIVE_KEYS, where)
    first, last = span(value.get("start"), value.get("end"), where) or (None, None)
    score = value.get("score")
    if score is not None and (isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score)):
        raise Wrong(f"{where}.score is {score!r}", "Write a number, or leave it out")
    document, text = (storable(value.get(key), f"{where}.{key}", LINE) for key in ("document", "text"))
    return Negative(document, first, last, text, None if score is None else float(score))
