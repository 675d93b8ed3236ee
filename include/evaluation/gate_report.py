"""What a comparison of two generations found: kept with the generation, read by the gate and by people."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

PLACES = 10  # cut-off of nDCG and recall


@dataclass(frozen=True, slots=True)
class Loss:
    """A query that the built generation answers worse, with its nDCG@10 on both."""

    query: str
    documents: tuple[str, ...]
    live: float
    built: float


@dataclass(frozen=True, slots=True)
class GateReport:
    """How a built generation compares with the live one; means over queries, None where nothing was scored.

    :param compared: False when there is nothing to compare; ``reason`` says why, and the gate lets it pass.
    :param origin: golden, headings (the sanity set) or none.
    :param left_out: golden queries whose documents one side lacks, or whose text is gone.
    :param sanity: golden queries were too few to be sure: how the two compare on headings, asked as well. The gate heeds both.
    :param difference: built less live, of nDCG@10; ``low`` and ``high`` bound it with 95 % confidence,
        None when too few queries tell the two apart.
    """

    compared: bool
    built_generation: int
    live_generation: int | None = None
    reason: str = ""
    origin: str = "none"
    metric: str = f"ndcg@{PLACES}"
    queries: int = 0
    left_out: int = 0
    live: float | None = None
    built: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    live_recall: float | None = None
    built_recall: float | None = None
    worst: tuple[Loss, ...] = ()
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0
    sanity: GateReport | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON: numbers to four places. All losses stand in one list, where `forget` finds them."""
        found = {key: _rounded(value) for key, value in asdict(self).items()}
        if self.sanity is not None:
            found["worst"] += found["sanity"]["worst"]
            found["sanity"] = {key: value for key, value in found["sanity"].items() if key not in ("worst", "sanity")}
        return found

    def summary(self) -> str:
        """One line for a log or a table."""
        if not self.compared or self.live is None or self.built is None:
            return f"quality was not compared: {self.reason}"
        sample = "golden queries" if self.origin == "golden" else "sanity queries made from headings"
        sure = "" if self.low is None or self.high is None else f", 95 % {self.low:+.4f} to {self.high:+.4f}"
        change = f"{self.live:.4f} → {self.built:.4f} ({self.built - self.live:+.4f}{sure})"
        further = f"; {self.sanity.summary()}" if self.sanity is not None else ""
        return f"nDCG@{PLACES} of {self.queries} {sample}: {change}{further}"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list | tuple) else value
