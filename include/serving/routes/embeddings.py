"""POST /v1/embeddings: vectors by the model of a collection's live index, for who searches it with SQL."""

from __future__ import annotations

import base64
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from include.serving.failures import bad_request
from include.serving.replies import EmbeddingsReply
from include.serving.requests import EmbeddingsRequest  # noqa: TC001 - FastAPI reads it
from include.serving.routes.shared import ASKING, CallerOf, ServiceOf, errors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from include.serving.service import Service

router = APIRouter(tags=["embeddings"])


@router.post("/v1/embeddings", response_model=EmbeddingsReply, responses=errors(*ASKING))
async def embeddings(body: EmbeddingsRequest, service: ServiceOf, caller: CallerOf) -> JSONResponse:
    """Embed texts as the collection's live generation was embedded. Scope: embed."""
    caller.require("embed")
    caller.require_collection(body.model, "model")
    vectors, tokens = await service.searches.run(partial(_embed, service, body), service.options.timeout)
    show = _base64 if body.encoding_format == "base64" else _numbers
    data = [{"object": "embedding", "index": i, "embedding": show(vector)} for i, vector in enumerate(vectors)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return JSONResponse({"object": "list", "data": data, "model": body.model, "usage": usage})


def _embed(service: Service, body: EmbeddingsRequest) -> tuple[NDArray[np.float32], int]:
    """Vectors and the number of tokens.

    :raises Refusal: other dimensions are wanted, or a text is longer than the model reads.
    """
    service.served(body.model, "model")
    _, embedder = service.embedder(body.model)
    if body.dimensions not in (None, embedder.dimension):
        raise bad_request(f"The model gives {embedder.dimension} dimensions. Leave out dimensions", "dimensions")
    counts = [len(encoding.ids) for encoding in embedder.tokenizer.encode_batch(body.texts, add_special_tokens=False)]
    if embedder.max_tokens is not None and max(counts) > embedder.max_tokens:
        longest = counts.index(max(counts))
        raise bad_request(
            f"Text {longest} has {max(counts)} tokens, the model reads at most {embedder.max_tokens}. Cut it",
            "input", "context_length_exceeded",
        )  # fmt: skip
    embed = embedder.embed_documents if body.input_type == "document" else embedder.embed_queries
    return embed(body.texts), sum(counts)


def _numbers(vector: NDArray[np.float32]) -> Any:
    return vector.tolist()


def _base64(vector: NDArray[np.float32]) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
