"""What a training used up and cost, over attempts on machines of different prices."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import torch  # noqa: TID253 - whose answers about a machine are set here

from include.store import model_runs
from include.store.pool import open_pool
from include.training.hardware import Hardware, this_machine
from include.training.ledger import NOTED, Ledger, paid
from tests.training.tiny import plan

if TYPE_CHECKING:
    from include.config import Settings


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [(40.0, 1.0, 41.0), (None, 1.0, 1.0), (40.0, None, 40.0), (0.0, None, 0.0), (None, None, None)],
)
def test_paid(before: float | None, now: float | None, expected: float | None) -> None:
    assert paid(before, now) == expected


@pytest.mark.parametrize(
    ("gpus", "price", "used", "cost"),
    [
        (1, 1.0, {"gpu_seconds": 36_000.0, "cost": 40.0}, 40.0),  # ten hours at 4, then on a cheaper profile
        (1, 2.0, {"gpu_seconds": 36_000.0, "cost": None}, 20.0),  # nobody had named a price
        (0, 2.0, {"training": {"machine_seconds": 3600.0}, "cost": None}, 2.0),
        (1, None, {"gpu_seconds": 36_000.0, "cost": 40.0}, 40.0),
        (1, None, {"gpu_seconds": 36_000.0, "cost": None}, None),
    ],
)
def test_each_attempt_is_paid_at_its_own_price(
    settings: Settings, gpus: int, price: float | None, used: dict[str, object], cost: float | None
) -> None:
    plan(settings, "moved")
    hardware = Hardware("cuda" if gpus else "cpu", "any", gpus, 1.0, 1, bf16=False)
    with open_pool(settings) as pool, pool.connection() as connection:
        model_runs.change(connection, model_runs.by_key(connection, "moved").id, **used)
        Ledger(connection, model_runs.by_key(connection, "moved"), hardware, price).note(step=1)
        found = model_runs.by_key(connection, "moved")
    assert found.cost == (cost if cost is None else pytest.approx(cost, abs=0.01))
    assert found.gpu_seconds == pytest.approx(used.get("gpu_seconds", 0.0), abs=60)
    assert NOTED in found.training


@pytest.mark.parametrize(("gpus", "held"), [(1, 1), (2, 2), (None, 4)])
def test_all_gpus_of_a_pod_count(monkeypatch: pytest.MonkeyPatch, gpus: int | None, held: int) -> None:
    card = SimpleNamespace(name="any", total_memory=2**34)
    answers = {"is_available": True, "device_count": 4, "get_device_properties": card, "is_bf16_supported": True}
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, answer=answer: answer)
    assert this_machine(gpus).gpus == held
