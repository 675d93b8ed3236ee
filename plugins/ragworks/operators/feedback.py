"""Lets a person review feedback in Airflow: a form with a line for each judgement, whose answers are written down."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Param
from airflow.sdk.definitions.param import ParamsDict
from airflow.sdk.exceptions import AirflowSkipException

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

    from include.feedback.review import Verdict
    from include.store.review_queue import Item

SAVE, LEAVE = "Save", "Leave all open"
VERDICTS = ("leave open", "accept", "reject")
SNIPPET = 300  # characters of a text in the form
ANSWER_TIME = timedelta(days=7)


class ReviewFeedbackOperator(HITLOperator):
    """Ask a person about the oldest open feedback of a collection; while it waits it holds no worker.

    The form has a field for each judgement: accept, reject, or leave it open, which is what happens to all of them when
    nobody answers in time. It is skipped when nothing is open. A retry, or a second run beside it, changes nothing that was
    decided meanwhile to the same. Corrections are made with ``ragworks feedback NAME --export`` and ``--import``.

    The form's texts stay in Airflow's metadata database until ``airflow db clean``: `forget` does not reach them. With
    ``texts`` false it shows ids and documents alone.

    :param collection: name of the collection (templated).
    :param batch: most judgements in a form (templated).
    :param texts: show what was asked, said and written (templated).
    """

    template_fields: Sequence[str] = (*HITLOperator.template_fields, "collection", "batch", "texts")
    ui_color = "#fce8e6"

    def __init__(self, *, collection: str, batch: int | str = 20, texts: bool | str = True, **kwargs: Any) -> None:
        super().__init__(
            subject="Review feedback", options=[SAVE, LEAVE], defaults=LEAVE, response_timeout=ANSWER_TIME, **kwargs
        )
        self.collection = collection
        self.batch = batch
        self.texts = texts

    def execute(self, context: Context) -> Any:
        """Ask.

        :raises AirflowSkipException: nothing is open.
        """
        from include.store import collections, review_queue
        from include.store.pool import open_pool
        from ragworks.hooks.ragworks import settings_from_airflow

        with open_pool(settings_from_airflow()) as pool, pool.connection() as connection:
            key = collections.collection_id(connection, self.collection)
            waiting = review_queue.items(connection, key, states=("open",), limit=int(self.batch))
            left = review_queue.counts(connection, key)["open"] - len(waiting)
        if not waiting:
            raise AirflowSkipException(f"{self.collection} has no open feedback")
        texts = str(self.texts).lower() == "true"
        self.subject = f"Review {len(waiting)} judgements of {self.collection}"
        self.body = _body(waiting, left, texts=texts)
        self.params = ParamsDict(_fields(waiting, texts=texts))
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, int]:
        """Write the answers down. Returns what changed."""
        from include.feedback.review import review
        from include.store import collections
        from include.store.pool import open_pool
        from ragworks.hooks.ragworks import settings_from_airflow

        if "error" in event:
            self.process_trigger_event_error(event)
        chosen, answers = event.get("chosen_options") or (), event.get("params_input") or {}
        self.validate_chosen_options(list(chosen))
        verdicts = verdicts_of(answers) if SAVE in chosen else []
        by = str((event.get("responded_by_user") or {}).get("name") or "airflow")
        with open_pool(settings_from_airflow()) as pool, pool.connection() as connection:
            key = collections.collection_id(connection, self.collection)
            done = review(connection, key, verdicts, by=by, pass_over_gone=True)  # the form may be a week old
        self.log.info("Reviewed by %s: %s", by, done)
        return done.as_dict()


def verdicts_of(answers: Mapping[str, Any]) -> list[Verdict]:
    """What a filled-in form says; what is left open is not in it."""
    from include.feedback.review import Verdict

    given = {name: getattr(value, "value", value) for name, value in answers.items()}
    return [Verdict(UUID(name), said == "accept") for name, said in given.items() if said in VERDICTS[1:]]


def _fields(waiting: Sequence[Item], *, texts: bool) -> dict[str, Param]:
    return {
        str(item.id): Param(
            VERDICTS[0],
            type="string",
            enum=list(VERDICTS),
            title=f"{number}. {_plain(item.question) if texts else item.id}",
            description=_said(item) or None,
        )
        for number, item in enumerate(waiting, 1)
    }


def _body(waiting: Sequence[Item], left: int, *, texts: bool) -> str:
    """Markdown: what each judgement says."""
    parts = [f"{left} more are open." if left else "These are all that are open."]
    for number, item in enumerate(waiting, 1):
        lines = [f"**{number}. {_short(item.question) if texts else item.id}** ({_said(item)})"]
        if texts:
            told = (("said", item.said), ("would be right", item.answer), ("comment", item.comment))
            lines += [f"- {label}: {_short(text)}" for label, text in told if text]
        if item.document:
            where = f", characters {item.start} to {item.end}" if item.start is not None else ""
            lines.append(f"- stands in `{item.document}`{where}")
        if shown := [f"{one.number}. `{one.document}`" for one in item.shown[:5]]:
            lines.append(f"- shown: {', '.join(shown)}")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _said(item: Item) -> str:
    return {1: "thumb up", -1: "thumb down", None: "no thumb"}[item.thumb]


def _short(text: str | None) -> str:
    """One line of Markdown that shows a text as it stands."""
    return "".join(f"\\{one}" if one in "\\`*_[]<>#|!" else one for one in _plain(text))


def _plain(text: str | None) -> str:
    plain = " ".join((text or "(expired)").split())
    return plain if len(plain) <= SNIPPET else plain[: SNIPPET - 1] + "…"
