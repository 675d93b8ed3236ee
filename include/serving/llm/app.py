"""The app of `serve-llm`: chat completions and models, behind a door that lets in this machine, or whoever has the key."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import re
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from include.serving.app import answer_errors
from include.serving.failures import Refusal, bad_request, refusal
from include.serving.front_door import Visit, read_body, replay
from include.serving.llm.shapes import CompletionRequest, Reply
from include.serving.llm.writing import Ask, Ended
from include.serving.options import is_loopback

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import ASGIApp, Receive, Scope, Send

    from include.serving.llm.options import LlmOptions
    from include.serving.llm.roster import Ready, Roster

logger = logging.getLogger(__name__)

TRIES = 3  # of a version whose adapter makes room between its opening and its asking


def create_llm_app(roster: Roster, options: LlmOptions, key: str | None) -> LlmDoor:
    """The ASGI app; the roster begins with it and ends with it.

    :param key: bearer token that requests must bear; None: requests of this machine alone are answered.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        roster.start()
        try:
            yield
        finally:
            await asyncio.to_thread(roster.close)

    app = FastAPI(title="Ragworks language models", version="1.0", lifespan=lifespan, redoc_url=None)

    @app.post("/v1/chat/completions", response_model=None)
    async def chat(body: CompletionRequest, request: Request) -> Response:
        """Go on with a conversation."""
        answering = await _begun(roster, body)
        if not body.stream:
            return JSONResponse(await answering.whole(request))
        first = await anext(pieces := answering.pieces())  # an error before the first piece still has a status of its own
        return StreamingResponse(_events(first, pieces), media_type="text/event-stream", headers={"Cache-Control": "no-cache"})

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """The champions."""
        return {"object": "list", "data": roster.listed()}

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """The process lives."""
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz() -> JSONResponse:
        """Champions were looked for, and those that open are loaded."""
        return JSONResponse({"status": "ok"} if roster.looked else {"status": "starting"}, 200 if roster.looked else 503)

    answer_errors(app)
    return LlmDoor(app, options, key)


class LlmDoor:
    """Identity, size of the body, and one log line of each request; what is asked and answered is never logged."""

    def __init__(self, app: ASGIApp, options: LlmOptions, key: str | None) -> None:
        self._app, self._options, self._key = app, options, key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI, https://asgi.readthedocs.io/en/latest/specs/www.html."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            visit = Visit(scope, send, started=time.monotonic())
            try:
                self._admit(visit)
                body = await read_body(visit, receive, self._options.max_body)
                await self._app(scope, replay(body, receive), visit.send_on)
            except Refusal as refused:
                await visit.refuse(refused)
            except ConnectionError:
                visit.status = 499
            except Exception:
                logger.exception("request %s failed", visit.id)
                await visit.refuse(Refusal(500, "internal_error", f"A defect of the server. Please report request {visit.id}"))
            took = (time.monotonic() - visit.started) * 1000
            raw = (scope.get("raw_path") or b"").split(b"?")[0].decode("latin-1")[:200]  # undecoded: no %0A makes a line
            logger.info("%s %s %d %.1f ms request=%s", scope["method"], raw, visit.status, took, visit.id)

    def _admit(self, visit: Visit) -> None:
        """:raises Refusal: not this machine's, by the host that it asks for; or without the key."""
        if self._key is None:
            if not is_loopback(re.sub(r":\d+$", "", visit.header("host")).strip("[]")):
                raise Refusal(403, "host_not_allowed", "Without a key only requests to localhost are answered")
        elif visit.path.startswith("/v1/"):
            given = visit.header("authorization").removeprefix("Bearer ").encode("latin-1")
            if not hmac.compare_digest(given, self._key.encode()):
                raise Refusal(401, "invalid_api_key", "Send RAGWORKS_LLM_SERVER_KEY as a bearer token")


class _Answering:
    """A request whose answer is being written by the engine's thread, and read here."""

    def __init__(self, ready: Ready, body: CompletionRequest, ids: list[int], limit: int) -> None:
        loop, events = asyncio.get_running_loop(), asyncio.Queue[str | Ended | Exception]()

        def put(event: str | Ended | Exception) -> None:
            with suppress(RuntimeError):  # the loop is closed: the server stopped
                loop.call_soon_threadsafe(events.put_nowait, event)

        self._events = events
        temperature = 1.0 if body.temperature is None else body.temperature  # OpenAI's default
        self.ask = Ask(
            ready.adapter, ids, limit, put, temperature, body.top_p or 1.0, body.seed, body.stops
        )  # fmt: skip
        self._reply = Reply(uuid4().hex, ready, len(ids))
        self._counted = bool(body.stream_options and body.stream_options.include_usage)

    async def whole(self, request: Request) -> dict[str, Any]:
        """The reply; nothing is written on for a client that left."""
        text = ""
        try:
            while True:
                event = await self._next()
                if isinstance(event, Ended):
                    return self._reply.whole(text, event.reason, event.tokens)
                text += event
                if await request.is_disconnected():
                    raise ConnectionError
        finally:
            self.ask.left.set()

    async def pieces(self) -> AsyncIterator[str]:
        """The chunks of a stream."""
        try:
            event = await self._next()
            yield self._reply.chunk({"role": "assistant", "content": event if isinstance(event, str) else ""})
            while not isinstance(event, Ended):
                event = await self._next()
                if isinstance(event, str):
                    yield self._reply.chunk({"content": event})
            yield self._reply.chunk({}, event.reason)
            if self._counted:
                yield self._reply.usage(event.tokens)
        finally:
            self.ask.left.set()

    async def _next(self) -> str | Ended:
        event = await self._events.get()
        if isinstance(event, Exception):
            raise refusal(event) or Refusal(500, "failed", f"The model failed: {type(event).__name__}. The log has the reason")
        return event


async def _begun(roster: Roster, body: CompletionRequest) -> _Answering:
    """The answer, handed to the engine of the model that is meant at this moment.

    :raises Refusal: no such model, a conversation that its template refuses or that is too long, or too many wait.
    """
    ready = await asyncio.to_thread(roster.find, body.model)
    for _ in range(TRIES):
        ids = await asyncio.to_thread(_tokens, ready, body)
        room = ready.engine.context - len(ids)
        if room < 1:
            raise bad_request(
                f"The conversation has {len(ids)} tokens, the model reads {ready.engine.context} with its answer. Shorten it",
                "messages", "context_length_exceeded",
            )  # fmt: skip
        answering = _Answering(ready, body, ids, min(body.max_completion_tokens or body.max_tokens or room, room))
        if ready.engine.submit(answering.ask):
            return answering
        ready = await asyncio.to_thread(roster.again, ready)
    raise Refusal(503, "unavailable", "More versions are asked than are kept. Try again; or serve with more --adapters")


def _tokens(ready: Ready, body: CompletionRequest) -> list[int]:
    from jinja2 import TemplateError

    try:
        return ready.engine.tokens(body.conversation)
    except TemplateError as error:
        raise bad_request(f"The chat template of the model refuses the conversation: {error}", "messages") from error


async def _events(first: str, pieces: AsyncIterator[str]) -> AsyncIterator[str]:
    yield f"data: {first}\n\n"
    try:
        async for piece in pieces:
            yield f"data: {piece}\n\n"
    except Refusal as refused:  # the status is sent: an error is an event too
        yield f"data: {json.dumps(refused.body)}\n\n"
        return
    yield "data: [DONE]\n\n"
