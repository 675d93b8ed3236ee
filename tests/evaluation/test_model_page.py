"""The page of a trained model, of runs in every state; tests/evaluation/test_challenge.py renders those of real comparisons."""

from __future__ import annotations

import random
import warnings
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest

from include.errors import BadConfiguration
from include.evaluation.comparison import verdict
from include.evaluation.model_page import model_page_path, render_model, write_model_page
from include.registry.decision import GateRule
from include.registry.gate import decide
from include.store.model_runs import ModelRun
from tests.registry.test_gate import CASES, OLD

if TYPE_CHECKING:
    from pathlib import Path

    from include.config import Settings

VOID = {"meta", "br", "img", "link", "hr", "input", "path", "use", "rect", "line", "circle"}


class _Nesting(HTMLParser):
    """Every element is closed by its own end."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.drawings: list[int] = []

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        if tag == "svg":
            self.drawings.append(0)
        if tag in VOID:
            return
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: Any) -> None:
        self._drawn(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def _drawn(self, tag: str) -> None:
        if tag == "path" and self.drawings:
            self.drawings[-1] += 1


def checked(page: str) -> _Nesting:
    """The page, read: nested as it should be, with drawings that hold something."""
    reader = _Nesting()
    reader.feed(page)
    assert reader.open == []
    assert all(count > 3 for count in reader.drawings)
    assert "http" not in page.replace("http://www.w3.org/", "")  # it needs no network
    return reader


def _run(**columns: Any) -> ModelRun:
    now = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
    values: dict[str, Any] = dict.fromkeys(ModelRun.__dataclass_fields__) | {
        "id": 7, "run_key": "train_embedder/manual__1", "family": "embedder", "collection_id": 1, "arguments": {"epochs": 3},
        "state": "trained", "base": "all-MiniLM-L6-v2", "base_fingerprint": "f", "code_version": "c", "attempts": 2, "step": 90,
        "training": {}, "hardware": {"cpus": 2}, "gpu_seconds": 0.0, "created_at": now,
    }  # fmt: skip
    return ModelRun(**(values | columns))


def _evaluation(case: str, **changed: Any) -> dict[str, Any]:
    """A case of the gate, with what the page draws beside the scores."""
    evaluation = CASES[case][0]
    old, new = (evaluation["scores"]["sides"][side]["ndcg@10"] for side in ("champion", "challenger"))
    one = verdict([b - a for a, b in zip(old, new, strict=True)]).as_dict()
    whole = {"champion": sum(old) / len(old), "challenger": sum(new) / len(new), **one}
    interval = {"value": 0.6, "low": 0.55, "high": 0.65}
    slices = evaluation["slices"]
    return evaluation | {
        "top_k": 10,
        "questions": {"queries": len(old), "left_out": 2},
        "champion": {**evaluation["champion"], "label": "old <b>", "measures": {"ndcg@10": interval}},
        "challenger": {**evaluation["challenger"], "label": "new", "measures": {"ndcg@10": interval}},
        "comparison": {
            "measures": {"ndcg@10": whole},
            "slices": {key: {value: {**one, "queries": 30} for value in values} for key, values in slices.items()},
            "histogram": {"edges": [-1, -0.3, 0.3, 1], "counts": [1, 5, 3], "better": 3, "worse": 1, "same": 5},
        },
        "a_a": {"passed": True, "verdict": "no difference"},
        "latency": {"clients": 4, "budget_ms": 500, "sides": {
            side: {"warm": {"p50_ms": 20.0, "p95_ms": 80.0, "p99_ms": 90.0}, "searches": 100, "cold_ms": 900.0}
            for side in ("champion", "challenger")
        }},
        "told": {"lost": [{"query": "Where do otters sleep?", "champion": 1.0, "challenger": 0.0, "documents": ["otters.md"]}],
                 "won": []},
        **changed,
    }  # fmt: skip


TRAINING = {
    "loss": [{"step": s, "loss": 2 / s, "learning_rate": 1e-5} for s in range(10, 100, 10)],
    "dev": [{"step": s, "epoch": 1.0, "ndcg@10": 0.6 + s / 1000} for s in (30, 60, 90)],
    "baseline": {"ndcg@10": 0.6},
    "best": {"step": 60, "ndcg@10": 0.66},
    "seconds": 120.5,
    "pairs": 917,
}


@pytest.mark.parametrize("case", ["surely better", "better overall, worse on a slice"])
def test_a_judged_run(case: str) -> None:
    evaluation = _evaluation(case)
    decision = decide(evaluation, GateRule())
    page = render_model(_run(evaluation=evaluation, gate=decision.as_dict(), training=TRAINING, cost=1.5), "handbook")
    reader = checked(page)
    assert len(reader.drawings) == 5 + bool(evaluation["slices"])
    assert ("It may take the champion's place" in page) == decision.accepted
    for refusal in decision.refused_because:
        assert page.count(refusal.why) == 1
        assert refusal.change in page
    assert "old &lt;b&gt;" in page
    assert "Where do otters sleep?" not in page
    assert "otters.md" in render_model(_run(evaluation=evaluation, gate=decision.as_dict()), "handbook", quotes=True)


def test_a_matrix_and_alternatives() -> None:
    same = verdict([0.0] * 60).as_dict()
    row = {"label": "text-embedding-3-large", "dimension": 3072, "against_champion": same, "one_client": {"p95_ms": 300.0},
           "measures": {"ndcg@10": {"value": 0.7}, "recall@10": {"value": 0.8}}, "tokens": 51_000}  # fmt: skip
    evaluation = _evaluation(
        "surely better",
        matrix={"reranker": "reranker 3", "queries": 60, "old": {"without": 0.6, "with": 0.7},
                "new": {"without": 0.7, "with": 0.65}, "embedder": same, "pair": same, "interaction": same},
        alternatives=[
            {**row, "side": "alternative_1", "price_per_million_tokens": 0.13, "cost": 0.0066, "seconds": None},
            {**row, "side": "base", "price_per_million_tokens": None, "cost": None, "seconds": 70.0},
            {"side": "alternative_2", "label": "gone", "problem": "gone: this folder does not exist"},
        ],
    )  # fmt: skip
    page = render_model(_run(evaluation=evaluation), "handbook")
    checked(page)
    for said in (
        "0.6500",
        "3072",
        "0.0066",
        "70 s here",
        "this folder does not exist",
        "51,000 tokens",
        "It is not judged yet",
    ):
        assert said in page


def test_runs_without_a_comparison() -> None:
    checked(render_model(_run(), "handbook"))
    failed = render_model(_run(state="failed", error="the loss is no number", training=TRAINING), "handbook")
    assert len(checked(failed).drawings) == 2
    assert "the loss is no number" in failed
    same = _run(evaluation=CASES["equal to the champion, by fingerprint"][0] | {"comparison": None}, gate=None)
    assert same.evaluation is not None
    del same.evaluation["comparison"]
    gate = decide(same.evaluation, GateRule()).as_dict()
    page = render_model(_run(evaluation=same.evaluation, gate=gate, state="refused"), "handbook")
    checked(page)
    assert "The challenger is the champion" in page
    reranker = {"dev": {"curve": [{"rerank_weight": w / 10, "ndcg@10": random.Random(w).random()} for w in range(11)],
                        "rerank_weight": 0.4}}  # fmt: skip
    page = render_model(_run(family="reranker", training=reranker), "handbook")
    assert len(checked(page).drawings) == 1
    assert OLD


@pytest.mark.parametrize("budget", [50, 300, 60_000])
def test_a_budget_near_and_far(budget: int) -> None:
    """A line far outside of the bars would leave no room for them."""
    latency = _evaluation("surely better")["latency"] | {"budget_ms": budget}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        page = render_model(_run(evaluation=_evaluation("surely better", latency=latency)), "handbook")
    checked(page)


def test_where_it_is_written(settings: Settings, tmp_path: Path) -> None:
    path = model_page_path(settings.model_copy(update={"artifacts": tmp_path.as_uri()}), _run(), "handbook")
    assert write_model_page(path, _run(), "handbook") == path == f"{tmp_path.as_uri()}/reports/embedder/handbook/7.html"
    assert "Embedder of handbook" in (tmp_path / "reports/embedder/handbook/7.html").read_text()
    told = model_page_path(settings.model_copy(update={"artifacts": "sftp://me:secret@host/models"}), _run(), "handbook")
    assert told == "sftp://host/models/reports/embedder/handbook/7.html"
    with pytest.raises(BadConfiguration) as error:
        write_model_page("nosuch://me:secret@host/page.html", _run(), "handbook")
    assert "secret" not in str(error.value)
    with pytest.raises(BadConfiguration):
        write_model_page("nosuch://somewhere/page.html", _run(), "handbook")  # a store that fsspec does not know
