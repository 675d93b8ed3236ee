"""Merges a trained adapter with others in the ways that were asked for, and keeps what answers development questions best.

Each merge is proved before it is scored. The new adapter alone is among the candidates, and wins a tie: it is simpler.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any, cast

from include.errors import BadConfiguration, BadData, RagworksError
from include.registry.llm_lineage import ALONE
from include.registry.stores import open_store
from include.store import collections, deployments, model_runs, model_versions
from include.training.arguments import LlmArguments, arguments_of
from include.training.checkpoints import safe_name
from include.training.llm.merge_rules import PRUNING, MergePlan, refusals

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from include.config import Settings
    from include.evaluation.llm.questions import Question
    from include.progress import Progress
    from include.registry.llm_models import TrainedLlm
    from include.store.model_runs import ModelRun
    from include.store.pool import Connection, Pool
    from include.training.llm.adapters import Adapter

logger = logging.getLogger(__name__)

MAX_QUESTIONS = 100  # of the development split, always the same: each candidate answers all of them


@dataclass(frozen=True, slots=True)
class Scored:
    """A candidate that answered the development questions.

    :param plan: None: the new adapter alone.
    :param loss: nats a token of the right answers; None: none fits the window.
    """

    name: str
    adapter: Adapter
    plan: MergePlan | None
    score: float
    loss: float | None
    proof: dict[str, Any] | None = None


def merge_candidates(settings: Settings, pool: Pool, run_key: str, *, progress: Progress) -> dict[str, Any]:
    """Try what the arguments ask for; the winner becomes the training's model. What was decided before stays.

    :return: ``kept``, ``candidates`` (name, score, loss, proof, or why it was refused), ``questions``; kept in the row too.
    :raises BadData: the training left no model, a version has none, or there is no development question to choose by.
    :raises BadConfiguration: there is no such version, or no champion.
    """
    with pool.connection() as connection:
        run = model_runs.by_key(connection, run_key)
        collection = collections.collection_name(connection, run.collection_id)
    known = run.training.get("merge")
    if known is not None:
        return dict(known)
    if run.state != "trained" or run.artifact is None:  # of an evaluated one the scores would be of another model
        why = f"it is {run.state}" + ("" if run.artifact else ", without a model")
        raise BadData(f"training {run_key} has nothing to merge", why, "Train it first; what is evaluated stays as it is")
    arguments = cast("LlmArguments", arguments_of(run.family, run.arguments))
    if not arguments.merge_with:
        found: dict[str, Any] = {"kept": ALONE, "candidates": [], "why": "no merging was asked for"}
        artifact, fingerprint = run.artifact, run.fingerprint
    else:
        found, artifact, fingerprint = _best(settings, pool, run, arguments, collection, progress)
    with pool.connection() as connection:
        training = model_runs.by_key(connection, run_key).training | {"merge": found}
        model_runs.change(connection, run.id, training=training, artifact=artifact, fingerprint=fingerprint)
    logger.info("training %s: kept is %s of %d candidates", run_key, found["kept"], len(found["candidates"]))
    return found


def plans(arguments: LlmArguments, others: int) -> Iterator[tuple[str, MergePlan]]:
    """Every way that is asked for, by name: the new adapter has the weight that is named, the others share the rest."""
    for method, weight in product(arguments.merge_methods, arguments.merge_weights):
        density = arguments.merge_density if method in PRUNING else None
        weights = (weight, *((1 - weight) / others for _ in range(others)))
        yield f"{method} {weight:g}", MergePlan(method, weights, density, seed=arguments.seed % 2**31)


def choose(scored: Sequence[Scored]) -> Scored:
    """The highest score; of equal ones the lowest loss; of equal ones the first, which is the new adapter alone. Pure."""
    return min(scored, key=lambda one: (-round(one.score, 4), round(one.loss, 4) if one.loss is not None else float("inf")))


def _best(
    settings: Settings, pool: Pool, run: ModelRun, arguments: LlmArguments, collection: str, progress: Progress
) -> tuple[dict[str, Any], str, str]:
    from include.registry.artifacts import model_path, save_folder
    from include.registry.llm_models import open_trained

    new = open_trained(settings, run.artifact, run.base, fingerprint=run.fingerprint)
    questions = _questions(settings, pool, run, collection)
    others = [_other(settings, pool, run, name) for name in arguments.merge_with]
    place = open_store(settings).staging(f"{safe_name(run.run_key)}-merge")
    try:
        made, told = _made(new, others, arguments, place, progress)
        scored = _scored(new, made, questions, progress)
        best = choose(scored)
        told = [*({**_row(one), "proof": one.proof} for one in scored), *told]
        found = {"kept": best.name, "candidates": told, "questions": len(questions),
                 "merged_with": [one.adapter.fingerprint for one in others]}  # fmt: skip
        if best.plan is None:
            return found, run.artifact or "", new.adapter.fingerprint
        fingerprint = best.adapter.fingerprint
        artifact = save_folder(settings, best.adapter.folder, model_path("llm", collection, fingerprint))
        return found | {"trained": {"artifact": run.artifact, "fingerprint": run.fingerprint}}, artifact, fingerprint
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _questions(settings: Settings, pool: Pool, run: ModelRun, collection: str) -> list[Question]:
    from include.collection_file import load_collection
    from include.evaluation.llm.questions import questions_of
    from include.store.conversations import conversations

    with pool.connection() as connection:
        rows = list(conversations(connection, run.dataset_id or 0, "dev"))[:MAX_QUESTIONS]
    if not rows:
        raise BadData(
            f"merges of training {run.run_key} cannot be chosen from", "its dataset has no development conversations",
            "Build the dataset with a dev_share",
        )  # fmt: skip
    return questions_of(rows, load_collection(settings, collection))


def _other(settings: Settings, pool: Pool, run: ModelRun, name: str) -> TrainedLlm:
    """The model of a version, or the champion."""
    from include.registry.llm_models import open_trained

    with pool.connection() as connection:
        if name == "champion":
            live = deployments.deployed(connection, settings.environment, "llm", run.collection_id)
            other = model_runs.by_id(connection, live.model_run_id) if live and live.model_run_id else None
        else:
            other = _of_version(connection, settings, run.collection_id, name)
    if other is None:
        why = "no llm of this collection was promoted" if name == "champion" else "no llm of this collection has this version"
        raise BadConfiguration(f"merge_with {name!r}", why, "See: ragworks models")
    return open_trained(settings, other.artifact, other.base, fingerprint=other.fingerprint)


def _of_version(connection: Connection, settings: Settings, collection: int, name: str) -> ModelRun | None:
    """By its number in this environment: each environment counts its own."""
    try:
        return model_versions.run_of(connection, settings.environment, "llm", collection, int(name))
    except (BadData, ValueError):
        return None


def _made(
    new: TrainedLlm, others: Sequence[TrainedLlm], arguments: LlmArguments, place: Path, progress: Progress
) -> tuple[list[Scored], list[dict[str, Any]]]:
    """Merges that were proved, not scored yet; and those that were refused, with the reason.

    :raises BadConfiguration: every one was refused: what was asked for cannot be had.
    """
    from include.training.llm.merging import merge_adapters
    from include.training.llm.proofs import prove_adapter

    parts = [new.adapter, *(one.adapter for one in others)]
    base = replace(new.base, quantisation=new.adapter.quantisation)
    asked = list(plans(arguments, len(others)))
    progress.step("merge", len(asked))
    made: list[Scored] = []
    refused: list[dict[str, Any]] = []
    for number, (name, plan) in enumerate(asked):
        if reasons := refusals(parts, plan):
            refused.append({"name": name, "refused": "; ".join(dict.fromkeys(one.why for one in reasons)),
                            "fix": ". ".join(dict.fromkeys(one.fix for one in reasons))})  # fmt: skip
        else:
            try:
                adapter = merge_adapters(base, parts, plan, place / f"candidate-{number}")
                proof = prove_adapter(base, parts, plan, adapter.folder)
            except RagworksError as error:
                refused.append({"name": name, "refused": str(error), "fix": ""})
            else:
                if proof["passed"]:
                    made.append(Scored(name, adapter, plan, 0.0, None, proof))
                else:
                    refused.append({"name": name, "refused": f"it is not what it says: {proof['reason']}", "proof": proof})
        progress.advance(1)
    if not made:
        raise BadConfiguration(
            "none of the merges can be made", refused[0]["refused"], refused[0].get("fix") or "Train without merge_with"
        )
    return made, refused


def _scored(new: TrainedLlm, made: Sequence[Scored], questions: Sequence[Question], progress: Progress) -> list[Scored]:
    """The new adapter alone, then the merges: each answers the same questions, on one base in memory."""
    from include.evaluation.llm.writer import LocalLLM, Writer

    candidates = [Scored(ALONE, new.adapter, None, 0.0, None), *made]
    writer = Writer(new.base, {one.name: one.adapter for one in candidates})
    rows = [question.row for question in questions if question.row is not None]
    progress.step("score merges", len(candidates))
    found = []
    for one in candidates:
        llm = LocalLLM(writer, one.name)
        scores = [question.ask(llm).score for question in questions]
        losses = [loss for loss in writer.losses(one.name, rows) if loss is not None]
        mean = sum(losses) / len(losses) if losses else None
        found.append(replace(one, score=sum(scores) / len(scores), loss=mean))
        progress.advance(1)
    return found


def _row(one: Scored) -> dict[str, Any]:
    loss = round(one.loss, 4) if one.loss is not None else None
    return {"name": one.name, "score": round(one.score, 4), "loss": loss, "fingerprint": one.adapter.fingerprint}
