"""What of a training's row is worth keeping beside the code: figures, and no text of a document or a question."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

MEASURES = ("ndcg@10", "recall@10", "mrr@10", "map@10")
TRAINED = (
    "pairs", "planned_steps", "finished", "seconds", "seconds_aside", "machine_seconds", "pairs_per_second", "baseline", "best",
    "dev_questions", "settings", "libraries",
)  # fmt: skip


def figures(row: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments, machine, training, both sides' measures with intervals, latency under load, and the gate's words."""
    evaluation, training = row["evaluation"], row["training"]
    sides = {name: evaluation[name] for name in ("champion", "challenger")}
    return {
        "state": row["state"],
        "version": row["version"],
        "arguments": row["arguments"],
        "hardware": row["hardware"],
        "attempts": row["attempts"],
        "steps": row["step"],
        "training": {key: training[key] for key in TRAINED if key in training},
        "measures": {name: {m: side["measures"][m] for m in MEASURES} for name, side in sides.items()},
        "latency_ms": {name: evaluation["latency"]["sides"][name]["warm"] for name in sides},
        "clients": evaluation["latency"]["clients"],
        "questions": evaluation["questions"],
        "reasons": row["gate"]["reasons"],
    }
