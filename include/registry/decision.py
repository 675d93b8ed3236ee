"""What the gate says of a challenger, in a form that is kept with the training and read by people. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from include.collection_file import Collection


@dataclass(frozen=True, slots=True)
class GateRule:
    """When a challenger may take the champion's place; the first four are settings of a collection.

    :param min_queries: golden queries below which nothing is decided.
    :param min_effect: smallest gain of the deciding measure, such as nDCG@10, that is worth a change.
    :param max_slice_loss: most that a slice may lose, when it surely loses.
    :param latency_budget_ms: what 95 of 100 searches must stay within, asked ``training.clients`` at once; of an llm, answers.
    :param differing: queries that must tell the two apart (:class:`include.evaluation.comparison.Rule`).
    :param min_slice_queries: slices with fewer are named, and not judged.
    :param min_searches: timed searches below which a 95th percentile says nothing: it would rest on one of them.
    :param latency_device: where searches must have been timed; an evaluation that does not say where is not asked.
    """

    min_queries: int = 50
    min_effect: float = 0.005
    max_slice_loss: float = 0.05
    latency_budget_ms: float = 500
    differing: int = 6
    confidence: float = 0.95
    min_slice_queries: int = 20
    min_searches: int = 40
    latency_device: str = "cpu"

    @classmethod
    def of(cls, collection: Collection, family: str = "") -> GateRule:
        """The rule that a collection file states.

        :param family: answers of an ``llm`` have a budget of their own.
        """
        training = collection.training
        budget = training.answer_budget_ms if family == "llm" else collection.retrieval.latency_budget_ms
        return cls(training.min_queries, training.min_effect, training.max_slice_loss, budget,
                   latency_device=training.latency_device)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a challenger stays out.

    :param rule: which rule, in a word: identical, scores, sample, control, quality, without, pair, slice, latency,
        general, safety, judge.
    :param why: what was found, ``change`` what would have to be different.
    """

    rule: str
    why: str
    change: str

    def __str__(self) -> str:
        return f"{self.why}. {self.change}."


@dataclass(frozen=True, slots=True)
class Finding:
    """What one rule found.

    :param verdict: numbers, for tables.
    :param reason: a sentence for a person; "" when the refusal says it all.
    """

    rule: str
    reason: str = ""
    verdict: Mapping[str, Any] | None = None
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """May the challenger serve?

    :param reasons: sentences for a person, the most telling first; what speaks against it among them.
    :param verdicts: what each rule found, by its name.
    """

    accepted: bool
    reasons: tuple[str, ...] = ()
    refused_because: tuple[Refusal, ...] = ()
    verdicts: Mapping[str, Any] = field(default_factory=dict)
    rule: GateRule = field(default_factory=GateRule)

    @property
    def summary(self) -> str:
        """One line."""
        return self.reasons[0] if self.reasons else ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "accepted": self.accepted,
            "summary": self.summary,
            "reasons": list(self.reasons),
            "refused_because": [asdict(refusal) for refusal in self.refused_because],
            "verdicts": dict(self.verdicts),
            "rule": asdict(self.rule),
        }

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Decision:
        """The decision that a training's row keeps."""
        return cls(
            kept["accepted"],
            tuple(kept["reasons"]),
            tuple(Refusal(**refusal) for refusal in kept["refused_because"]),
            kept["verdicts"],
            GateRule(**kept["rule"]),
        )
