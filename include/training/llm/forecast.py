"""Whether a training will fit, how long it will take, and what it will read: said before a GPU is asked for."""

from __future__ import annotations

import logging
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from include.datasets.conversations.tokens import token_statistics
from include.embedding.models import read_json
from include.errors import BadConfiguration
from include.store import model_runs
from include.store.conversations import conversations
from include.training.arguments import LlmArguments, arguments_of
from include.training.llm.bases import load_tokenizer
from include.training.llm.estimate import GIB, Workload, estimate
from include.training.llm.examples import read_examples
from include.training.llm.fitting import Device, fits
from include.training.llm.planning import FAMILY, planned_base
from include.training.llm.shapes import shape_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from include.config import Settings
    from include.store.pool import Pool
    from include.training.llm.bases import Base
    from include.training.llm.examples import Example, Examples
    from include.training.llm.fitting import Verdict
    from include.training.llm.shapes import ModelShape

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a training will read.

    :param rows: that an epoch has after packing; ``tokens`` of an epoch, padding not counted.
    :param steps: of the optimiser, in all.
    :param filled: share of the rows that packing fills with conversations; None: nothing is packed.
    """

    rows: int
    tokens: int
    steps: int
    longest: int
    filled: float | None

    @property
    def row_tokens(self) -> float:
        """Tokens of a row, on average."""
        return self.tokens / max(1, self.rows)


def forecast(
    settings: Settings, pool: Pool, run_key: str, *, profile: Device | Sequence[Device] | None = None
) -> dict[str, Any]:
    """What a planned training will need; written into ``training["forecast"]`` of its row.

    :param profile: where it may run, in the order in which that is tried; None: on this machine. A device whose memory is 0 is
        not known: it is not refused.
    :raises BadData: no conversation can be read, or all are too long.
        A base whose sizes are not known is not refused either: that nothing was estimated is said.
    :raises BadConfiguration: it fits nowhere, with the reason and what would fit.
    """
    # 1. The row, the base and the conversations; no weight is read.
    with pool.connection() as connection:
        run = model_runs.by_key(connection, run_key)
        rows = list(conversations(connection, run.dataset_id or 0, "train"))
    arguments = cast("LlmArguments", arguments_of(FAMILY, run.arguments))
    base = planned_base(settings, run.base, arguments.quantisation)
    tokenizer = load_tokenizer(base)
    found = read_examples(
        tokenizer, rows, method=arguments.method, max_length=arguments.max_length, too_long=arguments.too_long,
        day=run.created_at,
    )  # fmt: skip
    plan = plan_of(found.kept, arguments)
    # 2. Each device.
    devices = [this_device()] if profile is None else [profile] if isinstance(profile, Device) else list(profile)
    shape, unknown = _shape(base)
    verdicts = [judged(shape, arguments, plan, base, device, unknown) for device in devices]
    # 3. Written down, whatever it says.
    report = _report(arguments, plan, found, verdicts)
    report |= {"conversations": token_statistics(rows, tokenizer, arguments.max_length)}
    with pool.connection() as connection:
        run = model_runs.by_key(connection, run_key)
        model_runs.change(connection, run.id, training=run.training | {"forecast": report})
    logger.info("forecast of %s: %s", run_key, report["said"])
    if not any(one["fits"] for one in verdicts):
        reasons = "; ".join(f"{one['device']}: {one['reason']}" for one in verdicts)
        raise BadConfiguration(f"training {run_key} fits nowhere", reasons, "Change its arguments, or name a larger GPU")
    return report


def plan_of(examples: Sequence[Example], arguments: LlmArguments) -> Plan:
    """Rows, tokens and steps of a training by these examples."""
    lengths = [one.length for one in examples]
    rows, filled = len(examples), None
    if arguments.packing:
        rows = packed_rows(lengths, arguments.max_length)
        filled = round(sum(lengths) / (rows * arguments.max_length), 3)
    steps = arguments.max_steps or math.ceil(rows / (arguments.batch_size * arguments.gpus * arguments.gradient_accumulation))
    steps *= 1 if arguments.max_steps else arguments.epochs
    longest = arguments.max_length if arguments.packing else max(lengths)
    return Plan(rows, sum(one.tokens for one in examples), steps, longest, filled)


def packed_rows(lengths: Sequence[int], limit: int) -> int:
    """Rows of ``limit`` tokens that best-fit decreasing needs, as trl packs: each goes where the least room is left."""
    rooms: dict[int, int] = {}  # room left → rows that have it
    rows = 0
    for length in sorted(lengths, reverse=True):
        room = min((one for one in rooms if one >= length), default=0)
        if room:
            rooms[room] -= 1
            if not rooms[room]:
                del rooms[room]
        else:
            room, rows = limit, rows + 1
        rooms[room - length] = rooms.get(room - length, 0) + 1
    return rows


def workload_of(arguments: LlmArguments, plan: Plan, base: Base, device: Device, shape: ModelShape) -> Workload:
    """A training as the estimate takes it."""
    cuda = device.kind == "cuda"
    precision: Literal["bf16", "fp32"] = (
        "bf16" if arguments.precision == "bf16" or (arguments.precision == "auto" and cuda) else "fp32"
    )
    # Files that are quantised already (gptq, awq) hold about 4 bits a weight, as nf4 does.
    quantisation: Any = base.quantisation if base.quantisation in ("nf4", "int8") else "nf4" if base.stored else "none"
    return Workload(
        batch=arguments.batch_size,
        sequence=plan.longest,
        quantisation=quantisation,
        precision=precision,
        rank=arguments.lora_rank,
        targets=arguments.target_modules or tuple(shape.linears),
        checkpointing=arguments.gradient_checkpointing,
        packed=arguments.packing,
        dropout=arguments.lora_dropout,
        method=arguments.method,
        device=device.kind,
    )


def judged(
    shape: ModelShape | None, arguments: LlmArguments, plan: Plan, base: Base, device: Device, unknown: str = ""
) -> dict[str, Any]:
    """Whether a device will do, as JSON: bytes needed and there, seconds, and why not.

    :param shape: None: not known, for the reason ``unknown``; then 0 bytes stand for what it needs.
    """
    need = estimate(shape, workload_of(arguments, plan, base, device, shape)) if shape else None
    if base.quantisation in ("nf4", "int8") and device.kind == "cpu":
        reason = f"bitsandbytes holds weights as {base.quantisation} on a GPU with CUDA alone. Take quantisation none there"
        return _judgement(device, need.peak if need else 0, None, reason, fit=False)
    if shape is None or need is None:
        return _judgement(device, 0, None, f"what it needs is not known: {unknown}", fit=True)
    tokens = round(plan.steps * arguments.step_size * plan.row_tokens / arguments.gpus)  # that each device reads
    if arguments.max_tokens:
        tokens = min(tokens, arguments.max_tokens // arguments.gpus)
    if not device.memory:
        return _judgement(device, need.peak, None, f"the memory of {device.name} is not known", fit=True)
    verdict = fits(shape, workload_of(arguments, plan, base, device, shape), device, tokens=tokens)
    parts = {name: value for name, value in asdict(need).items() if isinstance(value, int)}
    return _judgement(device, need.peak, verdict, verdict.reason, fit=verdict.fits) | {"parts": parts}


def _shape(base: Base) -> tuple[ModelShape | None, str]:
    """The sizes of a base; None and the reason where they are not known: it is trained without an estimate."""
    try:
        return shape_of(read_json(base.folder, "config.json")), ""
    except BadConfiguration as error:
        logger.warning("%s: nothing is estimated: %s", base.name, error)
        return None, f"{error.why}"


def this_device() -> Device:
    """The GPU of this machine, or its memory where there is none."""
    from include.training.hardware import this_machine

    machine = this_machine()
    return Device(machine.name, round(machine.memory_gb * GIB), kind="cuda" if machine.gpus else "cpu")


def _judgement(device: Device, need: int, verdict: Verdict | None, reason: str, *, fit: bool) -> dict[str, Any]:
    return {
        "device": device.name,
        "fits": fit,
        "reason": reason,
        "need": need,
        "have": verdict.have if verdict else device.memory,
        "seconds": None if verdict is None or verdict.seconds is None else round(verdict.seconds),
        "would_fit": [one.what for one in verdict.fitting] if verdict else [],
    }


def _report(arguments: LlmArguments, plan: Plan, found: Examples, verdicts: list[dict[str, Any]]) -> dict[str, Any]:
    fitting = [one for one in verdicts if one["fits"]]
    first = (fitting or verdicts)[0]
    seconds = first["seconds"]
    hours = None if seconds is None else seconds * arguments.gpus / 3600
    over = bool(arguments.max_gpu_hours and hours and hours > arguments.max_gpu_hours)
    need = f"{first['need'] / GIB:.2f} GiB" if first["need"] else "nobody knows how much"
    said = f"{plan.steps} steps, about {plan.tokens} tokens an epoch, {need} of {first['have'] / GIB:.2f}"
    said += f" on {first['device']}" + ("" if seconds is None else f", about {seconds} s")
    if over:
        said += f"; the budget of {arguments.max_gpu_hours:g} GPU-hours ends it before all steps"
    return {
        "fits": bool(fitting),
        "devices": verdicts,
        "fitting": [one["device"] for one in fitting],
        "steps": plan.steps,
        "rows": plan.rows,
        "tokens": plan.tokens,
        "longest": plan.longest,
        "packed": plan.filled,
        "left_out": found.left_out,
        "truncated": found.truncated,
        "budget_ends_it": over,
        "said": said,
    }
