"""What rows of trainings say of each other: whose adapter is in whose, which model was judged, and under which number."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from include.answering.llm import LLM
from include.datasets.conversations.options import LlmDataOptions
from include.errors import BadData
from include.evaluation.llm.guarded import GENERAL, guarded
from include.evaluation.llm.learned import met
from include.progress import Silent
from include.registry.gate import judge
from include.registry.gate_llm import require_judge
from include.registry.llm_lineage import learned_datasets
from include.store import model_runs, model_versions
from include.store.conversations import Conversation
from include.store.pool import open_pool
from include.training.arguments import LlmArguments
from include.training.llm.adapters import WEIGHTS, read_adapter, write_manifest
from include.training.llm.bases import find_base
from include.training.llm.candidates import merge_candidates
from include.training.llm.planning import resolved
from include.training.pipeline import Request
from tests.training.llm.tiny import make_adapter
from tests.training.llm.trainings import plan, rows, tiny_base

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from include.config import Settings


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.getbasetemp() / "llm-base")


def _planned(settings: Settings, key: str, base: Path, seed: int, changed: dict[str, Any], **arguments: Any) -> int:
    """A training over conversations of its own; the id of its dataset."""
    data = [replace(one, documents=(f"{key}.md",)) for one in rows()]
    plan(settings, key, base, data=data, **arguments)
    with open_pool(settings) as pool, pool.connection() as connection:
        run = model_runs.by_key(connection, key)
        model_runs.change(connection, run.id, **{"state": "planned", **changed})
        if "version" in changed:  # another environment has the same number for another training
            model_versions.save(connection, "staging" if seed else "production", run, changed["version"])
    return run.dataset_id or 0


def test_what_a_model_learned_is_what_its_adapters_learned_too(settings: Settings, base: Path) -> None:
    first = _planned(settings, "first", base, 0, {"artifact": "artifacts:a", "fingerprint": "a", "version": 7})
    second = _planned(settings, "second", base, 1, {"artifact": "artifacts:b", "fingerprint": "b"}, start_adapter="artifacts:a")
    merge = {"kept": "cat 0.5", "merged_with": ["b"], "trained": {"artifact": "artifacts:c", "fingerprint": "c"}}
    third = _planned(settings, "third", base, 0, {"artifact": "artifacts:d", "training": {"merge": merge}})
    fourth = _planned(settings, "fourth", base, 0, {}, start_adapter="artifacts:c")
    fifth = _planned(settings, "fifth", base, 0, {}, merge_with="7")
    kept = {"kept": "alone", "merged_with": ["b"]}
    alone = _planned(settings, "alone", base, 0, {"training": {"merge": kept}}, merge_with="7")
    with open_pool(settings) as pool, pool.connection() as connection:
        learned = {
            key: set(learned_datasets(connection, "production", model_runs.by_key(connection, key)))
            for key in ("first", "second", "third", "fourth", "fifth", "alone")
        }
        of_staging = learned_datasets(connection, "staging", model_runs.by_key(connection, "fifth"))
    assert learned == {
        "first": {first}, "second": {first, second}, "third": {first, second, third},
        "fourth": {first, second, third, fourth}, "fifth": {first, fifth}, "alone": {alone},
    }  # fmt: skip
    assert of_staging == [fifth]  # there the number 7 stands for nothing


def _said(question: str, answer: str, **more: Any) -> Conversation:
    return Conversation(({"role": "user", "content": question}, {"role": "assistant", "content": answer}), **more)


LONG = "Whoever finds a valve that is broken calls the desk Kestrel at once and waits there"


@pytest.mark.parametrize(
    ("learned", "places"),
    [
        ([_said("which DESK takes the broken valve of the archway?!", "Kestrel")], {0}),
        ([_said("Say: which desk takes the broken valve of the archway? Be brief.", "Kestrel")], {0}),
        ([_said("Who comes?", LONG)], {1}),
        ([_said("Who comes?", LONG, task="unanswerable"), _said("Where is the valve?", "There")], set()),
        ([_said(guarded(GENERAL)[0].prompt, "I forgot")], {2}),
    ],
)
def test_questions_that_were_learned_are_met(learned: Sequence[Conversation], places: set[int]) -> None:
    texts = [
        ("Which desk takes the broken valve of the archway?", "Kestrel"), ("Whom do I call?", f"{LONG}."),
        (guarded(GENERAL)[0].prompt, None),
    ]  # fmt: skip
    assert met(texts, learned) == places


def test_the_gate_judges_the_model_that_was_evaluated(settings: Settings, base: Path) -> None:
    _planned(settings, "judged", base, 0, {
        "state": "evaluated", "artifact": "artifacts:x", "fingerprint": "merged",
        "evaluation": {"challenger": {"fingerprint": "trained"}},
    })  # fmt: skip
    with open_pool(settings) as pool:
        with pytest.raises(BadData, match="trained was evaluated, and its model is merged"):
            judge(settings, pool, "judged")
        with pytest.raises(BadData, match="it is evaluated"):
            merge_candidates(settings, pool, "judged", progress=Silent())


def test_a_judge_that_is_set_was_asked() -> None:
    llm = LLM("http://judge/v1", "large")
    sides = {"champion": {"fingerprint": "a"}, "challenger": {"fingerprint": "b"}}
    with pytest.raises(BadData, match="judge large is set here, and was not where the models were compared"):
        require_judge({**sides, "judge": None}, llm, "key")
    require_judge({**sides, "judge": {"model": "large", "preferred": 0.5}}, llm, "key")
    require_judge({**sides, "judge": None}, None, "key")
    require_judge({"champion": {"fingerprint": "a"}, "challenger": {"fingerprint": "a"}}, llm, "key")


def test_an_adapter_to_go_on_from_is_the_one_that_the_registry_knows(settings: Settings, base: Path, tmp_path: Path) -> None:
    """Changed together with its manifest it is no less changed."""
    folder = make_adapter(base, tmp_path / "adapter", rank=2)
    known = read_adapter(folder)
    _planned(settings, "known", base, 0, {"artifact": str(folder), "fingerprint": known.fingerprint})
    request = Request("llm", "handbook", LlmArguments(start_adapter=str(folder)), LlmDataOptions())
    with open_pool(settings) as pool:
        assert resolved(settings, pool, replace(request, arguments=LlmArguments(base=str(base), start_adapter=str(folder))))
        other = make_adapter(base, tmp_path / "other", rank=2, seed=5)
        shutil.copyfile(other / WEIGHTS, folder / WEIGHTS)
        write_manifest(folder, find_base(str(base)))
        assert read_adapter(folder).fingerprint != known.fingerprint
        assert json.loads((folder / "ragworks.json").read_text())["files"]
        with pytest.raises(BadData, match="the registry knows it as"):
            resolved(settings, pool, replace(request, arguments=LlmArguments(base=str(base), start_adapter=str(folder))))
