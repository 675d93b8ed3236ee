"""GET /healthz: the process lives; GET /readyz: it can answer; GET /metrics. None of them says anything secret."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import psycopg
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from include.serving.replies import HealthReply
from include.serving.routes.shared import ServiceOf, errors

if TYPE_CHECKING:
    from include.serving.access import Caller
    from include.serving.service import Service

router = APIRouter(tags=["operations"])

READY_SECONDS = 1.0  # an answer of the database counts so long, so that asking for it costs nothing


@router.get("/healthz", response_model=HealthReply, responses=errors(500))
async def healthz() -> JSONResponse:
    """The process lives. No login: it says nothing else."""
    return JSONResponse({"status": "ok"})


@router.get("/readyz", response_model=HealthReply, responses={503: {"model": HealthReply, "description": "not ready"}})
async def readyz(request: Request, service: ServiceOf) -> JSONResponse:
    """Models are loaded, the database answers, and the server is not about to stop. No login."""
    if service.draining or not service.warm:
        return JSONResponse({"status": "stopping" if service.draining else "starting"}, 503)
    asked, ready = getattr(request.app.state, "ready", (float("-inf"), False))
    if time.monotonic() - asked > READY_SECONDS:
        ready = await asyncio.to_thread(_database_answers, service)
        request.app.state.ready = (time.monotonic(), ready)
    return JSONResponse({"status": "ok"}) if ready else JSONResponse({"status": "no database"}, 503)


@router.get("/metrics", response_class=Response, responses=errors(401, 403, 429, 500))
async def metrics(request: Request, service: ServiceOf) -> Response:
    """For Prometheus. Scope: metrics, as names of collections are in it; no login with --metrics-open."""
    caller: Caller | None = request.state.caller
    if caller is not None:
        caller.require("metrics")
    return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _database_answers(service: Service) -> bool:
    try:
        with service.pool.connection(timeout=READY_SECONDS) as connection:
            service.pool.check_connection(connection)
    except psycopg.Error:
        return False
    return True
