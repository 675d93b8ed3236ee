"""The rules of the gate, one function each: what an evaluation says, as a sentence and, where it must, a refusal. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from include.evaluation.comparison import Rule, compare, verdict
from include.registry.decision import Finding, Refusal
from include.registry.gate_scores import AGAIN, CHALLENGER, CHALLENGER_PAIR, CHAMPION, CHAMPION_PAIR, WITHOUT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from include.evaluation.comparison import Verdict
    from include.registry.decision import GateRule
    from include.registry.gate_scores import Scores

NAMED = 10  # slices that a sentence names
POWERED = 1.96 + 0.84  # standard errors from nothing at which 80 of 100 such comparisons are sure


def sample(evaluation: Mapping[str, Any], scores: Scores, rule: GateRule) -> Iterator[Finding]:
    """Enough questions to decide on."""
    if scores.queries < rule.min_queries:
        name = evaluation.get("collection", "NAME")
        why = f"{scores.queries} {_asked(evaluation)} could be asked, and at least {rule.min_queries} are needed to decide"
        yield _refused("sample", why, f"Add some with `ragworks golden {name}`, or lower training.min_queries")


def control(evaluation: Mapping[str, Any], scores: Scores, rule: GateRule) -> Iterator[Finding]:
    """The champion asked twice must be found no different, or nothing that was measured counts."""
    told = evaluation.get("a_a")
    if not told or AGAIN not in scores.sides:
        yield _refused(
            "control", "the champion was not asked twice, so nothing shows that the measurement can be trusted",
            "Evaluate again",
        )  # fmt: skip
        return
    found = verdict(scores.differences(CHAMPION, AGAIN), Rule(differing=rule.differing))
    if not told.get("passed") or found.outcome in ("better", "worse"):
        why = f"the champion asked twice is not the same ({found.reason}), so no difference measured here can be trusted"
        yield _refused("control", why, "Did the index change meanwhile? Evaluate again", found)
        return
    yield Finding("control", f"Control: the champion asked twice on {found.queries} queries is a tie, as it must be.",
                  found.as_dict())  # fmt: skip


def quality(evaluation: Mapping[str, Any], scores: Scores, rule: GateRule) -> Iterator[Finding]:
    """The question itself: surely better, by enough."""
    differences = scores.differences(CHAMPION, CHALLENGER)
    found = verdict(differences, _rule(rule, effect=rule.min_effect))
    old, new = scores.means(CHAMPION, CHALLENGER)
    figures = {**found.as_dict(), "champion": round(old, 4), "challenger": round(new, 4)}
    said = f"{_name(scores.measure)} {old:.4f} → {new:.4f} over {found.queries} {_asked(evaluation)} ({_interval(found, rule)})"
    if found.promotes:
        yield Finding("quality", f"The challenger answers better: {said}.", figures)
    elif scores.queries >= rule.min_queries:  # else the sample is refused, which says more
        why, change = _not_better(found, differences, rule, said)
        yield _refused("quality", why, change, figures)
    else:
        yield Finding("quality", f"What these few say: {said}.", figures)
    yield from _others(scores, rule)


def _not_better(found: Verdict, differences: Sequence[float], rule: GateRule, said: str) -> tuple[str, str]:
    if found.outcome == "worse":
        return (
            f"The challenger answers worse: {said}",
            "See on the model's page whether its loss fell, and look at labels and negatives of its data",
        )
    if found.differing == 0:
        return f"The two answer all {found.queries} queries alike", "Train longer or with a higher learning rate, on more pairs"
    if found.differing < rule.differing:
        return (
            f"Only {found.differing} of {found.queries} golden queries tell the two apart, and at least {rule.differing} must",
            "Add golden queries of the kind that the champion answers badly",
        )
    if found.low is not None and found.low > 0 and found.mean < rule.min_effect:
        return (
            f"The challenger is surely better, and by too little to be worth a change (less than {rule.min_effect:g}): {said}",
            "Train on more pairs, or lower training.min_effect",
        )
    change = "Train on more or harder pairs"
    if found.mean > 0:
        change += f"; to be sure of a gain of {found.mean:.4f} takes about {_needed(differences):,} golden queries"
    return f"The difference may be chance, and a tie keeps the champion: {said}", change


def _needed(differences: Sequence[float]) -> int:
    """Queries by which a gain of this mean and spread is found sure in 80 of 100 comparisons (normal approximation)."""
    size, mean = len(differences), math.fsum(differences) / len(differences)
    variance = math.fsum((d - mean) ** 2 for d in differences) / max(1, size - 1)
    needed = POWERED**2 * variance / mean**2
    return max(size, math.ceil(needed / 10) * 10)


def _others(scores: Scores, rule: GateRule) -> Iterator[Finding]:
    """The other measures decide nothing, and a person should know when one is surely lower."""
    found = compare(scores.whole(CHAMPION), scores.whole(CHALLENGER), _rule(rule))
    fallen = {} if found[scores.measure].outcome == "worse" else found
    lower = [f"{_name(name)} {one.mean:+.4f}" for name, one in fallen.items() if one.outcome == "worse"]
    table = {name: one.as_dict() for name, one in found.items()}
    yield Finding("measures", f"Surely lower, though it does not decide: {', '.join(lower)}." if lower else "", table)


def without(evaluation: Mapping[str, Any], scores: Scores, rule: GateRule) -> Iterator[Finding]:
    """A reranker that beats a bad one is still no good when search is better with none."""
    if WITHOUT not in scores.sides:
        return
    found = verdict(scores.differences(WITHOUT, CHALLENGER), _rule(rule))
    old, new = scores.means(WITHOUT, CHALLENGER)
    said = f"{_name(scores.measure)} {old:.4f} without a second stage, {new:.4f} with the challenger ({_interval(found, rule)})"
    if found.outcome == "worse":
        yield _refused("without", f"Search is better without it: {said}", "Take the reranker that serves out of service", found)
    else:
        yield Finding("without", f"Against no second stage at all: {said}.", found.as_dict())


def pair(evaluation: Mapping[str, Any], scores: Scores, rule: GateRule) -> Iterator[Finding]:
    """A better embedder can find what the reranker that serves orders badly: what users get is the two together."""
    reranker = evaluation.get("served_reranker")
    if not reranker:
        return
    asked = CHAMPION_PAIR in scores.sides and CHALLENGER_PAIR in scores.sides
    differences = scores.differences(CHAMPION_PAIR, CHALLENGER_PAIR) if asked else []
    if len(differences) < min(rule.min_queries, scores.queries):
        why = f"the challenger was not asked together with the reranker that serves ({reranker})"
        yield _refused("pair", why, "Evaluate again")
        return
    found = verdict(differences, _rule(rule))
    old, new = scores.means(CHAMPION_PAIR, CHALLENGER_PAIR)
    said = f"with the reranker that serves {_name(scores.measure)} {old:.4f} → {new:.4f} ({_interval(found, rule)})"
    if found.outcome == "worse" or found.mean < -rule.min_effect:
        sure = "is" if found.outcome == "worse" else "may be"
        why = f"The pair that users get {sure} worse: {said}"
        yield _refused("pair", why, "Train a reranker on what the new embedder finds, and judge the two together", found)
    else:
        yield Finding("pair", f"The pair that users get is not worse: {said}.", found.as_dict())


def slices(evaluation: Mapping[str, Any], scores: Scores, rule: GateRule) -> Iterator[Finding]:
    """Better on the whole must not be bought with one kind of question."""
    named = {
        f"{key} = {value}": list(positions)
        for key, values in (evaluation.get("slices") or {}).items()
        for value, positions in values.items()
    }
    judged = {name: p for name, p in named.items() if len(p) >= rule.min_slice_queries}
    few = [f"{name} ({len(p)})" for name, p in named.items() if name not in judged]
    nothing = {name: [0.0] * len(p) for name, p in judged.items()}
    differences = {name: scores.differences(CHAMPION, CHALLENGER, p) for name, p in judged.items()}
    found = compare(nothing, differences, _rule(rule, minimum=rule.min_slice_queries))  # p corrected by Holm over all slices
    worse = {name: one for name, one in found.items() if one.outcome == "worse"}
    losing = [
        f"questions with {name} lose {-one.mean:.4f} ({_interval(one, rule)})"
        for name, one in sorted(worse.items(), key=lambda item: item[1].mean)
        if one.mean < -rule.max_slice_loss
    ]
    if losing:
        why = f"More than {rule.max_slice_loss:g} is lost on a slice: {_some(losing)}"
        yield _refused("slice", why, "Train on pairs of that kind too, or allow the loss with training.max_slice_loss")
    lower = [f"{name} {one.mean:+.4f}" for name, one in worse.items() if one.mean >= -rule.max_slice_loss]
    perhaps = [
        f"{name} {one.mean:+.4f} ({one.differing} of {one.queries} queries differ)"
        for name, one in sorted(found.items(), key=lambda item: item[1].mean)
        if one.mean < -rule.max_slice_loss and name not in worse
    ]
    wide = [f"{key} ({values})" for key, values in (evaluation.get("unsliced") or {}).items()]
    parts = [
        f"May lose more than {rule.max_slice_loss:g}, though it is not sure: {_some(perhaps)}." if perhaps else "",
        f"Surely lower, within training.max_slice_loss: {', '.join(lower)}." if lower else "",
        f"Too few queries to judge (under {rule.min_slice_queries}): {_some(few)}." if few else "",
        f"Not looked at by slice, for it has too many values: {_some(wide)}." if wide else "",
    ]
    yield Finding("slices", " ".join(part for part in parts if part), {n: one.as_dict() for n, one in found.items()})


def latency(evaluation: Mapping[str, Any], scores: Scores, rule: GateRule) -> Iterator[Finding]:
    """In time for 95 of 100, however good it is."""
    measured = evaluation.get("latency") or {}
    sides = measured.get("sides") or {}
    paired = bool(evaluation.get("served_reranker"))  # of an embedder: what users wait for is the two together
    new, old = (CHALLENGER_PAIR, CHAMPION_PAIR) if paired else (CHALLENGER, CHAMPION)
    challenger, champion = (_p95(sides.get(side)) for side in (new, old))
    searches = (sides.get(new) or {}).get("searches") or 0
    if challenger is None:
        together = " and the reranker that serves" if paired else ""
        yield _refused("latency", f"it is not known how long a search with the challenger{together} takes", "Evaluate again")
        return
    if searches < rule.min_searches:
        why = f"only {searches} searches with the challenger were timed, and at least {rule.min_searches} are needed"
        yield _refused("latency", why, "Evaluate again with more golden queries")
        return
    if (where := measured.get("device")) not in (None, rule.latency_device):
        why = f"searches were timed on {where}, and those of users run on {rule.latency_device}"
        yield _refused("latency", why, f"Evaluate again where there is {rule.latency_device}, or set training.latency_device")
        return
    clients = measured.get("clients", 1)
    what = "answers" if evaluation.get("family") == "llm" else "searches"
    figures = {"challenger_p95_ms": challenger, "champion_p95_ms": champion, "budget_ms": rule.latency_budget_ms,
               "clients": clients, "searches": searches}  # fmt: skip
    now = "" if champion is None else f"; with what serves now {champion:,.0f} ms"
    what += " with the reranker that serves" if paired else ""
    said = f"95 of 100 {what} take up to {challenger:,.0f} ms with {clients} asked at once{now}"
    if challenger > rule.latency_budget_ms:
        too_slow = champion is not None and champion > rule.latency_budget_ms
        fewer = "fewer candidates (retrieval.rerank_candidates), " if paired or evaluation.get("family") == "reranker" else ""
        setting = "training.answer_budget_ms" if evaluation.get("family") == "llm" else "retrieval.latency_budget_ms"
        fix = f"It takes {fewer}a smaller model, or a higher {setting}"
        if too_slow:
            fix = f"This machine keeps the budget with neither of the two. {fix}"
        why = f"It is too slow: {said}, and the budget is {rule.latency_budget_ms:,.0f} ms"
        yield _refused("latency", why, fix, figures)
    else:
        yield Finding("latency", f"{said}; the budget is {rule.latency_budget_ms:,.0f} ms.", figures)


def _p95(side: Mapping[str, Any] | None) -> float | None:
    value = ((side or {}).get("warm") or {}).get("p95_ms")
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _rule(rule: GateRule, *, effect: float = 0.0, minimum: int | None = None) -> Rule:
    return Rule(rule.min_queries if minimum is None else minimum, rule.differing, effect, rule.confidence)


def _refused(rule: str, why: str, change: str, found: Verdict | Mapping[str, Any] | None = None) -> Finding:
    figures = found if found is None or isinstance(found, dict) else found.as_dict()  # type: ignore[union-attr]
    return Finding(rule, verdict=figures, refusal=Refusal(rule, why[:1].upper() + why[1:], change))


def _interval(found: Verdict, rule: GateRule) -> str:
    """The mean with its bounds, in words that need no textbook."""
    chance = "p below 0.001" if found.p < 0.001 else f"p {found.p:.3f}"
    if found.low is None or found.high is None:
        return f"{found.mean:+.4f}, {chance}"
    return f"{found.mean:+.4f}, with {100 * rule.confidence:g} % confidence {found.low:+.4f} to {found.high:+.4f}, {chance}"


def _name(measure: str) -> str:
    name, _, places = measure.partition("@")
    known = {"ndcg": "nDCG", "mrr": "MRR", "map": "MAP"}.get(name, name)
    return f"{known}@{places}" if places else known


def _asked(evaluation: Mapping[str, Any]) -> str:
    return "questions" if evaluation.get("family") == "llm" else "golden queries"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
