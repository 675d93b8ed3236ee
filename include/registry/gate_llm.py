"""The gate's rules for language models alone: what was learned must not have cost abilities or safe conduct. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from include.errors import BadData
from include.evaluation.comparison import Rule, verdict
from include.registry.decision import Finding, Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from include.answering.llm import LLM as Judge
    from include.registry.decision import GateRule
    from include.registry.gate_scores import Scores

LLM = "llm"
SETS = {"general": "general abilities", "safety": "safety prompts"}
_FIXES = {
    "general": "Train for fewer steps or at a lower rate, or mix conversations of other kinds into the data",
    "safety": "Add conversations in which it declines to the data, train for fewer steps, or start from a safer base",
}


def require_judge(evaluation: Mapping[str, Any], llm: Judge | None, run_key: str) -> None:
    """Nothing when the LLM that is set here was asked too, or says itself why not.

    :raises BadData: the models were compared where no LLM was set, as in a pod without its variables: its veto was left out.
    """
    if llm is None or evaluation.get("judge") or identical_sides(evaluation):
        return
    raise BadData(
        f"training {run_key} cannot be judged",
        f"the judge {llm.model} is set here, and was not where the models were compared",
        "Set RAGWORKS_LLM_BASE_URL and RAGWORKS_LLM_MODEL there too, and evaluate it again",
    )  # fmt: skip


def identical_sides(evaluation: Mapping[str, Any]) -> bool:
    """Whether nothing was asked, for both are one model."""
    old, new = (evaluation.get(side) or {} for side in ("champion", "challenger"))
    return old.get("fingerprint") == new.get("fingerprint")


def guarded(evaluation: Mapping[str, Any], scores: Scores, rule: GateRule) -> Iterator[Finding]:
    """Sets that may not get worse: not surely, and not by more than a slice may lose, sure or not, for they are small."""
    if evaluation.get("family") != LLM:
        return
    for name, words in SETS.items():
        found = (evaluation.get("guarded") or {}).get(name) or {}
        old, new = found.get("champion") or [], found.get("challenger") or []
        if not old or len(old) != len(new) or not all(_is_number(score) for score in (*old, *new)):
            yield _refused(name, f"{words} were not asked of both".capitalize(), "Evaluate again")
            continue
        one = verdict([b - a for a, b in zip(old, new, strict=True)], Rule(1, rule.differing, 0.0, rule.confidence))
        said = f"{sum(old):g} → {sum(new):g} of {len(old)} right"
        said += f" ({found['learned']} were learned from, and not asked)" if found.get("learned") else ""
        if one.outcome == "worse" or one.mean < -rule.max_slice_loss:
            why = f"It lost {words}: {said}, more than {rule.max_slice_loss:g} of all may be"
            yield _refused(name, why if one.mean < -rule.max_slice_loss else f"It surely lost {words}: {said}", _FIXES[name],
                           one.as_dict())  # fmt: skip
        else:
            yield Finding(name, f"{words.capitalize()}: {said}.", one.as_dict())


def judge(evaluation: Mapping[str, Any], scores: Scores, rule: GateRule) -> Iterator[Finding]:
    """An LLM that surely prefers the champion's answers stops the challenger; its favour alone promotes nothing.

    One that was asked and gave no readable answer stops it too: a veto that cannot be read is not waived.
    """
    told = evaluation.get("judge")
    if evaluation.get("family") != LLM or not told:
        return
    if told.get("why"):
        yield Finding("judge", f"{told['model']} did not judge: {told['why']}.")
        return
    if told.get("preferred") is None:
        yield _refused("judge", f"{told['model']} was asked, and none of its {told.get('unreadable', 0)} replies could be read",
                       "Set an LLM that replies with one word, and evaluate again")  # fmt: skip
        return
    found = told["verdict"]
    said = f"{told['model']} prefers the challenger's answer in {100 * told['preferred']:.0f} of 100 of {told['judged']} pairs"
    swayed = f", and was swayed by their order in {told['swayed']}" if told.get("swayed") else ""
    if found["outcome"] == "worse":
        yield _refused("judge", f"The judge surely prefers the champion: {said}{swayed}",
                       "Read the questions that it lost on the model's page", found)  # fmt: skip
    else:
        yield Finding("judge", f"{said}{swayed}.", found)


def held_out(evaluation: Mapping[str, Any], scores: Scores, rule: GateRule) -> Iterator[Finding]:
    """The loss of held-out answers decides nothing: it tells a person whether scores and loss agree."""
    told = evaluation.get("held_out")
    if evaluation.get("family") != LLM or not told:
        return
    said = f"Loss of {told['conversations']} held-out answers: {told['champion']:.4f} → {told['challenger']:.4f} nats a token"
    higher = ", surely higher, though it does not decide" if told["verdict"]["outcome"] == "worse" else ""
    yield Finding("held_out", f"{said}{higher}.", told["verdict"])


def compared(evaluation: Mapping[str, Any], scores: Scores, rule: GateRule) -> Iterator[Finding]:
    """Says what the champion was where no language model was promoted: what writes answers until then was not compared."""
    old = evaluation.get("champion") or {}
    writer = (evaluation.get("serving") or {}).get("writer")
    if evaluation.get("family") == LLM and writer and not old.get("adapter"):
        said = f"It was compared with the bare base, not with what writes answers now ({writer}), whose place it takes"
        yield Finding("compared", f"{said}. Compare their answers before you approve.")


def precision(evaluation: Mapping[str, Any], scores: Scores, rule: GateRule) -> Iterator[Finding]:
    """Says that a model which was judged on a reduced base is served on the full one, unless it is told otherwise."""
    found = str((evaluation.get("precision") or {}).get("challenger") or "")
    kind = found.partition(" on ")[0]
    if evaluation.get("family") == LLM and kind in ("nf4", "int8"):
        said = f"It was judged on the base in {kind}. serve-llm serves it so with --precision {kind}"
        yield Finding("precision", f"{said}; on the full base, as vLLM's manifests have it, its answers may differ.")


def _refused(rule: str, why: str, change: str, found: Mapping[str, Any] | None = None) -> Finding:
    return Finding(rule, verdict=found, refusal=Refusal(rule, why, change))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
