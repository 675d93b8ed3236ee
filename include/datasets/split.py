"""Divides rows into training and development so that nothing that belongs together stands on two sides: pure.

Rows belong together when they share a key: a document or a near-duplicate of it, a question, a passage. Where such a group goes
depends on the hash of its name and the seed, the first by hash being development: a document that comes or goes moves none
but those at the edge.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_OF_DEV = 0.5  # a group that would fill more of it than this is trained on: development needs many groups


def assign(
    rows: Sequence[Sequence[str]], *, dev_share: float, min_dev: int = 0, seed: int = 0
) -> list[Literal["train", "dev"]]:
    """The side of each row.

    :param rows: the keys of each; at least one.
    :param dev_share: share of the rows that development gets.
    :param min_dev: rows that it gets at least, though never more than half.
    """
    groups = grouped(rows)
    wanted = min(max(math.ceil(dev_share * len(rows)), min_dev), len(rows) // 2)
    dev: set[int] = set()
    for _, members in sorted((_place(name, seed), members) for name, members in groups.items()):
        if len(dev) >= wanted:
            break
        if len(members) <= max(1, MOST_OF_DEV * wanted) and len(dev) + len(members) <= len(rows) // 2:
            dev.update(members)
    return ["dev" if number in dev else "train" for number in range(len(rows))]


def grouped(rows: Sequence[Sequence[str]]) -> dict[str, list[int]]:
    """Name of a group (its least key) → its rows."""
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        parent.setdefault(key, key)
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for first, *others in rows:
        for other in others:
            one, two = sorted((root(first), root(other)))
            parent[two] = one
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for number, keys in enumerate(rows):
        groups[root(keys[0])].append(number)
    return groups


def _place(name: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed} {name}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
