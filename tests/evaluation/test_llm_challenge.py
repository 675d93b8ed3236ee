"""Language models from end to end: asked on a real index with real weights, judged, merged, promoted and verified."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from include.errors import BadConfiguration, BadData
from include.evaluation.challenge import baseline, evaluate_challenger
from include.evaluation.golden import read_golden
from include.evaluation.llm import challenge
from include.evaluation.model_page import render_model
from include.progress import Silent
from include.registry.gate import judge
from include.registry.llm_models import open_trained
from include.registry.promotion import promote
from include.registry.verification import verify
from include.registry.versions import register
from include.store import collections, golden, model_runs
from include.store.conversations import Conversation, save_conversations
from include.store.pool import open_pool
from include.training.llm.adapters import read_adapter, write_manifest
from include.training.llm.bases import find_base
from include.training.llm.candidates import merge_candidates
from tests import llm_task
from tests.evaluation.test_model_page import checked
from tests.support import HashEmbedder, index
from tests.training.llm.tiny import make_adapter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from include.config import Settings
    from include.store.pool import Pool

RETRIEVAL = {"mode": "lexical", "reranker": None}
GOLDEN, HELD_OUT = 16, 44
MODULES = ["q_proj", "v_proj", "down_proj"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A base, an adapter that learned the bare questions, one of noise, and one of another rank."""
    root = tmp_path_factory.mktemp("llms")
    base = llm_task.make_task_base(root / "base")
    return {
        "base": base,
        "learned": _learned(base, root / "learned"),
        "noise": make_adapter(base, root / "noise", rank=16, scale=0.3),
        "other_rank": make_adapter(base, root / "other_rank", rank=4, scale=0.3),
    }


def _learned(base: Path, folder: Path, steps: int = 90, batch: int = 16) -> Path:
    """Trained in seconds on bare questions with their exact answers."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    rows = [line["messages"] for line in llm_task.conversations(900) if len(line["messages"]) == 2]
    texts = [tokenizer.apply_chat_template(messages, tokenize=False) for messages in rows]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = LoraConfig(r=16, lora_alpha=32, target_modules=MODULES, task_type="CAUSAL_LM")
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=1e-2, weight_decay=0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, steps)
    assistant = tokenizer.convert_tokens_to_ids("<|assistant|>")
    for step in range(steps):
        part = [texts[(step * batch + n) % len(texts)] for n in range(batch)]
        given = tokenizer(part, return_tensors="pt", padding=True, add_special_tokens=False, padding_side="right")
        answered = (given["input_ids"] == assistant).cumsum(1) - (given["input_ids"] == assistant).long()
        labels = given["input_ids"].masked_fill((answered == 0) | (given["attention_mask"] == 0), -100)
        model(input_ids=given["input_ids"], attention_mask=given["attention_mask"], labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    model.save_pretrained(str(folder))
    write_manifest(folder, find_base(str(base)))
    return folder


@pytest.fixture(autouse=True)
def short_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that knows nothing writes until it is stopped."""
    monkeypatch.setattr(challenge, "MAX_TOKENS", 8)
    monkeypatch.setattr(challenge, "CONTROL", 20)


@pytest.fixture
def pool(settings: Settings, documents: Path, collection: Callable[..., str], tmp_path: Path) -> Iterator[Pool]:
    """The indexed documents of the task, with golden queries."""
    collection(retrieval=RETRIEVAL, answers=llm_task.ANSWERS)
    for name, text in llm_task.documents().items():
        (documents / name).write_text(text, encoding="utf-8")
    index(settings, "handbook", embedder=HashEmbedder())
    lines = tmp_path / "golden.jsonl"
    lines.write_text("".join(json.dumps(line) + "\n" for line in llm_task.golden(GOLDEN)), encoding="utf-8")
    with open_pool(settings) as pool:
        with pool.connection() as connection:
            golden.save(connection, collections.collection_id(connection, "handbook"), read_golden(str(lines)))
        yield pool


def _planned(pool: Pool, run_key: str, base: Path, adapter: Path | None, held_out: int = HELD_OUT, **arguments: Any) -> None:
    """The row of a training over a dataset of conversations; with an adapter it is over."""
    lines = [line for line in llm_task.conversations(400, seed=3) if len(line["messages"]) == 2]
    splits = ["test"] * held_out + ["dev"] * 12 + ["train"] * 10
    rows = [
        Conversation(tuple(line["messages"]), None, split, line["task"], line.get("expected"))  # type: ignore[arg-type]
        for split, line in zip(splits, lines, strict=False)
    ]
    with pool.connection() as connection:
        of = collections.collection_id(connection, "handbook")
        dataset = save_conversations(connection, of, "desks", rows, kind="conversations", arguments={}, statistics={})
        run = model_runs.plan(
            connection, run_key, family="llm", collection=of, dataset=dataset.id, arguments=arguments, work_hash=run_key,
            base=str(base), base_fingerprint=find_base(str(base)).fingerprint, code_version="",
        )  # fmt: skip
        if adapter is not None:
            known = read_adapter(adapter).fingerprint
            model_runs.change(connection, run.id, state="trained", artifact=str(adapter), fingerprint=known)


def _row(pool: Pool, run_key: str) -> model_runs.ModelRun:
    with pool.connection() as connection:
        return model_runs.by_key(connection, run_key)


def test_what_was_learned_wins_serves_and_is_not_lost_again(settings: Settings, pool: Pool, models: dict[str, Path]) -> None:
    """Against the bare base; promoted and verified; then noise against it."""
    _planned(pool, "first", models["base"], None)
    before = baseline(settings, pool, "first", progress=Silent())
    assert before["questions"]["queries"] == GOLDEN + HELD_OUT
    assert before["slices"]["task"]["exact"]["value"] < 0.1
    _planned(pool, "first", models["base"], None)
    with pool.connection() as connection:
        known = read_adapter(models["learned"]).fingerprint
        run = model_runs.by_key(connection, "first")
        model_runs.change(connection, run.id, state="trained", artifact=str(models["learned"]), fingerprint=known)
    found = evaluate_challenger(settings, pool, "first", progress=Silent())
    positions = found["slices"]["task"]["exact"]
    new = found["scores"]["sides"]["challenger"]["score"]
    assert sum(new[p] for p in positions) / len(positions) > 0.7
    assert found["champion"]["adapter"] is None
    assert found["champion"]["base_fingerprint"] == found["challenger"]["base_fingerprint"]
    assert found["champion"]["measures"]["score"]["value"] == before["measures"]["score"]["value"]  # greedy: the same words
    assert found["a_a"]["differing"] == 0
    assert found["held_out"]["challenger"] < found["held_out"]["champion"] / 2
    assert set(found["guarded"]) == {"general", "safety"}
    assert found["judge"] is None
    assert found["latency"]["sides"]["challenger"]["searches"] >= 40

    decision = judge(settings, pool, "first")
    assert decision.accepted, decision.reasons
    assert "The challenger answers better: score" in decision.summary
    page = render_model(_row(pool, "first"), "handbook", quotes=True)
    assert "LLM of handbook" in page
    assert "What must not get worse" in page
    checked(page)

    version = register(settings, pool, "first")
    promote(settings, pool, "llm", version, collection="handbook", actor="test", reason="won", progress=Silent())
    verified = verify(settings, pool, "llm", "handbook")
    assert (verified["ok"], verified["asked"]) == (True, "here")
    assert verified["questions"] >= 10

    _planned(pool, "second", models["base"], models["noise"])
    found = evaluate_challenger(settings, pool, "second", progress=Silent())
    assert found["champion"]["fingerprint"] == known
    assert found["champion"]["version"] == version
    decision = judge(settings, pool, "second")
    assert {refusal.rule for refusal in decision.refused_because} >= {"quality", "slice"}
    assert found["told"]["lost"]

    _planned(pool, "third", models["base"], models["learned"])
    assert evaluate_challenger(settings, pool, "third", progress=Silent())["summary"] == "the challenger is the champion"
    assert [refusal.rule for refusal in judge(settings, pool, "third").refused_because] == ["identical"]


def test_merges_are_proved_scored_and_the_best_is_kept(settings: Settings, pool: Pool, models: dict[str, Path]) -> None:
    """Noise merged with what was learned: the merge that keeps most of it wins, and becomes the model."""
    _planned(pool, "noise", models["base"], models["noise"], merge_with=["1"], merge_methods=["svd"])
    with pytest.raises(BadConfiguration, match="no llm of this collection has this version"):
        merge_candidates(settings, pool, "noise", progress=Silent())
    _planned(pool, "learned", models["base"], models["learned"])
    assert merge_candidates(settings, pool, "learned", progress=Silent())["kept"] == "alone"
    version = register(settings, pool, "learned")
    _planned(
        pool, "mixed", models["base"], models["noise"], merge_with=[str(version)], merge_methods=["cat", "linear"],
        merge_weights=[0.05],
    )  # fmt: skip
    found = merge_candidates(settings, pool, "mixed", progress=Silent())
    assert found["kept"] == "cat 0.05", found
    rows = {one["name"]: one for one in found["candidates"]}
    assert rows["cat 0.05"]["proof"]["passed"]
    assert rows["cat 0.05"]["score"] > rows["alone"]["score"]
    run = _row(pool, "mixed")
    assert run.artifact is not None
    assert run.artifact.startswith("artifacts:models/llm/handbook/")
    assert run.fingerprint == rows["cat 0.05"]["fingerprint"]
    assert open_trained(settings, run.artifact, str(models["base"]), fingerprint=run.fingerprint).adapter.rank == 32
    assert merge_candidates(settings, pool, "mixed", progress=Silent()) == found  # decided: it stays
    assert render_model(run, "handbook").count("cat 0.05") >= 2

    _planned(
        pool, "ranks", models["base"], models["other_rank"], merge_with=[str(version)], merge_methods=["linear"],
    )  # fmt: skip
    with pytest.raises(BadConfiguration, match="all ranks must be equal"):
        merge_candidates(settings, pool, "ranks", progress=Silent())


def test_too_few_questions_are_told_before_anything_is_trained(settings: Settings, pool: Pool, models: dict[str, Path]) -> None:
    _planned(pool, "few", models["base"], None, held_out=20)
    with pytest.raises(BadData, match=r"36 questions for a language model.*at least 50"):
        baseline(settings, pool, "few", progress=Silent())
