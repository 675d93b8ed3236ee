"""POST /v1/feedback: what somebody thought of a result; GET /v1/answers/{id}: an answer as it was given."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID  # noqa: TC003 - FastAPI reads it

from fastapi import APIRouter
from fastapi.encoders import jsonable_encoder
from fastapi.responses import JSONResponse

from include.serving.failures import Refusal, bad_request
from include.serving.replies import AnswerReply, FeedbackReply
from include.serving.requests import FeedbackRequest  # noqa: TC001 - FastAPI reads it
from include.serving.routes.shared import ASKING, CallerOf, ServiceOf, errors
from include.store import answers, query_log
from include.store.feedback import Feedback, save_feedback

if TYPE_CHECKING:
    from include.serving.access import Caller
    from include.serving.service import Service
    from include.store.query_log import Asked

router = APIRouter(tags=["answers"])

FLUSH_SECONDS = 3.0  # for a question of just now that is still on its way to the database


@router.post("/v1/feedback", response_model=FeedbackReply, status_code=201, responses=errors(*ASKING))
async def feedback(body: FeedbackRequest, service: ServiceOf, caller: CallerOf) -> JSONResponse:
    """Judge a search or an answer by the id in its passport, with the key that asked. Scope: feedback."""
    caller.require("feedback")
    made = await service.searches.run(partial(_save, service, caller, body), service.options.timeout)
    return JSONResponse({"id": str(made)}, 201)


@router.get("/v1/answers/{answer_id}", response_model=AnswerReply, responses=errors(*ASKING))
async def answer(answer_id: UUID, service: ServiceOf, caller: CallerOf) -> JSONResponse:
    """An answer with the exact passages it rests on, for the key that asked. Scope: chat."""
    caller.require("chat")
    return JSONResponse(await service.searches.run(partial(_load, service, caller, answer_id), service.options.timeout))


def _save(service: Service, caller: Caller, body: FeedbackRequest) -> UUID:
    asked = _asked(service, caller, body.query_id)
    keeps = service.served(asked.collection).settings.query_log.keep_texts_days > 0
    if not keeps and (body.answer or body.comment):
        raise bad_request(
            f"{asked.collection} keeps no texts (query_log.keep_texts_days is 0). Send a thumb or a document", "answer"
        )
    given = Feedback(**body.model_dump())
    with service.pool.connection() as connection:
        return save_feedback(connection, given, caller.key_id)


def _load(service: Service, caller: Caller, answer_id: UUID) -> dict[str, Any]:
    asked = _asked(service, caller, answer_id)
    with service.pool.connection() as connection:
        found = answers.load_answer(connection, asked.id) if asked.kind == "chat" else None
    if found is None:
        raise _not_found()
    shown: dict[str, Any] = jsonable_encoder(asdict(found))
    return {**shown, "id": str(asked.id)}


def _asked(service: Service, caller: Caller, query_id: UUID) -> Asked:
    """The question, if the caller may know of it.

    :raises Refusal: 404 there is none, or it is somebody else's: which of the two is not said.
    """
    found = _look(service, query_id)
    if found is None and service.logbook.flush(FLUSH_SECONDS):
        found = _look(service, query_id)
    if found is None or not caller.may_ask(found.collection) or not caller.sees(found.api_key_id):
        raise _not_found()
    return found


def _look(service: Service, query_id: UUID) -> Asked | None:
    with service.pool.connection() as connection:
        return query_log.asked(connection, query_id)


def _not_found() -> Refusal:
    return Refusal(404, "not_found", "There is no question of this id that this key asked. Use the id in the passport", "id")
