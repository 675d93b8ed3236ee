"""Fine-tunes on real questions through the DAGs, and asks the result: gains with intervals, seconds of each step, answers.

    python -m bench.finetune --data ../shared/data medquad-embedder scifact-embedder medquad-reranker
    python -m bench.finetune --data ../shared/data --json docs/benchmarks/finetune.json     # keeps the file's other cases

Index the documents by ``index_<collection>``, and import the questions that judge. For each case: run ``train_<family>`` from
its form with its default gate, approve by REST, ask the HTTP API which model answers, take it back with ``rollback-model``, and
ask again. A training has 20 minutes (``seconds`` of the DAG run, approval included). Documents of judging questions are never
trained on: the data step leaves them out, which on scifact takes 295 of 919 pairs; ``scifact-embedder-as-beir`` keeps out the
questions alone, as BEIR's own split does.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from bench.finetune.corpora import cut
from bench.finetune.report import figures
from bench.finetune.stack import running, settings_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.finetune.corpora import Corpus
    from bench.finetune.stack import Stack

LIMIT_SECONDS = 1200
QUESTION = "what is known about this?"


@dataclass(frozen=True)
class Case:
    """A training.

    :param index: which of :data:`INDEXES` it belongs to.
    :param arguments: of the form, where they differ from the defaults.
    """

    index: str
    family: str
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Index:
    """A collection.

    :param pairs: training pairs of the corpus's file; 0: all.
    :param distractors: documents besides those of the questions; -1: all that there are.
    :param tokens: documents are cut to so many; 0: they are whole.
    """

    corpus: str
    pairs: int
    distractors: int
    tokens: int = 0


WINDOW = 254  # tokens that the packaged model reads
INDEXES = {
    "abstracts": Index("scifact", 0, -1, WINDOW),  # what one vector of the model knows of an abstract
    "medquad": Index("medquad", 2880, 0),
    "scifact": Index("scifact", 0, -1),
}
LAST = 1000  # steps between two scores, more than there are: the last step is kept; 92 development questions choose by luck
RETRIEVAL = {"mode": "dense", "rerank_candidates": 20, "latency_budget_ms": 10_000}
CASES = {
    "medquad-embedder": Case("medquad", "embedder", {"epochs": 1}),
    "medquad-reranker": Case("medquad", "reranker", {"data_max_rows": 1200}),
    "scifact-embedder": Case("scifact", "embedder", {"evaluate_steps": LAST}),
    "scifact-embedder-as-beir": Case("scifact", "embedder", {"data_golden": "questions"}),
    "abstracts-embedder-as-beir": Case(
        "abstracts", "embedder", {"evaluate_steps": LAST, "data_golden": "questions", "data_dev_share": 0.03}
    ),
    "abstracts-reranker-as-beir": Case("abstracts", "reranker", {"data_golden": "questions"}),
    "abstracts-forest": Case("abstracts", "reranker", {"kind": "forest"}),
    "scifact-forest": Case("scifact", "reranker", {"kind": "forest"}),
}


def main() -> int:
    """Run the cases; print JSON; exit 1 when one does not end with a promoted model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", choices=[[], *CASES], help="default: all")
    parser.add_argument("--data", type=Path, required=True, help="folder with medquad/ and scifact/ in the BEIR layout")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    parser.add_argument("--keep", type=Path, help="work in this folder, and leave it")
    arguments = parser.parse_args()
    chosen = arguments.cases or list(CASES)
    found: dict[str, Any] = {"machine": f"{platform.machine()}, Python {platform.python_version()}", "cases": {}}
    if arguments.json and arguments.json.exists():
        found["cases"] = json.loads(arguments.json.read_text(encoding="utf-8"))["cases"]
    with tempfile.TemporaryDirectory(prefix="ragworks-finetune-") as temporary:
        for index in sorted({CASES[name].index for name in chosen}):
            for name, case in _run(arguments.keep or Path(temporary), arguments.data.resolve(), index, chosen):
                found["cases"][name] = case
                if arguments.json:
                    arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))
    return 0 if all(found["cases"][name]["promoted"] for name in chosen) else 1


def _run(folder: Path, data: Path, name: str, chosen: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The cases of an index, one after the other; each is taken back before the next one."""
    settings = settings_in(folder / name)
    index = INDEXES[name]
    corpus = cut(
        data, index.corpus, folder / name / "data", pairs=index.pairs, distractors=index.distractors, tokens=index.tokens
    )
    content = {
        "name": name,
        "chunking": {"max_tokens": index.tokens} if index.tokens else {},
        "source": {"type": "jsonl", "path": corpus.documents},
        "embedding": {"model": "champion"},
        "retrieval": RETRIEVAL,
    }
    (settings.collections_dir / f"{name}.yaml").write_text(yaml.safe_dump(content))
    print(f"{name}: {corpus.counts}", file=sys.stderr)
    with running(settings) as stack:
        indexed = stack.run_dag(f"index_{name}", {})
        golden = stack.command("golden", name, "--queries", corpus.queries, "--qrels", corpus.golden_qrels)
        common = {"corpus": corpus.counts, "indexed_seconds": indexed["seconds"], "golden": golden}
        for one in chosen:
            if CASES[one].index == name:
                yield one, common | _train(stack, CASES[one], corpus)


def _train(stack: Stack, case: Case, corpus: Corpus) -> dict[str, Any]:
    conf = {
        "collection": case.index, "data_queries": corpus.queries, "data_qrels": corpus.train_qrels,
        **case.arguments,
    }  # fmt: skip
    run = stack.run_dag(f"train_{case.family}", conf)
    row = stack.command("models", case.family, "--run", f"train_{case.family}/{run['run_id']}")
    result = {
        "run": run, "model": figures(row),
        "promoted": run["tasks"].get("verify", {}).get("state") == "success", "within_limit": run["seconds"] <= LIMIT_SECONDS,
    }  # fmt: skip
    if result["promoted"]:
        result["serving"] = _served_and_back(stack, case)
    return result


def _served_and_back(stack: Stack, case: Case) -> dict[str, Any]:
    """Which model the HTTP API answers with, before and after a rollback, without a restart."""
    with stack.serving() as client:

        def passport() -> Any:
            reply = client.post("/v1/search", json={"collection": case.index, "query": QUESTION})
            return reply.raise_for_status().json()["passport"][case.family]

        before = passport()
        began = time.monotonic()
        back = stack.command("rollback-model", case.family)
        seconds = time.monotonic() - began
        time.sleep(5)  # a server looks for another champion every 2 s
        return {"answers_with": before, "rollback": back, "rollback_process_seconds": round(seconds, 2), "then": passport()}


if __name__ == "__main__":
    sys.exit(main())
