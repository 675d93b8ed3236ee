"""The FastAPI app of the public contract, behind its front door."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException

from include.errors import RagworksError
from include.serving.failures import Refusal, of_validation, refusal
from include.serving.front_door import FrontDoor
from include.serving.housekeeping import Housekeeper
from include.serving.routes import chat, embeddings, feedback, health, rerank, search

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from include.serving.service import Service

logger = logging.getLogger(__name__)

VERSION = "1.0"  # of the contract
_LOGIN = HTTPBearer(auto_error=False, description="ragworks keys create NAME")


def create_app(service: Service) -> FrontDoor:
    """The ASGI app of an open service."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        housekeeper = Housekeeper(service)
        try:
            yield
        finally:
            service.draining = True
            housekeeper.stop()

    app = FastAPI(
        title="Ragworks", version=VERSION, lifespan=lifespan, redoc_url=None,
        summary="Search, rerank, embeddings and answers over indexed documents",
    )  # fmt: skip
    app.state.service = service
    for module in (search, rerank, embeddings, chat, feedback):
        app.include_router(module.router, dependencies=[Depends(_LOGIN)])
    app.include_router(health.router)
    answer_errors(app)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return FrontDoor(app, service)


def answer_errors(app: FastAPI) -> None:
    """Have every error become a reply in OpenAI's shape."""
    for kind in (Refusal, RagworksError, psycopg.Error):
        app.add_exception_handler(kind, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _no_route)


async def _refused(_: Request, error: Exception) -> JSONResponse:
    refused = refusal(error)
    if refused is None:
        raise error
    return _reply(refused, error)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    return _reply(of_validation(error.errors()), error)


async def _no_route(_: Request, error: Exception) -> JSONResponse:
    """Starlette's own: no such path, method, or content type; a body that breaks the JSON parser."""
    if not isinstance(error, HTTPException):
        raise error
    code = {404: "unknown_path", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
    return _reply(Refusal(error.status_code, code, f"{error.detail}. /openapi.json has what there is"), error)


def _reply(refused: Refusal, error: Exception) -> JSONResponse:
    if refused.status >= 500:
        logger.warning("%d %s: %s", refused.status, refused.code, error)
    headers = {**refused.headers, **(getattr(error, "headers", None) or {})}
    return JSONResponse(refused.body, refused.status, headers=headers)


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document, without the status 422 that it adds by itself: wrong values give 400 here."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        for path in schema["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
        for unused in ("HTTPValidationError", "ValidationError"):
            schema["components"]["schemas"].pop(unused, None)
        app.openapi_schema = schema
    return app.openapi_schema
