"""POST /v1/search: passages, and GET /v1/models: what may be asked."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from include.errors import BadData
from include.retrieval.query import Query
from include.serving.asking import Question
from include.serving.replies import ModelsReply, SearchReply, as_result
from include.serving.requests import SearchRequest  # noqa: TC001 - FastAPI reads it
from include.serving.routes.shared import ASKING, READING, CallerOf, ServiceOf, errors

if TYPE_CHECKING:
    from include.serving.access import Caller
    from include.serving.service import Service

router = APIRouter(tags=["search"])


@router.post("/v1/search", response_model=SearchReply, responses=errors(*ASKING))
async def search(body: SearchRequest, service: ServiceOf, caller: CallerOf) -> JSONResponse:
    """Passages of a collection that answer a question, best first. Scope: search."""
    caller.require("search")
    caller.require_collection(body.collection)
    query = Query(
        body.query, body.top_k, body.mode, body.filter, caller.principals(body.principals), body.rerank, body.copies
    )  # fmt: skip
    asked = Question(service, caller, "search", body.collection, body.query)
    found = await asked.in_time(partial(asked.find, query))
    asked.log("ok" if found.hits else "empty")
    return JSONResponse(
        {
            "id": str(asked.id),
            "results": [as_result(hit) for hit in found.hits],
            "passport": asked.passport,
            "seconds": asked.seconds,
        }
    )


@router.get("/v1/models", response_model=ModelsReply, responses=errors(*READING))
async def models(service: ServiceOf, caller: CallerOf) -> JSONResponse:
    """The collections that the key may ask and that have an index. Any key."""
    listed = await service.searches.run(partial(_models, service, caller), service.options.timeout)
    return JSONResponse({"object": "list", "data": listed})


def _models(service: Service, caller: Caller) -> list[dict[str, Any]]:
    listed = []
    for name in filter(caller.may_ask, service.names()):
        try:
            live = service.live(name)
        except BadData:  # never indexed
            continue
        created = int((live.live_at or live.created_at).timestamp())
        listed.append({"id": name, "object": "model", "created": created, "owned_by": "ragworks"})
    return listed
