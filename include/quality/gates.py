"""The gates before publish: pure functions of counts and the collection's limits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from include.errors import BadData

if TYPE_CHECKING:
    from include.collection_file import Validation
    from include.evaluation.gate_report import GateReport


SMALLEST_BATCH = 40  # of a collection that holds so many: fewer new documents are judged as if they were so many


def allowed_rejections(batch: int, max_rejected: float) -> int:
    """How many rows of a batch may be rejected.

    One document alone never fails a run (a share of a tiny batch is no evidence of a bad delivery),
    unless the limit is 0, which tolerates none.
    """
    return max(1, int(max_rejected * batch)) if max_rejected > 0 else 0


def check_rejections(rejected: int, accepted: int, validation: Validation, *, name: str, held: int = 0) -> None:
    """Stop a batch with too many rejected rows.

    :param name: of the collection.
    :param rejected: open quarantine rows that no publication has gone by.
    :param accepted: documents waiting to be published.
    :param held: live documents: in a large collection a few bad ones shall not keep the good ones out.
    :raises BadData: more than ``validation.max_rejected`` of the batch.
    """
    batch = rejected + accepted
    allowed = allowed_rejections(max(batch, min(held, SMALLEST_BATCH)), validation.max_rejected)
    if rejected > allowed:
        raise BadData(
            f"{rejected} of {batch} new or changed documents were rejected ({rejected / batch:.1%})",
            f"validation.max_rejected is {validation.max_rejected:.1%}, which allows {allowed}; nothing was published, the live"
            " index is as it was",
            f"See `ragworks quarantine {name}`; repair the source and run again, or go on without them:"
            f" `ragworks quarantine {name} --acknowledge` (in Airflow: acknowledge), or raise the limit",
        )


def check_deletions(vanished: int, held: int, wanted: int, validation: Validation, *, allow: bool, examples: list[str]) -> None:
    """Stop a run that would remove too much.

    :param vanished: live documents that the source no longer has.
    :param held: live documents.
    :param wanted: documents that the source has now.
    :param allow: a person said so, for this run.
    :raises BadData: the listing is empty, or more than ``validation.max_deleted`` of the live documents would go.
    """
    if allow or not vanished:
        return
    share = vanished / held
    if wanted and share <= validation.max_deleted:
        return
    why = f"validation.max_deleted is {validation.max_deleted:.1%}" if wanted else "the source lists nothing at all"
    raise BadData(
        f"this run would delete {vanished} of {held} documents ({share:.1%}): {_listed(examples)}",
        f"{why}; nothing was removed",
        "If the source is right, run once with --allow-deletes (in Airflow: allow_deletes); if not, repair the source",
    )


def check_losses(generation: int, lost: list[str], held: int, validation: Validation, *, name: str, allow: bool) -> None:
    """Keep a built generation from going live when it lacks too much of what the live one shows and the source still has.

    :param generation: the built one.
    :param name: of the collection.
    :param lost: uris of these documents: it refused them, and every earlier version.
    :param held: live documents.
    :param allow: a person said so, for this run.
    :raises BadData: they are more than ``validation.max_deleted`` of the live documents.
    """
    if allow or not lost or len(lost) / held <= validation.max_deleted:
        return
    raise BadData(
        f"generation {generation} would lose {len(lost)} of {held} documents ({len(lost) / held:.1%}) that are live and still"
        f" in the source: {_listed(lost)}",
        f"it refused them, and validation.max_deleted is {validation.max_deleted:.1%}; the live index is as it was",
        f"See `ragworks quarantine {name}`; repair what refuses them or change the settings back; if they may go, run once with"
        " --allow-deletes (in Airflow: allow_deletes)",
    )


def check_quality(report: GateReport, limit: float, *, name: str) -> None:
    """Keep a built generation from going live when it is surely worse, on golden queries or on headings.

    :param limit: ``generations.max_quality_loss``, in nDCG@10.
    :param name: of the collection.
    :raises BadData: the mean loss exceeds the limit and its 95 % interval lies wholly below zero.
    """
    for asked in (report, report.sanity):
        if asked is not None and _surely_worse(asked, limit):
            _refuse(asked, limit, name)


def _surely_worse(report: GateReport, limit: float) -> bool:
    if not report.compared or report.difference is None or report.high is None:
        return False
    return -report.difference > limit and report.high < 0


def _refuse(report: GateReport, limit: float, name: str) -> NoReturn:
    # Queries stay out of the message, which outlives what `forget` erases: the report has them.
    worst = ", ".join(f"{' and '.join(loss.documents)} {loss.live:.2f} → {loss.built:.2f}" for loss in report.worst)
    raise BadData(
        f"generation {report.built_generation} is worse than the live one: {replace(report, sanity=None).summary()}",
        f"generations.max_quality_loss is {limit:g} and the loss is sure; generation {report.live_generation} stays live;"
        f" documents found worst: {worst}",
        f"Change the settings back, or take it all the same: ragworks activate {name} {report.built_generation}",
    )


def _listed(uris: list[str]) -> str:
    return ", ".join(uris[:10]) + (f" and {len(uris) - 10} more" if len(uris) > 10 else "")
