"""What routes share: the server's state, the caller, and which errors each may give."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request

from include.serving.access import Caller
from include.serving.replies import ErrorReply
from include.serving.service import Service

_MEANINGS = {
    400: "a value is wrong, or the body is not JSON",
    401: "no valid API key",
    403: "the key lacks the scope or the right to the collection",
    404: "there is no such collection, index, question or answer",
    408: "the body came too slowly",
    413: "the body is too large",
    415: "the body is not declared as JSON",
    429: "the key asks too often, or the server has too much to do: see Retry-After",
    500: "a defect",
    502: "the language model does not answer",
    503: "a service that is needed is not there",
    504: "it took too long",
}
READING = (401, 403, 429, 500, 503, 504)
ASKING = (400, *READING[:2], 404, 408, 413, 429, 500, 503, 504)
ANSWERING = (*ASKING, 502)


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For OpenAPI."""
    return {status: {"model": ErrorReply, "description": _MEANINGS[status]} for status in sorted(statuses)}


async def service_of(request: Request) -> Service:
    """The server's state."""
    service: Service = request.app.state.service
    return service


async def caller_of(request: Request) -> Caller:
    """Who asks, as the front door found out."""
    caller: Caller = request.state.caller
    return caller


ServiceOf = Annotated[Service, Depends(service_of)]
CallerOf = Annotated[Caller, Depends(caller_of)]
