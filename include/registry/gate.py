"""The gate: decides whether a challenger may take the champion's place, and says why to a person.

:func:`decide` is pure: an evaluation and a rule give a decision, and the same decision again from the same row. A model goes
live because it was surely better on questions that nobody trained on, fast enough and no kind of question's loss; a tie, a
doubt or a number that is missing keeps the champion.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from include.errors import BadData
from include.registry import gate_checks, gate_llm
from include.registry.decision import Decision, Finding, GateRule, Refusal
from include.registry.gate_scores import Unusable, read_scores

if TYPE_CHECKING:
    from collections.abc import Mapping

    from include.config import Settings
    from include.store.model_runs import ModelRun
    from include.store.pool import Pool

logger = logging.getLogger(__name__)

# In the order in which a person wants to read of them.
CHECKS = (
    gate_checks.quality, gate_checks.latency, gate_checks.slices, gate_checks.pair, gate_checks.without, gate_checks.sample,
    gate_checks.control, gate_llm.guarded, gate_llm.judge, gate_llm.held_out,
    gate_llm.compared, gate_llm.precision,
)  # fmt: skip


def decide(evaluation: Mapping[str, Any], rule: GateRule) -> Decision:
    """Judge.

    :param evaluation: of :func:`include.evaluation.challenge.evaluate_challenger`; the scores of each query in it are judged,
        not what it says of them.
    """
    if refusal := identical(evaluation):
        return Decision(False, (str(refusal),), (refusal,), rule=rule)
    try:
        scores = read_scores(evaluation)
    except Unusable as error:
        refusal = Refusal("scores", f"The scores cannot be compared: {error}", "Evaluate again; a model that gives no numbers "
                          "was trained at too high a rate, or its data is broken")  # fmt: skip
        return Decision(False, (str(refusal),), (refusal,), rule=rule)
    findings = [finding for check in CHECKS for finding in check(evaluation, scores, rule)]
    refusals = tuple(finding.refusal for finding in findings if finding.refusal)
    return Decision(
        not refusals,
        _sentences(findings, refusals),
        refusals,
        {finding.rule: dict(finding.verdict) for finding in findings if finding.verdict is not None},
        rule,
    )


def identical(evaluation: Mapping[str, Any]) -> Refusal | None:
    """Whether the challenger is the champion, by fingerprint and fitted weight: then there is nothing to ask."""
    old, new = (evaluation.get(side) or {} for side in ("champion", "challenger"))
    if not new.get("fingerprint") or (old.get("fingerprint"), old.get("weight")) != (new["fingerprint"], new.get("weight")):
        return None
    return Refusal(
        "identical",
        "The challenger is the champion: both have the same fingerprint",
        "Train on other data or with other arguments",
    )


def _sentences(findings: list[Finding], refusals: tuple[Refusal, ...]) -> tuple[str, ...]:
    """What speaks against it first, and the measured gain before it when there is one."""
    said = [finding.reason for finding in findings if finding.reason]
    return (*map(str, refusals), *said)


def judge(settings: Settings, pool: Pool, run_key: str) -> Decision:
    """Decide on a training by what its evaluation found and its collection's rule, and write that down; twice is fine.

    A refused one loses the index that its embedder was tried on.

    :raises BadData: it was not evaluated, or something else serves by now.
    """
    from include.answering.llm import open_llm
    from include.collection_file import load_collection
    from include.evaluation.contenders import serving_now
    from include.indexing.candidate import drop_candidates
    from include.store import collections, model_runs

    with pool.connection() as connection:
        run = model_runs.by_key(connection, run_key)
        name = collections.collection_name(connection, run.collection_id)
    if run.state in model_runs.ENDED and run.gate is not None:
        decision = Decision.from_dict(run.gate)
    else:
        if run.state != "evaluated" or run.evaluation is None:
            raise BadData(f"training {run_key} cannot be judged", f"it is {run.state}", "Evaluate it first")
        if run.family == gate_llm.LLM:
            _of_this_model(run)
            gate_llm.require_judge(run.evaluation, open_llm(settings), run_key)
        if serving_now(settings, pool, name, run.family) != run.evaluation["serving"]:
            raise BadData(
                f"training {run_key} cannot be judged", "what serves is not what it was compared with: another was promoted "
                "or rolled back meanwhile", "Evaluate it again",
            )  # fmt: skip
        decision = decide(run.evaluation, GateRule.of(load_collection(settings, name), run.family))
        with pool.connection() as connection:
            state = "accepted" if decision.accepted else "refused"
            model_runs.change(connection, run.id, gate=decision.as_dict(), state=state)
        logger.info("training %s of %s: %s; %s", run_key, name, state, decision.summary)
    if not decision.accepted:
        drop_candidates(pool, run.collection_id, run_key=run_key)
    return decision


def _of_this_model(run: ModelRun) -> None:
    """:raises BadData: another model was evaluated than the training has now."""
    judged = ((run.evaluation or {}).get("challenger") or {}).get("fingerprint")
    if judged != run.fingerprint:
        raise BadData(
            f"training {run.run_key} cannot be judged", f"{judged} was evaluated, and its model is {run.fingerprint}",
            "Evaluate it again",
        )  # fmt: skip
