"""Divides conversations into training, development and test so that nothing that belongs together stands on two sides: pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.datasets.conversations.contamination import HeldOut
from include.datasets.split import assign, grouped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from include.datasets.conversations.options import LlmDataOptions
    from include.store.datasets import Split


def near_keys(asked: Sequence[tuple[str, str]], threshold: float) -> list[tuple[str, ...]]:
    """For each question the keys it shares with those that say nearly the same, or that its conversation holds.

    :param asked: the question, and all that users say in its conversation.
    """
    held = HeldOut([(number, question) for number, (question, _) in enumerate(asked)], threshold)
    return [
        (f"n {number}", *(f"n {match.key}" for match in held.matches(question, whole)))
        for number, (question, whole) in enumerate(asked)
    ]


def sides_of(keys: Sequence[Sequence[str]], given: Sequence[Split | None], options: LlmDataOptions) -> list[Split]:
    """The side of each conversation.

    :param keys: by which they belong together, at least one each.
    :param given: where a file says so; what belongs to such a one goes with it. Two of a group on two sides stay there:
        the check refuses them.
    """
    sides: list[Split | None] = list(given)
    for members in grouped(keys).values():
        told = next((given[n] for n in members if given[n] is not None), None)
        for n in members:
            sides[n] = sides[n] or told
    free = [n for n, side in enumerate(sides) if side is None]
    if free:
        test = _share(keys, free, options.test_share, options.min_test, options.seed)
        left = [n for n in free if n not in test]
        share = min(0.5, options.dev_share * len(free) / max(len(left), 1))
        dev = _share(keys, left, share, options.min_dev, options.seed)
        for n in free:
            sides[n] = "test" if n in test else "dev" if n in dev else "train"
    return [side or "train" for side in sides]


def _share(keys: Sequence[Sequence[str]], among: Sequence[int], share: float, least: int, seed: int) -> set[int]:
    """Some of these rows, whole groups, always the same."""
    if not among or (share == 0 and least == 0):
        return set()
    chosen = assign([keys[n] for n in among], dev_share=share, min_dev=least, seed=seed)
    return {n for n, side in zip(among, chosen, strict=True) if side == "dev"}
