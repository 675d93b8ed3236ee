"""The gate's rules for language models as a table of cases."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from include.evaluation.comparison import verdict
from include.registry.decision import GateRule
from include.registry.gate import decide

if TYPE_CHECKING:
    from collections.abc import Sequence

RULE = GateRule(min_queries=50, min_effect=0.005, max_slice_loss=0.05, latency_budget_ms=5_000)
DRAW = random.Random(4)
OLD = [DRAW.choice([0.0, 0.0, 0.5, 1.0]) for _ in range(120)]
BETTER = [min(1.0, score + (0.5 if n % 3 == 0 else 0.0)) for n, score in enumerate(OLD)]
ABLE = [1.0] * 30 + [0.0] * 4


def _evaluation(new: Sequence[float] = BETTER, **changed: Any) -> dict[str, Any]:
    sides = {"champion": {"score": OLD}, "challenger": {"score": list(new)}, "champion_again": {"score": OLD}}
    side = {"warm": {"p50_ms": 90.0, "p95_ms": 200.0, "p99_ms": 300.0}, "searches": 120}
    return {
        "family": "llm", "collection": "handbook", "measure": "score",
        "champion": {"fingerprint": "llm:a:none", "weight": None}, "challenger": {"fingerprint": "b", "weight": None},
        "scores": {"sides": sides},
        "slices": {"task": {"exact": list(range(60)), "golden": list(range(60, 120))}},
        "a_a": {"passed": True},
        "latency": {"clients": 1, "sides": {"champion": side, "challenger": side}},
        "guarded": {"general": _guarded(ABLE, ABLE), "safety": _guarded(ABLE, ABLE)},
        "held_out": {"conversations": 60, "champion": 2.0, "challenger": 1.0, "verdict": verdict([1.0] * 59 + [0.9]).as_dict()},
        "judge": None,
        **changed,
    }  # fmt: skip


def _guarded(old: Sequence[float | None], new: Sequence[float | None]) -> dict[str, Any]:
    return {"champion": list(old), "challenger": list(new)}


def _judged(share: float) -> dict[str, Any]:
    shares = [share + (0.01 if n % 2 else -0.01) for n in range(40)]
    return {
        "model": "large",
        "judged": 40,
        "preferred": share,
        "swayed": 2,
        "verdict": verdict([s - 0.5 for s in shares]).as_dict(),
    }


LOST = [*([1.0] * 28), *([0.0] * 6)]  # two of 34: 0.059, too few to be sure, more than may be
ONE = [*([1.0] * 29), *([0.0] * 5)]


@pytest.mark.parametrize(
    ("changed", "rules"),
    [
        ({}, []),
        ({"guarded": {"general": _guarded(ABLE, ONE), "safety": _guarded(ABLE, ABLE)}}, []),
        ({"guarded": {"general": _guarded(ABLE, LOST), "safety": _guarded(ABLE, ABLE)}}, ["general"]),
        ({"guarded": {"general": _guarded(ABLE, ABLE), "safety": _guarded(ABLE, [0.0] * 34)}}, ["safety"]),
        ({"guarded": {"general": _guarded(ABLE, ABLE)}}, ["safety"]),  # not asked is not passed
        ({"guarded": {"general": _guarded(ABLE, [None] * 34), "safety": _guarded(ABLE, ABLE)}}, ["general"]),
        ({"guarded": {"general": _guarded(ABLE, ABLE[:-1]), "safety": _guarded(ABLE, ABLE)}}, ["general"]),
        ({"judge": _judged(0.9)}, []),
        ({"judge": _judged(0.5)}, []),
        ({"judge": _judged(0.1)}, ["judge"]),
        ({"judge": {"model": "large", "judged": 0, "preferred": None, "unreadable": 8, "verdict": {}}}, ["judge"]),
        ({"judge": {"model": "ragworks-handbook", "why": "it is one of the models that are judged"}}, []),
        ({"held_out": None}, []),
        ({"new": OLD}, ["quality"]),
        ({"new": [0.0] * 120}, ["quality", "slice"]),
    ],
)
def test_what_is_decided(changed: dict[str, Any], rules: list[str]) -> None:
    changed = dict(changed)
    decision = decide(_evaluation(changed.pop("new", BETTER), **changed), RULE)
    assert [refusal.rule for refusal in decision.refused_because] == rules, decision.reasons
    assert decision.accepted == (not rules)


def test_what_a_person_must_know_before_approving() -> None:
    """What was not compared, and in which precision it was judged: neither stops it."""
    bare = {"fingerprint": "llm:a:none", "weight": None, "adapter": None}
    serving = {"llm": None, "writer": "gpt at api.example"}
    decision = decide(_evaluation(serving=serving, champion=bare, precision={"challenger": "nf4 on cuda"}), RULE)
    said = " ".join(decision.reasons)
    assert decision.accepted
    assert "not with what writes answers now (gpt at api.example)" in said
    assert "judged on the base in nf4" in said
    assert "compared with the bare base" not in " ".join(decide(_evaluation(), RULE).reasons)


def test_the_words_are_those_of_answers() -> None:
    decision = decide(_evaluation(judge=_judged(0.9)), RULE)
    said = " ".join(decision.reasons)
    assert "score 0." in decision.summary
    assert "over 120 questions" in decision.summary
    assert "95 of 100 answers take up to 200 ms" in said
    assert "Loss of 60 held-out answers: 2.0000 → 1.0000 nats a token." in said
    assert "large prefers the challenger's answer in 90 of 100 of 40 pairs" in said
    slow = decide(_evaluation(), GateRule(latency_budget_ms=100))
    assert "training.answer_budget_ms" in slow.refused_because[0].change
