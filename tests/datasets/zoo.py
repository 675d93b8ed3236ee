"""A small collection that one can ask questions of: pages about animals, each with a few sections."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from include.store.datasets import Negative, Pair

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# name, where it lives, what it eats, how it sleeps
ANIMALS: tuple[tuple[str, str, str, str], ...] = (
    ("otter", "slow rivers with wooded banks", "eels and crayfish", "holding hands on the water"),
    ("badger", "deep burrows below old oaks", "earthworms and beetles", "through the cold weeks underground"),
    ("heron", "reed beds beside shallow lakes", "frogs and small pike", "standing on one leg"),
    ("falcon", "cliffs and church towers", "pigeons caught in flight", "on a narrow ledge"),
    ("lynx", "dense spruce forests of the north", "hares and roe deer", "under fallen trunks at noon"),
    ("moose", "boggy woodland around the Baltic", "water lilies and willow bark", "lying in fresh snow"),
    ("beaver", "ponds that it dams by itself", "poplar twigs and sedge", "in a lodge of mud and sticks"),
    ("salmon", "the open ocean until it spawns", "krill and sand eels", "hardly, drifting in a current"),
    ("turtle", "warm lagoons with sea grass", "jellyfish and algae", "wedged under a coral shelf"),
    ("gecko", "house walls near a lamp", "moths and mosquitoes", "in cracks during the day"),
    ("camel", "stony deserts of Arabia", "thorn bushes and dates", "kneeling in the sand"),
    ("giraffe", "savannas dotted with acacias", "leaves of tall acacia crowns", "a few minutes at a time, upright"),
    ("zebra", "grass plains along the Mara", "coarse grass of the dry season", "standing in turns on guard"),
    ("hyena", "dens in abandoned anthills", "carrion and bones", "in the heat of the afternoon"),
    ("lemur", "dry forests of Madagascar", "tamarind pods and figs", "curled up in a ball of tails"),
    ("sloth", "cecropia trees of Panama", "leaves that take a month to digest", "fifteen hours hanging from a branch"),
    ("tapir", "muddy forest streams in Borneo", "shoots and fallen fruit", "in a wallow near water"),
    ("jaguar", "flooded forests of the Amazon", "caimans and peccaries", "stretched on a low bough"),
    ("condor", "high Andean ridges", "dead cattle found from above", "on rock shelves out of the wind"),
    ("penguin", "pack ice of the Antarctic", "silverfish and squid", "huddled in thousands against the storm"),
    ("seal", "skerries off the Scottish coast", "herring and flounder", "floating upright like a bottle"),
    ("walrus", "ice floes of the Bering Sea", "clams dug up with whiskers", "in heaps on a beach"),
    ("kiwi", "ferny bush in New Zealand", "grubs smelled out in the soil", "in a burrow until dusk"),
    ("dingo", "scrub and dunes of the outback", "wallabies and rabbits", "in a hollow log"),
    ("yak", "cold plateaus of Tibet", "lichens and alpine grass", "lying close to the herd"),
    ("ibex", "steep rock walls of the Alps", "herbs from mountain meadows", "on ledges no wolf can reach"),
    ("mole", "tunnels below damp lawns", "worms kept alive in a larder", "in a nest of dry leaves"),
    ("bat", "caves and church attics", "gnats and midges", "upside down in clusters"),
    ("cuckoo", "hedges full of other birds' nests", "hairy caterpillars", "alone in a thicket"),
    ("stork", "wheel nests on chimneys", "grasshoppers and voles", "standing in its nest"),
)


def page(name: str, home: str, food: str, sleep: str) -> str:
    """A page with three sections, each a chunk of its own when 40 tokens fit."""
    return (
        f"# The {name}\n\n## Home of the {name}\n\nThe {name} lives in {home}. People who look for a {name} should be there"
        f" early in the morning and keep quiet.\n\n## What the {name} eats\n\nFor food the {name} takes {food}. A grown {name}"
        f" needs a good deal of that every day.\n\n## How the {name} sleeps\n\nThe {name} sleeps {sleep}. Nobody should wake"
        f" up a {name}, for it takes long to calm down again.\n"
    )


def write_pages(folder: Path, count: int = len(ANIMALS)) -> None:
    """Pages of the first animals."""
    for name, *facts in ANIMALS[:count]:
        (folder / f"{name}.md").write_text(page(name, *facts))


def write_judgements(folder: Path, count: int = len(ANIMALS)) -> tuple[str, str]:
    """Three questions an animal, and what answers them: paths of queries and qrels."""
    queries, qrels = [], ["query-id\tcorpus-id\tscore"]
    for name, *_ in ANIMALS[:count]:
        asked = (f"Where can I find a {name}?", f"What food does a {name} need?", f"In which way does a {name} rest?")
        for number, text in enumerate(asked):
            queries.append(json.dumps({"id": f"{name}{number}", "text": text, "metadata": {"kind": str(number)}}))
            qrels.append(f"{name}{number}\t{name}.md\t1")
    (folder / "queries.jsonl").write_text("\n".join(queries))
    (folder / "qrels.tsv").write_text("\n".join(qrels))
    return str(folder / "queries.jsonl"), str(folder / "qrels.tsv")


def pair(number: int, *, split: str = "train", negatives: Sequence[str] = ("other.md",), **changes: object) -> Pair:
    """A pair that no index was asked for."""
    values: dict[str, object] = {
        "query": f"What is thing {number}?", "uri": f"thing-{number}.md", "start": 0, "end": 9,
        "positive": f"Thing {number} is number {number} of the things.", "origin": "qrels", "split": split,
        "metadata": {"score": 0.7},
        "negatives": tuple(Negative(uri, 0, 5, f"{uri} says nothing of {number}", 0.5) for uri in negatives),
    }  # fmt: skip
    return Pair(**{**values, **changes})  # type: ignore[arg-type]
