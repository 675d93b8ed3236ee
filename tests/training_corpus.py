"""A task that the packaged model fails and can learn in seconds: questions in words that it never saw.

Each document reports one measure of one station. Questions call the measures by made-up names ("gorp" for temperature), so
that a model must have learned the names to tell the eight reports of a station apart; stations of training questions are
not those of the questions that judge.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

MEASURES = {
    "gorp": ("temperature", "degrees of warmth in the air"),
    "blick": ("pressure", "weight of the air above the ground"),
    "zump": ("rainfall", "millimetres of water that fell"),
    "fendle": ("wind speed", "how quickly the air was moving"),
    "marv": ("humidity", "share of moisture in the air"),
    "tillop": ("snow depth", "centimetres of snow on the ground"),
    "quess": ("visibility", "how far one could see through mist"),
    "drannet": ("sunshine", "hours of bright sun"),
}
STATIONS = (
    "Alder", "Birch", "Cedar", "Dogwood", "Elm", "Fir", "Ginkgo", "Hazel", "Ivy", "Juniper", "Koa", "Larch", "Maple", "Nutmeg",
    "Oak", "Pine", "Quince", "Rowan", "Spruce", "Teak",
)  # fmt: skip
JUDGING = STATIONS[:8]


def documents() -> list[dict[str, Any]]:
    """160 reports."""
    return [
        {
            "id": f"{station.lower()}-{measure.replace(' ', '-')}",
            "title": f"{station} station",
            "text": f"## {measure.capitalize()} at {station}\n\n"
            f"At {station} station the {measure} was recorded each morning: {gloss}."
            " The book is kept in the hut beside the mast.",
            "metadata": {"measure": measure},
        }
        for station in STATIONS
        for measure, gloss in MEASURES.values()
    ]


def questions(stations: tuple[str, ...]) -> list[tuple[str, str, str]]:
    """(id, question, document) for each measure of these stations."""
    return [
        (f"{station}-{name}", f"{name} at {station}", f"{station.lower()}-{measure.replace(' ', '-')}")
        for station in stations
        for name, (measure, _) in MEASURES.items()
    ]


def write(folder: Path) -> dict[str, str]:
    """Files of documents, questions and judgements; their paths by name."""
    judging, training = questions(JUDGING), questions(STATIONS[len(JUDGING) :])
    rows = [{"id": key, "text": text, "metadata": {"measure": key.split("-")[1]}} for key, text, _ in (*judging, *training)]
    contents = {
        "documents.jsonl": "".join(json.dumps(row) + "\n" for row in documents()),
        "queries.jsonl": "".join(json.dumps(row) + "\n" for row in rows),
        "golden.tsv": _qrels(judging),
        "train.tsv": _qrels(training),
    }
    for name, content in contents.items():
        (folder / name).write_text(content)
    return {name.partition(".")[0]: str(folder / name) for name in contents}


def _qrels(judged: list[tuple[str, str, str]]) -> str:
    return "query-id\tcorpus-id\tscore\n" + "".join(f"{query}\t{document}\t1\n" for query, _, document in judged)
