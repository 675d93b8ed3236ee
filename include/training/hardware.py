"""What a training runs on, for its manifest: figures of speed and cost mean nothing without it."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Hardware:
    """A machine.

    :param gpus: that training holds, whether it uses all of them or not: they are what is paid.
    :param memory_gb: of a GPU, or of the machine where there is none.
    """

    device: str
    name: str
    gpus: int
    memory_gb: float
    threads: int
    bf16: bool

    def as_json(self) -> dict[str, Any]:
        """For the manifest."""
        return asdict(self)


def this_machine(gpus: int | None = 1) -> Hardware:
    """The machine of this process, as torch sees it.

    :param gpus: that the training holds, where there are any; None: all that this process sees, as a pod does that has them
        for itself.
    """
    import torch

    threads = torch.get_num_threads()
    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        memory = round(card.total_memory / 2**30, 1)
        held = torch.cuda.device_count() if gpus is None else gpus
        return Hardware("cuda", str(card.name), held, memory, threads, bool(torch.cuda.is_bf16_supported()))
    return Hardware("cpu", _processor(), 0, round(_memory() / 2**30, 1), threads, False)


def cost(gpu_seconds: float, seconds: float, price_per_hour: float | None) -> float | None:
    """What a training cost, None when nobody named a price; a machine without a GPU is paid by its own seconds."""
    return None if price_per_hour is None else round((gpu_seconds or seconds) / 3600 * price_per_hour, 6)


def peak_memory_gb() -> float | None:
    """The most that torch took of the GPU in this process; None without one."""
    import torch

    return round(torch.cuda.max_memory_allocated() / 2**30, 2) if torch.cuda.is_available() else None


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
