"""POST /v1/rerank: texts of the caller in the order in which they answer a question. Nothing is read from an index."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from include.collection_file import CHAMPION
from include.serving.asking import Question, check_length
from include.serving.failures import Refusal
from include.serving.replies import RerankReply
from include.serving.requests import RerankRequest  # noqa: TC001 - FastAPI reads it
from include.serving.routes.shared import ASKING, CallerOf, ServiceOf, errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from include.serving.access import Caller
    from include.serving.service import Service

router = APIRouter(tags=["rerank"])

NO_RERANKER = "the collection has no reranker: scores are cosine similarities by its embedding model"
DOCUMENTS_A_UNIT = 100  # Cohere's search unit, https://docs.cohere.com/docs/rerank-overview


@router.post("/v1/rerank", response_model=RerankReply, response_model_exclude_none=True, responses=errors(*ASKING))
async def rerank(body: RerankRequest, service: ServiceOf, caller: CallerOf) -> JSONResponse:
    """Score texts against a question, by a collection's reranker, or its embedder where it has none. Scope: rerank."""
    caller.require("rerank")
    asked = Question(service, caller, "rerank", "", body.query)
    texts = body.texts
    scores, scored_by = await service.searches.run(partial(_score, asked, body.model, texts), service.options.timeout)
    order = sorted(range(len(texts)), key=lambda i: -scores[i])[: body.top_n]
    asked.log(
        "ok", results=[{"index": i, "score": scores[i]} for i in order],
        passport={"collection": asked.collection, "scored_by": scored_by, "documents": len(texts), "id": str(asked.id)},
    )  # fmt: skip
    results: list[dict[str, Any]] = [{"index": i, "relevance_score": scores[i]} for i in order]
    if body.return_documents:
        results = [{**result, "document": {"text": texts[result["index"]]}} for result in results]
    meta: dict[str, Any] = {
        "api_version": {"version": "2"},
        "billed_units": {"search_units": -(-len(texts) // DOCUMENTS_A_UNIT)},
        "scored_by": scored_by,
    }
    if scored_by["kind"] == "embedder":
        meta["warnings"] = [NO_RERANKER]
    usage = {"total_tokens": (sum(map(len, texts)) + len(body.query)) // 4}  # an estimate: four characters a token
    return JSONResponse({"id": str(asked.id), "model": body.model, "results": results, "meta": meta, "usage": usage})


def _collection(service: Service, caller: Caller, model: str) -> str:
    """The collection whose reranker is meant: by its name, or by the reranker's.

    :raises Refusal: none that the caller may ask.
    """
    allowed = [name for name in service.names() if caller.may_ask(name)]
    if model in allowed:
        return model
    for name in allowed:
        if model != CHAMPION and service.served(name, "model").settings.retrieval.reranker == model:
            return name
    caller.require_collection(model, "model")
    raise Refusal(404, "model_not_found", "There is no such collection or reranker. GET /v1/models lists yours", "model")


def _score(asked: Question, model: str, texts: Sequence[str]) -> tuple[list[float], dict[str, str]]:
    """Scores in the order of the texts, and what gave them."""
    asked.collection = _collection(asked.service, asked.caller, model)
    asked.served = asked.service.served(asked.collection, "model")
    check_length(asked.text, asked.served.settings)
    spec = asked.served.settings.retrieval.reranker
    reranker = asked.service.reranker(asked.collection, spec) if spec else None
    if reranker is not None:
        scores = [float(score) for score in reranker.score(asked.text, texts)]
        return scores, {"kind": "reranker", "model": reranker.name, "fingerprint": reranker.fingerprint}
    live, embedder = asked.service.embedder(asked.collection)
    scores = (embedder.embed_documents(texts) @ embedder.embed_query(asked.text)).tolist()
    return scores, {"kind": "embedder", "model": live.spec["embedding"]["model"], "fingerprint": live.embedder}
