"""How often the gate is wrong, how small a gain it finds, and what it says of challengers that must not win.

    python -m bench.gate [--chance] [--models]

--chance: models that differ by nothing but luck, and ones that are really better, are compared a few hundred times on drawn
questions; no model is loaded. --models: four challengers on a small collection of 60 pages and 60 golden queries, through the
search that serves: ruined weights, the champion again, one that is better and slow, and one that is better and loses a slice.
About two minutes each on two idle cores.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from include.collection_file import load_collection
from include.config import Settings
from include.evaluation.challenge import evaluate_challenger
from include.evaluation.comparison import Rule, verdict
from include.indexing.context import open_context
from include.indexing.pipeline import index_collection
from include.progress import Silent
from include.registry.decision import GateRule
from include.registry.gate import judge
from include.retrieval.rerank import open_reranker
from include.store import embedded
from include.store.golden import GoldenSpan
from include.store.pool import open_pool
from tests.evaluation import trial_models
from tests.evaluation.trials import first_found, golden_queries, save_golden, trained, write_pages

if TYPE_CHECKING:
    from include.store.pool import Pool

NAME = "handbook"
SAME, SPREAD = 0.6, 0.35  # share of questions that both models answer alike, and how far the others move
TIMES = 200


def main() -> None:
    """Print the tables that were asked for, both when none was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chance", action="store_true")
    parser.add_argument("--models", action="store_true")
    args = parser.parse_args()
    if args.chance or not args.models:
        chance()
    if args.models or not args.chance:
        with tempfile.TemporaryDirectory() as folder:
            models(Path(folder))


def chance() -> None:
    """Share of comparisons that end with a promotion, by the true gain and the number of golden queries."""
    rule = GateRule()
    of_gate = Rule(rule.min_queries, rule.differing, rule.min_effect, rule.confidence)
    sizes, gains = (50, 100, 200, 400), (0.0, 0.02, 0.04, 0.08)
    print("| true gain | " + " | ".join(f"{size} queries" for size in sizes) + " |")
    print("|" + "---|" * (len(sizes) + 1))
    for gain in gains:
        cells = []
        for size in sizes:
            draw = random.Random(f"{gain} {size}")
            won = sum(verdict(_differences(draw, size, gain), of_gate).promotes for _ in range(TIMES))
            cells.append(f"{100 * won / TIMES:.1f} %")
        print(f"| {gain:g} | {' | '.join(cells)} |", flush=True)


def _differences(draw: random.Random, size: int, gain: float) -> list[float]:
    """Most questions are answered alike; the others better or worse by a lot."""
    moved = gain / (1 - SAME)
    return [0.0 if draw.random() < SAME else min(1.0, max(-1.0, draw.gauss(moved, SPREAD))) for _ in range(size)]


def models(root: Path) -> None:
    """Four challengers that must not win."""
    settings = Settings(home=root / "home", collections_dir=root / "collections")
    for folder in (settings.collections_dir, root / "documents"):
        folder.mkdir(parents=True)
    write_pages(root / "documents")
    made = {
        "same": trial_models.copied(root / "same"),
        "ruined": trial_models.perturbed(root / "ruined", 0.5),
        "reader": trial_models.cross_encoder(root / "reader"),
    }
    try:
        with open_pool(settings) as pool:
            for case, family, model, found, decision in _cases(settings, pool, root, made):
                figures = ""
                if "comparison" in found:
                    one = found["comparison"]["measures"]["ndcg@10"]
                    figures = f"{one['champion']:.3f} → {one['challenger']:.3f}"
                print(f"\n## {case} ({family}, {model}): {figures} {'accepted' if decision.accepted else 'refused'}")
                for reason in decision.reasons:
                    print(f"- {reason}", flush=True)
    finally:
        embedded.stop(settings.home)


def _cases(settings: Settings, pool: Pool, root: Path, made: dict[str, Path]) -> Any:
    _collection(settings, root)
    save = golden_queries()
    save_golden(pool, NAME, save)
    yield "Ruined", "embedder", "ruined", *_tried(settings, pool, "embedder", made["ruined"], "1")
    yield "The champion again", "embedder", "same", *_tried(settings, pool, "embedder", made["same"], "2")
    reranker = open_reranker(str(made["reader"]), settings)
    collection = load_collection(settings, NAME)
    preferred = [replace(q, spans=(GoldenSpan(first_found(settings, pool, collection, q.query, reranker)),)) for q in save]
    save_golden(pool, NAME, preferred)
    _collection(settings, root, latency_budget_ms=200)
    yield "Better and slow", "reranker", "reader", *_tried(settings, pool, "reranker", made["reader"], "3")
    _collection(settings, root, model=str(made["ruined"]))
    collection = load_collection(settings, NAME)
    quirks = [replace(q, query=f"tell me, {q.query}", metadata={"section": "quirks"}) for q in save[:20]]
    quirks = [replace(q, spans=(GoldenSpan(first_found(settings, pool, collection, q.query, None)),)) for q in quirks]
    save_golden(pool, NAME, [*(replace(q, metadata={"section": "plain"}) for q in save), *quirks])
    yield "Better, and a slice loses", "embedder", "same", *_tried(settings, pool, "embedder", made["same"], "4")


def _collection(settings: Settings, root: Path, *, model: str = "all-MiniLM-L6-v2", latency_budget_ms: int = 10_000) -> None:
    content = {
        "name": NAME,
        "source": {"type": "files", "path": str(root / "documents")},
        "embedding": {"model": model},
        "generations": {"max_quality_loss": 1.0},  # the last case puts a ruined model to work
        "retrieval": {"mode": "dense", "reranker": None, "rerank_candidates": 8, "latency_budget_ms": latency_budget_ms},
    }
    (settings.collections_dir / f"{NAME}.yaml").write_text(yaml.safe_dump(content))
    with open_context(settings, NAME) as context:
        index_collection(context)


def _tried(settings: Settings, pool: Pool, family: str, model: Path, run_key: str) -> tuple[dict[str, Any], Any]:
    trained(pool, NAME, run_key, family, model)
    found = evaluate_challenger(settings, pool, run_key, progress=Silent())
    return found, judge(settings, pool, run_key)


if __name__ == "__main__":
    main()
