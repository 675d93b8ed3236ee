"""How many candidates the second stage may read, so that 95 of 100 searches stay within the latency budget. Pure."""

from __future__ import annotations

from dataclasses import dataclass

FEWEST = 2  # one candidate alone cannot change places with another
PROBE = 4  # candidates by which a reranker is measured that this machine has not used lately
SPREAD = 1.5  # 95th percentile of a search's seconds per pair by their mean: docs/reranking.md


@dataclass(frozen=True, slots=True)
class Allowance:
    """What the second stage may do.

    :param candidates: how many it reads in all; 0: it is left out.
    :param reason: why fewer than wanted; empty when all are read.
    """

    candidates: int
    reason: str = ""


def allowance(
    budget_ms: int,
    spent: float,
    seconds_per_pair: float | None,
    *,
    wanted: int,
    read: int = 0,
    ahead: int = 0,
    at_least: int = 0,
) -> Allowance:
    """As many candidates as there is time for: what is left of the budget by what 95 of 100 pairs take at most.

    :param budget_ms: ``retrieval.latency_budget_ms``.
    :param spent: seconds that the search has taken already.
    :param seconds_per_pair: mean of this machine and reranker; None: not known, then a few are read to measure it.
    :param wanted: the passages found, at most ``retrieval.rerank_candidates``.
    :param read: candidates that were read already, within ``spent``.
    :param ahead: pairs of other searches that are read before.
    :param at_least: read so many in any case: the second stage was demanded.
    """
    if wanted < FEWEST:
        return Allowance(0, f"{wanted} of at least {FEWEST} candidates to compare")
    fitting = _fitting(budget_ms / 1000 - spent, seconds_per_pair, ahead)
    candidates = min(wanted, max(read + fitting, at_least))
    if candidates == wanted:
        return Allowance(candidates)
    figures = [f"{round(spent * 1000)} of {budget_ms} ms were spent"]
    if seconds_per_pair is not None:
        figures.append(f"a candidate takes {seconds_per_pair * 1000:.1f} ms")
    if ahead:
        figures.append(f"{ahead} of other searches are ahead")
    return Allowance(candidates if candidates >= FEWEST else read, f"latency budget: {', '.join(figures)}")


def _fitting(left: float, seconds_per_pair: float | None, ahead: int) -> int:
    if left <= 0:
        return 0
    if seconds_per_pair is None:
        return PROBE
    return max(0, int(left / max(seconds_per_pair * SPREAD, 1e-9)) - ahead)
