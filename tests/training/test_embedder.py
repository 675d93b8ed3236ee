"""Training an embedder, with the real small model on made-up words."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch  # noqa: TID253 - it is what is tested
from sentence_transformers import SentenceTransformer  # noqa: TID253

from include.collection_file import Embedding
from include.embedding import models
from include.embedding.local import LocalEmbedder
from include.errors import BadConfiguration, BadData, Terminal, Transient
from include.registry.artifacts import read_manifest
from include.store import model_runs, training_locks
from include.store.pool import open_pool
from include.training.arguments import EmbedderArguments
from include.training.checkpoints import Checkpoints
from include.training.embedder import load_base, make_loss, prompts, training_columns
from include.training.lora import add_lora, merge_lora
from tests.training.tiny import BASE, folder_of, pairs, plan, row, run

if TYPE_CHECKING:
    from pathlib import Path

    from include.config import Settings

TEXTS = ["where do I find the zorblaquin0?", "Article 3: a ladder of size 39, kept on shelf 15 of hall 3."]


def test_a_training_from_its_row_to_a_model_that_serves(settings: Settings) -> None:
    priced = settings.model_copy(update={"gpu_price_per_hour": 3.6})
    done = run(priced, plan(settings, "one", base=BASE, max_steps=0, epochs=3))
    assert (done.state, done.step, done.attempts) == ("trained", 9, 1)
    said = done.training
    losses = [point["loss"] for point in said["loss"]]
    assert losses[-1] < losses[0] / 2
    assert [point["step"] for point in said["dev_curve"]] == [3, 6, 9]  # after each epoch
    assert said["baseline"].keys() == {"ndcg@10", "mrr@10"}
    assert said["best"] in said["dev_curve"]
    assert said["best"]["ndcg@10"] == max(point["ndcg@10"] for point in said["dev_curve"])
    assert said["planned_steps"] == 9
    assert said["finished"] == "all steps"
    # The manifest carries data, code, arguments, machine and cost.
    assert done.hardware["threads"] >= 1
    assert (done.gpu_seconds > 0) == torch.cuda.is_available()
    assert done.cost == pytest.approx(said["machine_seconds"] / 1000, rel=0.2) or torch.cuda.is_available()
    assert done.code_version != "test"
    assert done.started_at is not None
    assert done.finished_at is not None
    manifest = read_manifest(done.artifact or "", settings)
    assert manifest["family"] == manifest["kind"] == "embedder"
    assert manifest["run_key"] == "one"
    assert manifest["base"] == BASE
    assert manifest["dataset"]["content_hash"] == said["dataset_hash"]
    # It is a folder that serving loads, with the window of the base and the fingerprint of the row.
    served = LocalEmbedder(str(folder_of(settings, done)))
    assert served.fingerprint == done.fingerprint
    assert served.max_tokens == LocalEmbedder(BASE).max_tokens
    before, after = (_distance(embedder) for embedder in (LocalEmbedder(BASE), served))
    assert after < before
    # And asking again changes nothing; after a later step failed it is trained still, not again.
    assert run(settings, "one") == done
    with open_pool(settings) as pool, pool.connection() as connection:
        model_runs.change(connection, done.id, state="failed", error="its run failed in evaluate")
    assert run(settings, "one") == done


def _distance(embedder: LocalEmbedder) -> float:
    one = pairs()[0]
    return float(1 - embedder.embed_query(one.query) @ embedder.embed_documents([one.positive])[0])


def test_the_step_that_scored_best_is_kept(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from include.training import embedder

    marked = iter([0.1, 0.5, 0.9, 0.3, 0.2])  # before training, then of steps 2, 4, 6, 8
    weights: list[Any] = []

    class Marked(embedder.DevScores):
        def __call__(self) -> dict[str, float]:
            weights.append(self._model.state_dict()["0.model.embeddings.LayerNorm.weight"].clone())
            return {"ndcg@10": next(marked), "mrr@10": 0.0}

    monkeypatch.setattr(embedder, "DevScores", Marked)
    done = run(settings, plan(settings, "best", evaluate_steps=2))
    assert done.training["best"]["step"] == 4
    kept = SentenceTransformer(str(folder_of(settings, done))).state_dict()["0.model.embeddings.LayerNorm.weight"]
    assert torch.equal(kept, weights[2])
    assert not torch.equal(kept, weights[4])


def test_without_development_questions_the_last_step_counts(settings: Settings) -> None:
    done = run(settings, plan(settings, "nodev", rows=pairs(dev=0), max_steps=2))
    assert done.state == "trained"
    assert (done.training["baseline"], done.training["best"]) == (None, None)


def test_a_limit_of_seconds_ends_in_order(settings: Settings) -> None:
    done = run(settings, plan(settings, "limit", max_steps=500, max_seconds=1))
    assert done.state == "trained"
    assert 0 < done.step < 500
    assert "of at most 1 s" in done.training["finished"]
    assert done.training["dev_curve"][-1]["step"] == done.step


def test_a_dataset_that_is_too_small(settings: Settings) -> None:
    with pytest.raises(BadData, match="has 1 training pairs"):
        run(settings, plan(settings, "small", rows=pairs(train=1)))
    failed = row(settings, "small")
    assert failed.state == "failed"
    assert "has 1 training pairs" in (failed.error or "")


def test_a_base_that_does_not_exist(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    plan(settings, "nobase")
    with open_pool(settings) as pool, pool.connection() as connection:
        connection.execute("update ragworks.model_run set base = '/nowhere/model'")
    monkeypatch.setattr("include.training.train.this_machine", lambda: pytest.fail("nothing heavy may be loaded"))
    with pytest.raises(BadConfiguration, match=r"base '/nowhere/model' of the embedder: this folder does not exist"):
        run(settings, "nobase")
    assert row(settings, "nobase").state == "failed"


def test_a_base_that_changed_since_it_was_planned(settings: Settings) -> None:
    plan(settings, "changed")
    with open_pool(settings) as pool, pool.connection() as connection:
        connection.execute("update ragworks.model_run set base_fingerprint = 'another'")
    with pytest.raises(BadData, match="not those that the training was planned with"):
        run(settings, "changed")


def test_a_base_that_does_not_load(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BadConfiguration, match="does not load"):
        load_base(tmp_path)


def test_a_dimension_that_the_model_does_not_have(settings: Settings) -> None:
    with pytest.raises(BadConfiguration, match="the model has 384 dimensions"):
        run(settings, plan(settings, "wide", matryoshka=[1000]))


def test_kinds_of_models_that_are_not_trained(settings: Settings, tmp_path: Path) -> None:
    from sentence_transformers.sentence_transformer.modules import Router, StaticEmbedding

    tokenizer = LocalEmbedder(BASE).tokenizer
    static = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=32)])
    static.save_pretrained(str(tmp_path / "static"), create_model_card=False)
    with pytest.raises(BadConfiguration, match="the base is no transformer"):
        run(settings, plan(settings, "static", base=str(tmp_path / "static")))
    layers = [StaticEmbedding(tokenizer, embedding_dim=32) for _ in range(2)]
    router = SentenceTransformer(modules=[Router.for_query_document([layers[0]], [layers[1]])])
    router.save_pretrained(str(tmp_path / "router"), create_model_card=False)
    with pytest.raises(BadConfiguration, match="with different layers"):
        run(settings, plan(settings, "router", base=str(tmp_path / "router")))


def test_a_loss_that_comes_apart(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from include.training import embedder

    class Breaking(torch.nn.Module):
        def __init__(self, loss: torch.nn.Module) -> None:
            super().__init__()
            self.loss, self.calls = loss, 0

        def forward(self, features: Any, labels: Any) -> torch.Tensor:
            self.calls += 1
            return self.loss(features, labels) * (float("nan") if self.calls == 4 else 1.0)

    whole = embedder.make_loss
    monkeypatch.setattr(embedder, "make_loss", lambda model, arguments: Breaking(whole(model, arguments)))
    with pytest.raises(Terminal, match=r"the loss is nan at step 4: .*checkpoint of step 3 is kept\. Lower learning_rate"):
        run(settings, plan(settings, "nan", checkpoint_steps=2))
    failed = row(settings, "nan")
    assert (failed.state, failed.artifact, failed.step) == ("failed", None, 3)
    assert Checkpoints(settings, "nan").steps() == [2, 3]


def test_two_at_once(settings: Settings) -> None:
    plan(settings, "twice")
    run_id = row(settings, "twice").id
    with open_pool(settings) as pool, training_locks.training(pool, run_id) as held:
        assert held is not None
        with pytest.raises(Transient, match="going on in another process"):
            run(settings, "twice")
    assert row(settings, "twice").state == "planned"
    with open_pool(settings) as pool, training_locks.training(pool, run_id) as held:
        assert held is not None  # it was let go


@pytest.mark.parametrize("batch", [8, 16])
def test_cached_gradients_are_those_of_the_whole_batch(batch: int) -> None:
    """In-batch negatives are all others of the batch, whatever fits into memory at once."""
    rows = pairs(train=batch, dev=0)
    gradients = []
    for mini in (batch, 4):
        model = load_base(models.find_model(BASE)).eval()  # no dropout, so that both see the same
        loss = make_loss(model, EmbedderArguments(batch_size=batch, mini_batch_size=mini))
        features = [model.preprocess([r.query for r in rows]), model.preprocess([r.positive for r in rows])]
        value = loss([{k: v for k, v in f.items()} for f in features], None)
        value.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-3, atol=1e-6)


def test_matryoshka(settings: Settings) -> None:
    done = run(settings, plan(settings, "matryoshka", matryoshka=[32, 128], mini_batch_size=4, max_steps=4))
    assert done.training["matryoshka"].keys() == {"128", "32"}
    assert all(scores.keys() == {"ndcg@10", "mrr@10"} for scores in done.training["matryoshka"].values())
    assert LocalEmbedder(str(folder_of(settings, done))).dimension == 384  # the full vector is what it gives


def test_matryoshka_dimensions_are_all_trained() -> None:
    """The loss is the sum over the dimensions: a smaller one has a part in it."""
    rows, values = pairs(train=8, dev=0), []
    for sizes in ((), (32,)):
        model = load_base(models.find_model(BASE)).eval()
        loss = make_loss(model, EmbedderArguments(batch_size=8, matryoshka=sizes))
        features = [model.preprocess([r.query for r in rows]), model.preprocess([r.positive for r in rows])]
        values.append(float(loss(features, None).detach()))
    assert values[1] > values[0]


def test_lora_trains_the_adapter_alone_and_is_merged(settings: Settings) -> None:
    done = run(settings, plan(settings, "lora", lora_rank=4, lora_alpha=16, learning_rate=5e-3, checkpoint_steps=4))
    losses = [point["loss"] for point in done.training["loss"]]
    assert losses[-1] < losses[0]
    folder = folder_of(settings, done)
    assert not list(folder.rglob("adapter*"))
    served = SentenceTransformer(str(folder), local_files_only=True)
    assert not any("lora" in name for name, _ in served.named_parameters())
    saved = Checkpoints(settings, "lora").store.place(f"{Checkpoints(settings, 'lora').where}/step-8/weights.safetensors")
    assert saved is not None
    assert saved.stat().st_size < 5_000_000  # the adapter alone


def test_a_merged_adapter_gives_what_the_adapter_gave() -> None:
    model = load_base(models.find_model(BASE))
    before = model.encode(TEXTS)
    adapter = add_lora(model, 4, 16, seed=0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.02)
    with_adapter = model.eval().encode(TEXTS)
    merge_lora(model, adapter)
    merged = model.encode(TEXTS)
    assert np.abs(with_adapter - merged).max() < 1e-5
    assert np.abs(with_adapter - before).max() > 1e-3


def test_prompts_of_the_base_are_used_and_kept(settings: Settings, tmp_path: Path) -> None:
    model = load_base(models.find_model(BASE))
    model.prompts = {"query": "query: ", "passage": "passage: "}
    model.save_pretrained(str(tmp_path / "base"), create_model_card=False)
    assert prompts(model, ["anchor", "positive", "negative_1"]) == {
        "anchor": "query: ", "positive": "passage: ", "negative_1": "passage: ",
    }  # fmt: skip
    done = run(settings, plan(settings, "prompts", base=str(tmp_path / "base"), max_steps=2))
    served = SentenceTransformer(str(folder_of(settings, done)), local_files_only=True)
    assert served.prompts["query"] == "query: "
    assert served.prompts["passage"] == "passage: "


def test_a_model_without_prompts_trains_without() -> None:
    assert prompts(load_base(models.find_model(BASE)), ["anchor", "positive"]) == {}


def test_columns_have_as_many_negatives_in_each_row() -> None:
    rows = pairs(negatives=1)
    columns, filled = training_columns(rows, 2, seed=0)
    assert list(columns) == ["anchor", "positive", "negative_1", "negative_2"]
    assert {len(column) for column in columns.values()} == {len(rows)}
    assert filled == len(rows)
    assert all(
        a != p and b != p for a, b, p in zip(columns["negative_1"], columns["negative_2"], columns["positive"], strict=True)
    )
    assert training_columns(rows, 2, seed=0) == (columns, filled)
    assert training_columns(rows, 0, seed=0)[0].keys() == {"anchor", "positive"}


def test_a_question_for_which_every_passage_is_right() -> None:
    """It has no wrong one: neither its own passages are taken, nor is one looked for without end."""
    rows = pairs(train=3, dev=0, negatives=0)
    one = [replace(row, query="what is kept here?") for row in rows]
    for asked in (one, [*one, rows[0]]):  # the only question, and one of two
        with pytest.raises(BadData, match="all labels are alike"):
            training_columns(asked, 1, seed=0)
        assert training_columns(asked, 0, seed=0)[1] == 0
    columns, filled = training_columns([*one[:2], rows[2]], 1, seed=0)
    assert (columns["negative_1"][:2], filled) == ([rows[2].positive] * 2, 3)


def test_a_trained_model_may_be_the_base_of_another(settings: Settings) -> None:
    first = run(settings, plan(settings, "first", max_steps=2))
    plan(settings, "second", max_steps=2, seed=1)
    folder = folder_of(settings, first)
    with open_pool(settings) as pool, pool.connection() as connection:
        connection.execute(
            "update ragworks.model_run set base = %s, base_fingerprint = %s where run_key = 'second'",
            (first.artifact, models.fingerprint(folder)),
        )
    second = run(settings, "second")
    assert read_manifest(second.artifact or "", settings)["base"] == first.artifact
    assert second.fingerprint != first.fingerprint
    assert Embedding(model=second.artifact or "").model == second.artifact
