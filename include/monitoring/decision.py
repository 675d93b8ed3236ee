"""What to do about breaches. Pure: signals, what is known besides, and a person's policy in; one action with its reasons out.

Retraining is one answer of several and rarely the right one: a question whose document is missing calls for the document, a
drift that costs no quality calls for nothing, a loss that began with a promotion calls for the model before. So each
alternative that was not taken stands in the decision, with why.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from include.monitoring.catalogue import SIGNALS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from include.collection_file import Monitoring
    from include.monitoring.breach import Breach

Action = Literal["nothing", "notify", "add_documents", "reindex", "refresh_golden", "train", "rollback", "ask"]
State = Literal["waiting", "approved", "done"]
SOON = timedelta(days=7)  # after a promotion: a loss that begins within it is laid at its door
FAMILIES = ("reranker", "embedder", "llm")  # in the order of what a training costs


@dataclass(frozen=True, slots=True)
class Promotion:
    """A model that went live, and is live still."""

    family: str
    version: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known besides the signals.

    :param labels: judged questions by family that a training of it would learn from, new since its last one.
    :param named: of them those that came since the index was found wanting, and name a document that answers.
    :param gpu_hours: of all trainings of the last 30 days.
    :param running: families that are being trained.
    :param trained: when monitoring last had something trained, whatever came of it; None: never.
    :param promotions: models that serve, the newest first.
    :param tried: families that were promoted since the breach began, and did not end it.
    :param open_decision: an earlier decision that waits or is carried out, in words.
    :param llm: whether an LLM answers, that could be trained.
    """

    labels: Mapping[str, int] = field(default_factory=dict)
    named: int = 0
    gpu_hours: float = 0.0
    running: tuple[str, ...] = ()
    trained: datetime | None = None
    promotions: tuple[Promotion, ...] = ()
    tried: tuple[str, ...] = ()
    open_decision: str | None = None
    llm: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """One action.

    :param state: ``approved``: it may be carried out; ``waiting``: a person is asked first; ``done``: there is nothing to do
        but to tell.
    :param refused: alternatives, and why they were not taken.
    """

    action: Action
    family: str | None
    mode: str
    state: State
    reason: str
    refused: tuple[tuple[str, str], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "action": self.action, "family": self.family, "mode": self.mode, "state": self.state, "reason": self.reason,
            "refused": [{"action": action, "why": why} for action, why in self.refused],
        }  # fmt: skip


def decide(breaches: Sequence[Breach], facts: Facts, policy: Monitoring, *, at: datetime) -> Decision:
    """The action for the breaches that are open at a time.

    :param breaches: open ones.
    """
    if not breaches:
        return _told("nothing", "no signal is in breach")
    case = _Case(breaches, facts, policy, at)
    if facts.open_decision is not None:
        return _told("notify", f"{case.said}; {facts.open_decision}", (("act", "one thing at a time"),))
    rules: tuple[Callable[[_Case], Decision | None], ...] = (
        _stale, _promotion_did_it, _operation, _drift_alone, _documents_missing, _outdated_golden, _train,
    )  # fmt: skip
    for rule in rules:
        if (decision := rule(case)) is not None:
            return decision
    return _told("ask", f"{case.said}; no rule covers it")


@dataclass(frozen=True, slots=True)
class _Case:
    breaches: Sequence[Breach]
    facts: Facts
    policy: Monitoring
    at: datetime

    def has(self, *names: str) -> bool:
        return any(b.signal in names for b in self.breaches)

    def group(self, *groups: str) -> list[Breach]:
        return [b for b in self.breaches if SIGNALS[b.signal].group in groups]

    @property
    def lost(self) -> list[Breach]:
        """Breaches that say that answers are worse."""
        return self.group("coverage", "retrieval", "answers", "feedback")

    @property
    def said(self) -> str:
        return "; ".join(f"{b.signal}: {b.reason}" for b in self.breaches)


def _told(action: Action, reason: str, refused: tuple[tuple[str, str], ...] = ()) -> Decision:
    return Decision(action, None, "notify", "done", reason, refused)


def _by_policy(
    action: Action, family: str | None, mode: str, reason: str, refused: tuple[tuple[str, str], ...] = ()
) -> Decision:
    """An action as far as the policy lets it go; one that is only told becomes a notice that names it."""
    if mode == "notify":
        wanted = f"{action} {family}" if family else action
        return _told("notify", f"{reason}; {wanted} is advised", (*refused, (wanted, "the policy says notify")))
    return Decision(action, family, mode, "approved" if mode == "auto" else "waiting", reason, refused)


def _stale(case: _Case) -> Decision | None:
    """An index that is too old is built again before anything is said of its quality."""
    if not case.has("freshness"):
        return None
    refused = (("train", "a model is judged on an index that is up to date"),) if case.lost else ()
    return _by_policy("reindex", None, case.policy.policy.reindex, case.said, refused)


def _promotion_did_it(case: _Case) -> Decision | None:
    """Quality that was lost within days of a promotion, and not before it: the model before comes back.

    A loss of before does not excuse it, and a promotion within the first bad window may have been its beginning.
    """
    found = [(p, b) for p in case.facts.promotions for b in case.lost if _may_be_of(b, p)]
    if not found:
        return None
    blamed, lost = found[0][0], [b.signal for p, b in found if p == found[0][0]]
    what = "it" if len(lost) == len(case.lost) else ", ".join(lost)
    reason = (
        f"{case.said}; {what} began after version {blamed.version} of the {blamed.family} was promoted ({blamed.at:%Y-%m-%d})"
    )
    refused = (("train", "what was promoted last is taken back first"),)
    return _by_policy("rollback", blamed.family, case.policy.policy.rollback, reason, refused)


def _may_be_of(breach: Breach, promotion: Promotion) -> bool:
    since = breach.since or breach.opened_at
    return promotion.at <= (breach.by or since) and since - promotion.at <= SOON


def _operation(case: _Case) -> Decision | None:
    """Slow, failing, documents held back: nothing that a training mends, and answers are worse for it."""
    if not case.group("operation"):
        return None
    if case.has("failed_trainings"):
        return _told("ask", f"{case.said}; look at the failed training first", (("train", "the last one failed"),))
    return _told("notify", case.said, (("train", "models do not mend failures, latency or quarantine, which come first"),))


def _drift_alone(case: _Case) -> Decision | None:
    """Other questions, answered as well as before."""
    if case.lost:
        return None
    return _told(
        "notify", f"{case.said}; quality holds", (("train", "drift without a loss of quality is told, not trained on"),)
    )


def _documents_missing(case: _Case) -> Decision | None:
    """The index has nothing near to what is asked: no model finds what is not there."""
    if not case.has("coverage", "zero_results") or case.facts.named >= case.policy.minimum_labels:
        return None  # where people said which documents answer, these are not missing
    why = "the questions are far from every document: what is missing are documents"
    return _told("add_documents", f"{case.said}; documents are missing", (("train", why),))


def _outdated_golden(case: _Case) -> Decision | None:
    """Other questions and unhappy users, while the golden queries see nothing and there is nothing to learn from."""
    if not (case.group("drift") and case.has("thumbs_down")) or case.has("golden_ndcg"):
        return None
    if max(case.facts.labels.values(), default=0) >= case.policy.minimum_labels:
        return None
    reason = f"{case.said}; the golden queries do not show it: they are of other topics"
    refused = (("train", _few(max(case.facts.labels.values(), default=0), case.policy)),)
    return _by_policy("refresh_golden", None, case.policy.policy.refresh_golden, reason, refused)


def _train(case: _Case) -> Decision:
    """Quality is lost, its documents are there: the cheapest model that may mend it, if there is something to learn from."""
    family, refused = _family(case)
    if family is None:
        return _told("ask", f"{case.said}; every model that could mend it was tried", refused)
    if (why := hindered(family, case.facts, case.policy, at=case.at)) is not None:
        return _told("notify", f"{case.said}; {family} is not trained: {why}", (*refused, (f"train {family}", why)))
    reason = f"{case.said}; {case.facts.labels.get(family, 0)} new labels to train a {family} on"
    return _by_policy("train", family, getattr(case.policy.policy, family), reason, refused)


def _family(case: _Case) -> tuple[str | None, tuple[tuple[str, str], ...]]:
    """What to train: answers that go wrong on good passages are the LLM's, everything else is found too low."""
    refused: list[tuple[str, str]] = []
    of_words = case.has("groundedness", "abstention", "confidence") and not case.has(
        "golden_ndcg", "thumbs_down", "score_margin"
    )
    wanted = FAMILIES if not of_words else ("llm",) if case.facts.llm else FAMILIES[:2]
    for family in wanted:
        if family in case.facts.tried:
            refused.append((f"train {family}", "it was trained and promoted since this began, and did not end it"))
        elif family == "llm" and not case.facts.llm:
            refused.append(("train llm", "no language model answers here"))
        else:
            later = [f for f in wanted if f != family and f not in case.facts.tried and (f != "llm" or case.facts.llm)]
            refused += [(f"train {f}", f"a {family} costs less and may do") for f in later]
            return family, tuple(refused)
    return None, tuple(refused)


def hindered(family: str, facts: Facts, policy: Monitoring, *, at: datetime) -> str | None:
    """Why a family is not trained now, in words; None: nothing speaks against it."""
    if facts.running:
        return f"a training is running ({', '.join(facts.running)})"
    if facts.trained is not None and at < (rested := facts.trained + timedelta(days=policy.training_cool_down_days)):
        return f"cool-down: the last training was asked for {facts.trained:%Y-%m-%d}, the next may come {rested:%Y-%m-%d}"
    if (labels := facts.labels.get(family, 0)) < policy.minimum_labels:
        return _few(labels, policy)
    if facts.gpu_hours >= policy.gpu_hours_a_month:
        return f"the budget is spent: {facts.gpu_hours:.1f} of {policy.gpu_hours_a_month:g} GPU hours in 30 days"
    return None


def _few(labels: int, policy: Monitoring) -> str:
    return f"too little to learn from: {labels} new labels, {policy.minimum_labels} are needed"
