"""Which generation a run works on: a pure choice among those there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from include.store.generations import Generation


@dataclass(frozen=True, slots=True)
class Choice:
    """The generation to work on.

    :param generation: None: a new one is to be made.
    :param why: for a person, when it is not what the settings ask for; else "".
    """

    generation: Generation | None
    why: str = ""


def choose_target(
    existing: Sequence[Generation],
    wanted: str,
    *,
    rebuild: bool = False,
    mine: int | None = None,
    held: str | None = None,
    attended: Collection[int] = (),
) -> Choice:
    """Choose.

    :param existing: the collection's generations.
    :param wanted: hash of the spec that the settings ask for.
    :param rebuild: everything is to be made again.
    :param mine: the generation this run worked on before, when it is a retry.
    :param held: hash of a spec that must not be built by itself (:func:`include.store.collections.hold_spec`).
    :param attended: generations that another run works on at this moment.
    """
    fitting = [g for g in existing if g.spec_hash == wanted and g.state in ("live", "building")]
    begun = next((g for g in fitting if g.id == mine), None)
    if begun is not None:
        return Choice(begun)
    building = next((g for g in fitting if g.state == "building"), None)
    if rebuild:  # goes on with a rebuild only: another one reuses vectors
        return Choice(building if building is not None and building.metrics.get("rebuild") else None)
    live = next((g for g in existing if g.state == "live"), None)
    if live is None or live.spec_hash == wanted:
        return Choice(live or building)
    if held == wanted:
        return Choice(live, f"generation {live.id} stays: the one of these settings was refused or rolled back")
    if building is not None and building.id in attended:
        return Choice(live, f"generation {building.id} is being built by another run, which will take these changes in")
    return Choice(building)
