"""Merges two trained adapters of a small model by each method and proves each merge: the tables of docs/adapters.md.

    python -m bench.llm_merges            # half a minute on two cores

The model is a Llama of random weights, 4 layers of 64, built on the spot; each adapter (rank 4, on q, v and down projections)
is trained 30 steps on texts of its own. Shown is how the methods differ and how large the tolerances are beside what is
measured; gaps of a real model must be measured on that model.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from include.training.llm import proofs
from include.training.llm.adapters import Adapter, read_adapter
from include.training.llm.bases import Base, find_base
from include.training.llm.merge_rules import METHODS, PRUNING, MergePlan
from include.training.llm.merging import merge_adapters, merge_into_base
from tests.training.llm.tiny import TEXTS, make_adapter, make_base

OTHER = ("Who may see a document is enforced in SQL.", "A generation that was left can be activated again in one step.")


def main() -> None:
    """Print the tables."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        print("| base | proof | largest difference | tolerance | adapter's effect |\n|---|---|---|---|---|")
        for dtype in ("float32", "float16", "bfloat16"):
            base, left, right = made(place, dtype)
            prove(base, left, place / f"merged-{dtype}", dtype)
            if dtype == "float32":
                kept = base, left, right
        print("\n| quantised base | largest difference | KL | same next token |\n|---|---|---|---|")
        for kind in ("int8", "nf4"):
            gap = proofs.quantised_gap(kept[0], kept[1], kind)
            line(gap["by"], *(f"{gap['adapter'][key]:.2g}" for key in ("relative", "kl")), f"{gap['adapter']['top1']:.1%}")
        effect = gap["effect"]
        line("the adapter itself", f"{effect['relative']:.2g}", f"{effect['kl']:.2g}", f"{effect['top1']:.1%}")
        print("\n| method | from its formula | from the weighted sum | same bytes again |\n|---|---|---|---|")
        compare(*kept, place)


def made(place: Path, dtype: str) -> tuple[Base, Adapter, Adapter]:
    """A base and two adapters, trained on different texts."""
    folder = make_base(place / dtype, texts=TEXTS + OTHER, dtype=dtype, num_hidden_layers=4)
    options: dict[str, Any] = {"scale": 0.0, "steps": 30}
    left = make_adapter(folder, place / f"{dtype}-left", seed=1, **options)
    right = make_adapter(folder, place / f"{dtype}-right", seed=2, texts=OTHER, **options)
    return find_base(str(folder)), read_adapter(left), read_adapter(right)


def prove(base: Base, adapter: Adapter, merged: Path, dtype: str) -> None:
    """One adapter at weight 1.0, and full weights."""
    identity = proofs.prove_identity(base, adapter)
    full = proofs.prove_full_weights(base, adapter, merge_into_base(base, adapter, merged))
    for name, proof in (("one adapter at weight 1.0", identity), ("full weights, logits", full["logits"])):
        line(
            dtype,
            name,
            *(f"{number:.2g}" for number in (proof["gap"]["relative"], proof["tolerance"], proof["effect"]["relative"])),
        )
    line(dtype, "full weights, matrices", f"{full['weights']['worst']:.2g}", "1", "")
    if not (identity["passed"] and full["passed"]):
        raise SystemExit(f"not proved: {identity['reason']} {full['reason']}")


def compare(base: Base, left: Adapter, right: Adapter, place: Path) -> None:
    """All methods on one pair."""
    for method in METHODS:
        plan = MergePlan(method, (0.5, 0.5), 0.5 if method in PRUNING else None)
        proof = proofs.prove_adapter(
            base, [left, right], plan, merge_adapters(base, [left, right], plan, place / method).folder
        )
        formula = "" if method in PRUNING else f"{proof['from_formula']:.1e}"
        line(method, formula, f"{proof['from_sum']:.2g}", "yes" if proof.get("repeated") else "")


def line(*cells: str) -> None:
    """A row of a table."""
    print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
