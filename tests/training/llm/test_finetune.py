"""An adapter is trained: what it learns, what is saved, which limits end it, and what is refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from include.errors import BadConfiguration, BadData, Terminal
from include.progress import Silent
from include.registry.artifacts import local_model
from include.registry.stores import MANIFEST
from include.store.pool import open_pool
from include.training.arguments import LlmArguments, checked
from include.training.checkpoints import Checkpoints
from include.training.llm.adapters import read_adapter
from include.training.llm.bases import find_base, load_tokenizer
from include.training.llm.budget import spent
from include.training.llm.examples import IGNORED, Example, example_of, read_examples
from include.training.llm.heldout import answer_losses
from include.training.train import train
from tests.training.llm.tiny import make_base
from tests.training.llm.trainings import plan, row, rows, run, tiny_base

if TYPE_CHECKING:
    from include.config import Settings
    from include.store.model_runs import ModelRun


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.getbasetemp() / "llm-base")


def with_adapter(base: Path, settings: Settings, done: ModelRun) -> Any:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    folder = local_model(done.artifact or "", settings)
    return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder).eval()


def sequences(base: Path, split: str) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    tokenizer = load_tokenizer(find_base(str(base)))
    found = read_examples(
        tokenizer, [one for one in rows() if one.split == split], method="sft", max_length=64, too_long="leave_out"
    )
    return [(one.prompt, one.answer) for one in found.kept]


def mean(losses: list[tuple[float, int]]) -> float:
    return sum(loss for loss, _ in losses) / sum(count for _, count in losses)


def test_an_adapter_learns_and_is_saved_once(settings: Settings, base: Path) -> None:
    done = run(settings, plan(settings, "first", base))
    told = done.training
    assert done.state == "trained"
    assert told["best"]["loss"] < 0.8 * told["baseline"]["loss"]
    assert told["loss"][-1]["loss"] < told["loss"][0]["loss"]
    assert (told["conversations"], told["rows"], told["dev_conversations"]) == (20, 20, 6)
    # What was saved is the adapter that scored best, by another way of loading it.
    model = with_adapter(base, settings, done)
    assert mean(answer_losses(model, sequences(base, "dev"))) == pytest.approx(told["best"]["loss"], abs=1e-4)
    # One manifest for the registry and for whoever reads the adapter.
    folder = Path(local_model(done.artifact or "", settings))
    adapter = read_adapter(folder, fingerprint=done.fingerprint)
    manifest = json.loads((folder / MANIFEST).read_text())
    assert adapter.base == done.base_fingerprint == manifest["base_fingerprint"] == find_base(str(base)).fingerprint
    assert (manifest["kind"], manifest["run_key"], manifest["method"]) == ("lora", "first", "sft")
    assert sorted(manifest["files"]) == ["adapter_config.json", "adapter_model.safetensors"]
    # The key again does nothing; another key with the same work gives the same bytes.
    assert run(settings, "first").attempts == 1
    assert run(settings, plan(settings, "second", base)).artifact == done.artifact


def test_the_best_is_kept_apart_from_the_latest(settings: Settings, base: Path) -> None:
    """Of development conversations that have nothing to do with the training ones, the loss soon rises."""
    strange = {"role": "assistant", "content": "quin tol nek sro bla"}
    other = [replace(one, messages=(one.messages[0], strange)) if one.split == "dev" else one for one in rows()]
    asked = plan(settings, "rises", base, data=other, max_steps=24, evaluate_steps=4, learning_rate=3e-2)
    done = run(settings, asked)
    curve = {one["step"]: one["loss"] for one in done.training["dev_curve"]}
    assert done.step == 24
    assert done.training["best"]["step"] < 24
    assert done.training["best"]["loss"] == min(curve.values()) < curve[24]


def test_preferences_are_learned_against_what_training_began_with(settings: Settings, base: Path) -> None:
    done = run(settings, plan(settings, "dpo", base, method="dpo", max_steps=16, learning_rate=2e-2))
    assert done.training["baseline"]["loss"] == pytest.approx(math.log(2))
    assert done.training["best"]["loss"] < 0.6
    assert done.training["best"]["preferred"] >= 0.8
    # And by an adapter that goes on, which is then the reference.
    more = run(
        settings, plan(settings, "more", base, method="dpo", start_adapter=done.artifact, learning_rate=1e-3, max_steps=4)
    )
    assert more.training["baseline"]["loss"] == pytest.approx(math.log(2))
    folder = Path(local_model(more.artifact or "", settings))
    assert sorted(path.name for path in folder.iterdir()) == ["adapter_config.json", "adapter_model.safetensors", MANIFEST]
    assert json.loads((folder / MANIFEST).read_text())["start_adapter"] == done.fingerprint


def test_an_adapter_goes_on(settings: Settings, base: Path, tmp_path: Path) -> None:
    first = run(settings, plan(settings, "start", base))
    done = run(settings, plan(settings, "on", base, start_adapter=first.artifact))
    assert done.training["baseline"]["loss"] == pytest.approx(first.training["best"]["loss"], abs=1e-4)
    assert done.training["best"]["loss"] < first.training["best"]["loss"]
    plan(settings, "elsewhere", make_base(tmp_path / "other", seed=5), start_adapter=first.artifact)
    with pytest.raises(BadData, match="trained on another base"):
        run(settings, "elsewhere")
    assert row(settings, "elsewhere").state == "failed"


def test_packing_and_accumulation(settings: Settings, base: Path) -> None:
    done = run(settings, plan(settings, "packed", base, packing=True, gradient_accumulation=2, gradient_checkpointing=True))
    told = done.training
    assert told["rows"] < told["conversations"]
    assert 0.5 < told["packed"] <= 1
    assert told["best"]["loss"] < told["baseline"]["loss"]


def test_a_budget_ends_it_in_order(settings: Settings, base: Path) -> None:
    done = run(settings, plan(settings, "budget", base, max_tokens=150, max_steps=50))
    assert done.state == "trained"
    assert 0 < done.step < 50
    assert done.training["finished"] == f"after {done.training['tokens']} of at most 150 tokens"
    assert done.training["best"]["step"] == done.step
    assert Checkpoints(settings, "budget").steps() == [done.step]


@pytest.mark.parametrize(
    ("arguments", "tokens", "hours", "said"),
    [
        ({}, 10**9, 1e6, ""),
        ({"max_tokens": 100}, 99, 0.0, ""),
        ({"max_tokens": 100}, 100, 0.0, "after 100 of at most 100 tokens"),
        ({"max_gpu_hours": 0.5}, 0, 0.49, ""),
        ({"max_gpu_hours": 0.5}, 0, 0.5, "after 0.50 of at most 0.5 GPU-hours"),
    ],
)
def test_what_is_spent(arguments: dict[str, Any], tokens: int, hours: float, said: str) -> None:
    assert spent(checked(LlmArguments, arguments), tokens=tokens, hours=hours, unit="GPU-hours") == said


def test_the_answer_alone_counts(base: Path) -> None:
    """The loss is the model's own over labels of the answer; batches of unequal lengths change nothing."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base).train()
    few = [*sequences(base, "dev")[:3], ((5,), (6, 7, 8)), ((), (9, 10, 11))]
    found = answer_losses(model, few)
    assert model.training
    for (prompt, answer), (loss, count) in zip(few, found, strict=True):
        ids = torch.tensor([[*prompt, *answer]])
        labels = torch.tensor([[IGNORED] * len(prompt) + list(answer)])
        whole = model.eval()(input_ids=ids, labels=labels).loss.item()
        assert loss / count == pytest.approx(whole, abs=1e-5)
        assert count == len(answer) - (not prompt)  # nothing says a first token without anything before it


def test_the_answer_ends_its_turn(base: Path) -> None:
    tokenizer = load_tokenizer(find_base(str(base)))
    one = example_of(tokenizer, rows()[0], "one")
    assert tokenizer.decode(one.prompt) == "<|user|>Where is the zorbla kept, please?<|end|><|assistant|>"
    assert tokenizer.decode(one.answer) == "In hall north.<|end|>"
    assert one.labels == [IGNORED] * len(one.prompt) + list(one.answer)


def test_serving_must_begin_where_was_learned(base: Path) -> None:
    """A template that opens a turn otherwise than it writes one: the model would be asked where it never answered."""
    tokenizer = load_tokenizer(find_base(str(base)))
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "{% if add_generation_prompt %}<|assistant|>", "{% if add_generation_prompt %}<|assistant|>Let me think: "
    )
    with pytest.raises(BadData, match=r"chat template has \d+ tokens which it leaves out"):
        example_of(tokenizer, rows()[0], "one")


def test_a_template_that_writes_the_date_writes_the_same_tomorrow(base: Path) -> None:
    tokenizer = load_tokenizer(find_base(str(base)))
    tokenizer.chat_template = "{{ strftime_now('%d %b %Y') }}" + tokenizer.chat_template
    options: dict[str, Any] = {"method": "sft", "max_length": 64, "too_long": "leave_out"}
    began = datetime(2024, 2, 29, 23, 59, tzinfo=UTC)
    found = read_examples(tokenizer, rows()[:1], **options, day=began)
    assert tokenizer.decode(found.kept[0].prompt).startswith("29 Feb 2024<|user|>")
    assert read_examples(tokenizer, rows()[:1], **options) != found


@pytest.mark.parametrize(
    ("limit", "too_long", "kept", "left_out", "truncated"),
    [(64, "leave_out", 3, 0, 0), (20, "leave_out", 2, 1, 0), (20, "truncate", 3, 0, 1)],
)
def test_conversations_over_the_limit(base: Path, limit: int, too_long: str, kept: int, left_out: int, truncated: int) -> None:
    long = replace(rows()[0], messages=(rows()[0].messages[0], {"role": "assistant", "content": "In hall north. " * 5}))
    tokenizer = load_tokenizer(find_base(str(base)))
    found = read_examples(tokenizer, [*rows()[1:3], long], method="sft", max_length=limit, too_long=too_long)
    assert (len(found.kept), found.left_out, found.truncated) == (kept, left_out, truncated)
    assert found.longest <= limit


def test_what_cannot_be_learned_from(base: Path) -> None:
    tokenizer = load_tokenizer(find_base(str(base)))
    options = {"max_length": 10, "too_long": "leave_out"}
    with pytest.raises(BadData, match=r"all 20 conversations are over max_length 10: the shortest has \d+ tokens"):
        read_examples(tokenizer, rows()[:20], method="sft", **options)
    with pytest.raises(BadData, match=r"all 20 .* over max_length 10"):  # the question alone fills it
        read_examples(tokenizer, rows()[:20], method="sft", max_length=10, too_long="truncate")
    with pytest.raises(BadData, match="no conversation has a rejected answer"):
        read_examples(tokenizer, rows(), method="dpo", **options)
    with pytest.raises(BadData, match="conversation 1 of split train: its last message is not the assistant's"):
        read_examples(tokenizer, [replace(rows()[0], messages=rows()[0].messages[:1])], method="sft", **options)
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(BadData, match=r"conversation 1 of split train: .*template refuses it: roles must alternate"):
        read_examples(tokenizer, rows(), method="sft", **options)


@pytest.mark.parametrize(
    ("change", "arguments", "said"),
    [
        ("chat_template.jinja", {}, "its tokenizer has no chat template"),
        ("", {"target_modules": ["c_attn"]}, "the base has no module c_attn"),
        ("", {"target_modules": ["lm_head"]}, "lm_head is not adapted here"),
        ("", {"quantisation": "nf4"}, "bitsandbytes needs a GPU with CUDA"),
    ],
)
def test_a_base_that_will_not_do(settings: Settings, tmp_path: Path, change: str, arguments: dict[str, Any], said: str) -> None:
    folder = make_base(tmp_path / "base")
    if change:
        (folder / change).unlink()
    plan(settings, "refused", folder, **arguments)
    with pytest.raises(BadConfiguration, match=said):
        run(settings, "refused")
    failed = row(settings, "refused")
    assert failed.state == "failed"
    assert said in (failed.error or "")


def test_a_base_that_is_gone_or_another(settings: Settings, tmp_path: Path) -> None:
    folder = make_base(tmp_path / "base")
    plan(settings, "gone", folder)
    plan(settings, "other", folder)
    (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    from include.embedding.models import fingerprint

    fingerprint.cache_clear()
    with pytest.raises(BadData, match="not those that the training was planned with"):
        run(settings, "other")
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(BadConfiguration, match="base model"):
        run(settings, "gone")


class Poison(Silent):
    """Puts a number that is none into an adapter after a step: what an overflow on a GPU leaves."""

    def __init__(self, step: int) -> None:
        self._left = step
        self._now = ""

    def step(self, name: str, total: int | None) -> None:
        self._now = name

    def advance(self, count: int) -> None:
        self._left -= count if self._now == "train" else 0
        if self._left == 0 and self._now == "train":
            import gc

            from peft import PeftModel

            for model in [one for one in gc.get_objects() if isinstance(one, PeftModel)]:
                next(weight for weight in model.parameters() if weight.requires_grad).data.fill_(float("nan"))


def test_a_loss_that_is_no_number_keeps_the_checkpoint_before(settings: Settings, base: Path) -> None:
    plan(settings, "nan", base, max_steps=8, checkpoint_steps=2, evaluate_steps=100)
    with open_pool(settings) as pool, pytest.raises(Terminal, match=r"the loss is nan at step 4.*step 2 is kept"):
        train(settings, pool, "nan", progress=Poison(3))
    failed = row(settings, "nan")
    assert (failed.state, failed.artifact) == ("failed", None)
    assert "Lower learning_rate" in (failed.error or "")
    assert Checkpoints(settings, "nan").steps() == [2]


def test_tokens_of_an_example() -> None:
    assert Example((1, 2), (3,)).tokens == 3
    assert Example((1, 2), (3,), (4, 5)).tokens == 7
    assert Example((1, 2), (3,), (4, 5)).length == 4
