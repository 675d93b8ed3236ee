"""Whether a training fits a device, and what would fit where it does not: decided before a pod is asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from include.training.llm.estimate import GIB, Estimate, Workload, estimate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.training.llm.shapes import ModelShape

SHORTEST = 128  # tokens that a sequence is shortened to at most: less holds no conversation
RESERVE = 0.1  # of the memory stays free: longer batches than usual, other processes, what the estimate misses


@dataclass(frozen=True, slots=True)
class Device:
    """What a profile offers.

    :param memory: bytes of one device, or of the machine for a CPU.
    :param flops: peak a second in the training's precision; 0: unknown, then no time is estimated.
    :param utilisation: share of ``flops`` that trainings reach.
    :param rate: measured tokens a second; counts in place of ``flops``.
    :param hours: longest that a task may take; 0: no limit.
    :param kind: a GPU with CUDA, or a machine without one.
    """

    name: str
    memory: int
    flops: float = 0.0
    utilisation: float = 0.35
    rate: float = 0.0
    hours: float = 0.0
    kind: Literal["cuda", "cpu"] = "cuda"


@dataclass(frozen=True, slots=True)
class Change:
    """Another workload that fits, and what changes by it."""

    what: str
    work: Workload
    peak: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether it fits.

    :param reason: why not; empty when it does.
    :param seconds: how long it takes; None when nothing is known of the device's speed.
    :param fitting: what would fit, least change first.
    """

    fits: bool
    reason: str
    need: int
    have: int
    seconds: float | None
    fitting: tuple[Change, ...] = ()


def fits(shape: ModelShape, work: Workload, device: Device, *, tokens: int = 0) -> Verdict:
    """Compare what a training needs with what a device has.

    :param tokens: that it reads in all; 0: time is not looked at.
    """
    need, have = estimate(shape, work), int(device.memory * (1 - RESERVE))
    known = bool(tokens) and (device.rate > 0 or device.flops > 0)
    seconds = need.seconds(tokens, flops=device.flops, utilisation=device.utilisation, rate=device.rate) if known else None
    if need.peak > have:
        found = tuple(dict.fromkeys(_fitting(shape, work, have)))
        reason = f"it needs about {_gib(need.peak)}, {device.name} has {_gib(device.memory)} and {RESERVE:.0%} stay free; "
        reason += f"most is {_largest(need)}"
        return Verdict(False, f"{reason}. {_advice(found)}", need.peak, have, seconds, found)
    if seconds is not None and device.hours and seconds > device.hours * 3600:
        reason = f"it takes about {seconds / 3600:.1f} h on {device.name}, the limit is {device.hours:g} h. "
        reason += "Train on fewer tokens, or raise max_hours of the profile"
        return Verdict(False, reason, need.peak, have, seconds)
    return Verdict(True, "", need.peak, have, seconds)


def _fitting(shape: ModelShape, work: Workload, have: int) -> Iterator[Change]:
    """What fits: checkpointing and smaller batches first, then 4 bits; shorter sequences where nothing else does."""
    saving, found = replace(work, checkpointing=True), False
    for change in (*_batches(shape, saving, own=not work.checkpointing), *_batches(shape, _in_four_bits(saving), own=True)):
        if change.peak <= have and change.work != work:
            found = True
            yield change
    length = work.sequence // 2
    while not found and length >= SHORTEST:
        change = _change(shape, replace(_in_four_bits(saving), batch=1, sequence=length))
        if change.peak <= have:
            yield change
            return
        length //= 2


def _batches(shape: ModelShape, work: Workload, *, own: bool) -> Iterator[Change]:
    """The workload with its own batch, and with a half, a quarter, … of it."""
    size = work.batch if own else work.batch // 2
    while size >= 1:
        yield _change(shape, replace(work, batch=size))
        size //= 2


def _in_four_bits(work: Workload) -> Workload:
    """With nf4, which needs CUDA."""
    return replace(work, quantisation="nf4") if work.device == "cuda" else work


def _change(shape: ModelShape, work: Workload) -> Change:
    base = "a base in 4 bits (nf4), " if work.quantisation == "nf4" else ""
    what = f"{base}gradient checkpointing, batch {work.batch}, sequences of {work.sequence} tokens"
    return Change(what, work, estimate(shape, work).peak)


def _advice(found: tuple[Change, ...]) -> str:
    if not found:
        return "Nothing smaller fits there: take a larger device, or a smaller base"
    return f"What would fit: {found[0].what} ({_gib(found[0].peak)})"


def _largest(need: Estimate) -> str:
    parts = {name: getattr(need, name) for name in ("weights", "optimizer", "activations", "head", "workspace")}
    name = max(parts, key=lambda one: parts[one])
    return f"{name} ({_gib(parts[name])})"


def _gib(count: int) -> str:
    return f"{count / GIB:.1f} GiB" if count >= GIB / 10 else f"{count / 2**20:.0f} MiB"
