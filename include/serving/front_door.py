"""Stands before every route: who asks is known before a byte of the body is read, and no body is larger than allowed."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from include.serving.access import Caller
from include.serving.failures import Refusal
from include.serving.options import is_loopback

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from include.serving.service import Service

logger = logging.getLogger(__name__)

BODY_SECONDS = 30.0  # to send a body: a slow one must not hold a place for ever
_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class FrontDoor:
    """Identity, size of the body, one log line and the metrics of each request. Texts and queries are never logged."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI, https://asgi.readthedocs.io/en/latest/specs/www.html."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            visit = Visit(scope, send, started=time.monotonic())
            self._service.metrics.open.inc()
            try:
                await self._answer(visit, receive)
            finally:
                self._service.metrics.open.dec()
                self._note(visit)

    async def _answer(self, visit: Visit, receive: Receive) -> None:
        try:
            visit.caller = await self._admit(visit)
            visit.scope.setdefault("state", {})["caller"] = visit.caller
            body = await read_body(visit, receive, self._service.options.max_body)
            await self._app(visit.scope, replay(body, receive), visit.send_on)
        except Refusal as refused:
            await visit.refuse(refused)
        except ConnectionError:
            visit.status = 499  # nginx's word for a client that went away
        except Exception:
            logger.exception("request %s failed", visit.id)
            await visit.refuse(Refusal(500, "internal_error", f"A defect of the server. Please report request {visit.id}"))

    async def _admit(self, visit: Visit) -> Caller | None:
        """Who asks; None where that does not matter.

        :raises Refusal: no valid key; or without logins another host name than this machine's, by which a web page could ask.
        """
        options = self._service.options
        if options.no_auth:
            if not is_loopback(re.sub(r":\d+$", "", visit.header("host")).strip("[]")):
                raise Refusal(403, "host_not_allowed", "Without logins only requests to localhost are answered")
            return Caller(None)
        if visit.path == "/metrics" and options.metrics_open:
            return None
        if visit.path != "/metrics" and not visit.path.startswith("/v1/"):
            return None
        caller = await self._service.keyring.admit(visit.header("authorization"))
        if caller.key_id is not None:
            self._service.logbook.used(caller.key_id)
        return caller

    def _note(self, visit: Visit) -> None:
        seconds = time.monotonic() - visit.started
        route = getattr(visit.scope.get("route"), "path", "other")
        self._service.metrics.requests.labels(route, str(visit.status)).inc()
        self._service.metrics.seconds.labels(route).observe(seconds)
        raw = (visit.scope.get("raw_path") or b"").split(b"?")[0].decode("latin-1")[:200]
        key = visit.caller.key.name if visit.caller and visit.caller.key else "-"
        client = (visit.scope.get("client") or ("-",))[0]
        logger.info(
            "%s %s %s %d %.1f ms key=%s request=%s",
            client, visit.scope["method"], raw, visit.status, seconds * 1000, key, visit.id,
        )  # fmt: skip


@dataclass
class Visit:
    """One request: its id, and what was answered."""

    scope: Scope
    send: Send
    started: float
    id: str = ""
    caller: Caller | None = None
    status: int = 0

    def __post_init__(self) -> None:
        given = self.header("x-request-id")
        self.id = given if _SAFE_ID.fullmatch(given) else uuid4().hex

    @property
    def path(self) -> str:
        """Without the query."""
        return str(self.scope["path"])

    def header(self, name: str) -> str:
        """The first of this name, or nothing."""
        wanted = name.encode()
        return next((value.decode("latin-1") for key, value in self.scope["headers"] if key.lower() == wanted), "")

    async def send_on(self, message: Message) -> None:
        """Pass a message to the client; the first one carries the request's id."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message.get("headers", []), (b"x-request-id", self.id.encode())]}
        await self.send(message)

    async def refuse(self, refused: Refusal) -> None:
        """Answer with an error, unless an answer has begun; the connection ends where the body was not read."""
        if self.status:
            return
        body = json.dumps(refused.body).encode()
        headers = {"content-type": "application/json", "content-length": str(len(body)), **refused.headers}
        if refused.status in (401, 408, 413, 429):
            headers["connection"] = "close"
        encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await self.send_on({"type": "http.response.start", "status": refused.status, "headers": encoded})
        await self.send_on({"type": "http.response.body", "body": body})


async def read_body(visit: Visit, receive: Receive, most: int) -> bytes:
    """The whole body.

    :raises Refusal: 413 it is too large, said before more of it is read; 408 it comes too slowly.
    """
    too_large = Refusal(413, "body_too_large", f"The body is larger than {most} bytes. Send less at a time")
    declared = visit.header("content-length")
    if declared.isdigit() and int(declared) > most:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ConnectionError
                body += message.get("body", b"")
                if len(body) > most:
                    raise too_large
                if not message.get("more_body"):
                    return bytes(body)
    except TimeoutError:
        raise Refusal(408, "body_too_slow", f"The body did not arrive within {BODY_SECONDS:.0f} s. Send it again") from None


def replay(body: bytes, receive: Receive) -> Receive:
    """The body once, then whatever comes: the end of the connection."""
    given = False

    async def again() -> dict[str, Any]:
        nonlocal given
        if given:
            return dict(await receive())
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
