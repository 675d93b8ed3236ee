"""Which adapters may be merged, and how: decided before a weight is read.

peft's add_weighted_adapter joins much that does not belong together without a word. What is refused here gave wrong weights
when it was tried (docs/adapters.md has the figures).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from include.training.llm.adapters import Adapter
    from include.training.llm.bases import Base

Method = Literal["linear", "cat", "svd", "ties", "dare_linear", "dare_ties"]
METHODS: tuple[Method, ...] = get_args(Method)
PRUNING = ("ties", "dare_linear", "dare_ties")  # these drop 1 - density of the values
EQUAL_RANKS = ("linear", *PRUNING)  # these add the factors A and B, not their product
_TIED = {"lm_head", "embed_tokens"}


@dataclass(frozen=True, slots=True)
class MergePlan:
    """How adapters become one.

    :param weights: one an adapter; below 0 takes its effect away.
    :param density: share of the values that ties and dare keep.
    :param rank: of the merged adapter with svd; 0: the largest of the parts. The sum of the parts' ranks loses nothing.
    :param seed: of what dare draws.
    """

    method: Method
    weights: tuple[float, ...]
    density: float | None = None
    rank: int = 0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a merge would be wrong, and what to do in its place."""

    why: str
    fix: str


def refusals(adapters: Sequence[Adapter], plan: MergePlan) -> tuple[Refusal, ...]:
    """All reasons against this merge; empty: it may be done."""
    return (
        *_plan_refusals(len(adapters), plan),
        *_origin_refusals(adapters),
        *_kind_refusals(adapters),
        *_shape_refusals(adapters, plan),
    )


def base_refusals(base: Base, adapter: Adapter, *, tied: bool) -> tuple[Refusal, ...]:
    """All reasons against adding this adapter to the weights of this base. rsLoRA and DoRA are no reason here.

    :param tied: whether the base uses one matrix for reading and for writing words.
    """
    return tuple(_base_refusals(base, adapter, tied))


def _base_refusals(base: Base, adapter: Adapter, tied: bool) -> Iterator[Refusal]:
    if adapter.base_digest != base.in_full().fingerprint.rpartition(":")[0]:
        yield Refusal(
            f"{adapter.folder.name} was trained on base {adapter.base}, this is {base.fingerprint}",
            "Take the base that it was trained on: its fingerprint is in the adapter's ragworks.json",
        )
    if base.stored:
        yield Refusal(
            f"the files of {base.name} hold {base.quantisation} weights, to which nothing can be added exactly",
            "Merge into the full-precision model that they were made from, or serve base and adapter apart",
        )
    yield from (
        Refusal(
            f"{adapter.folder.name} has {feature}, which is no update of the base's weights", "Serve base and adapter apart"
        )
        for feature in adapter.features
    )
    if tied and _TIED & set(adapter.target_modules):
        yield Refusal(
            f"{adapter.folder.name} changes one side of the matrix that {base.name} uses for reading and writing words alike",
            "Serve base and adapter apart, or train without embed_tokens and lm_head",
        )


def _plan_refusals(count: int, plan: MergePlan) -> Iterator[Refusal]:
    if plan.method not in METHODS:
        yield Refusal(f"{plan.method!r} is not a method of merging", f"Use one of {', '.join(METHODS)}")
    if count != len(plan.weights) or not count:
        yield Refusal(f"{count} adapters have {len(plan.weights)} weights", "Give one weight an adapter")
    if not all(map(math.isfinite, plan.weights)) or not any(plan.weights):
        yield Refusal(f"the weights {list(plan.weights)} are not numbers, or all 0", "Give numbers, one of them not 0")
    if count == 1 and plan.method not in ("linear", "cat"):
        yield Refusal(f"with one adapter peft merges linearly, not by {plan.method}, without saying so", "Use linear")
    if plan.method in PRUNING and not (plan.density is not None and 0 < plan.density <= 1):
        yield Refusal(
            f"{plan.method} keeps a share of the values, and density is {plan.density}", "Give a density above 0, at most 1"
        )
    if plan.method not in PRUNING and plan.density is not None:
        yield Refusal(
            f"{plan.method} drops no values, so density {plan.density} would be ignored",
            "Leave density out, or use ties or dare",
        )
    if plan.rank < 0 or (plan.rank and plan.method != "svd"):
        yield Refusal(f"rank {plan.rank} cannot be chosen with {plan.method}", "Leave rank out, or use svd")


def _origin_refusals(adapters: Sequence[Adapter]) -> Iterator[Refusal]:
    if len({one.base_digest for one in adapters}) > 1:
        shown = ", ".join(f"{one.folder.name} on {one.base}" for one in adapters)
        yield Refusal(f"they were trained on different bases: {shown}", "Train them on one base; updates of one fit no other")
    elif len({one.quantisation for one in adapters}) > 1:
        shown = ", ".join(f"{one.folder.name} on {one.quantisation}" for one in adapters)
        yield Refusal(
            f"they were trained on the base in different quantisation: {shown}; each makes good for a rounding of its own",
            "Train them on the base in one quantisation",
        )


def _kind_refusals(adapters: Sequence[Adapter]) -> Iterator[Refusal]:
    for one in adapters:
        name = one.folder.name
        if one.rslora:
            yield Refusal(
                f"{name} uses rsLoRA: peft would scale the merged adapter by sqrt(rank) in place of 1",
                "Train without use_rslora (with alpha x sqrt(rank) it is the same adapter), or merge it alone into its base",
            )
        if one.dora:
            yield Refusal(
                f"{name} uses DoRA: its magnitudes would be dropped", "Train without use_dora, or merge it alone into its base"
            )
        for feature in one.features:
            yield Refusal(
                f"{name} has {feature}, which a weighted merge would drop or take from one alone", f"Train without {feature}"
            )


def _shape_refusals(adapters: Sequence[Adapter], plan: MergePlan) -> Iterator[Refusal]:
    modules = {frozenset(one.ranks) for one in adapters}
    if len(modules) > 1:
        odd = sorted(frozenset.union(*modules) - frozenset.intersection(*modules))
        yield Refusal(
            f"they adapt different modules, {odd[0]} and {len(odd) - 1} more not all of them: there one alone would count",
            "Train them with the same target_modules and layers",
        )
    ranks = {rank for one in adapters for rank in one.ranks.values()}
    if plan.method in EQUAL_RANKS and len(ranks) > 1:
        yield Refusal(
            f"{plan.method} adds the factors A and B, so all ranks must be equal; they are {sorted(ranks)}",
            "Use svd or cat, which take any ranks, or train with one rank",
        )
