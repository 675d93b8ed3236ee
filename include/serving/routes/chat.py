"""POST /v1/chat/completions: answers from a collection, in the shape that OpenAI's clients speak, streamed or whole."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response, StreamingResponse

from include.answering.answer import Answer, AnswerStream
from include.answering.answer import answer as write_answer
from include.answering.answer import stream as stream_answer
from include.guardrails.questions import admit
from include.registry.champions import as_found
from include.retrieval.query import Query
from include.serving.asking import Question
from include.serving.failures import bad_request, of_llm, refusal
from include.serving.replies import ChatReply
from include.serving.requests import ChatRequest  # noqa: TC001 - FastAPI reads it
from include.serving.routes.shared import ANSWERING, CallerOf, ServiceOf, errors

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from include.collection_file import Collection
    from include.serving.service import Service
    from include.store.search import Hit

router = APIRouter(tags=["answers"])

_SSE = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


@router.post(
    "/v1/chat/completions",
    response_model=ChatReply,
    responses={**errors(*ANSWERING), 200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def chat(body: ChatRequest, service: ServiceOf, caller: CallerOf) -> Response:
    """Answer the last user message from the documents, with citations. Scope: chat.

    Earlier turns are not read. With ``stream`` the last chunk has the citations and the passport.
    """
    caller.require("chat")
    caller.require_collection(body.model, "model")
    if not body.question:
        raise bad_request("There is no user message with a text. Its last one is the question", "messages")
    asked = Question(service, caller, "chat", body.model, body.question)
    principals = caller.principals(body.principals)
    hits = await asked.in_time(partial(_find, asked, body, principals))
    writing = _Writing(asked, body, hits)
    return await (_streamed(service, writing) if body.stream else _whole(service, writing))


def _find(asked: Question, body: ChatRequest, principals: Sequence[str]) -> list[Hit]:
    """The passages that the answer may rest on."""
    passages = asked.service.served(asked.collection, "model").settings.answers.passages
    return asked.find(Query(asked.text, passages, body.mode, body.filter, principals, body.rerank)).hits


@dataclass
class _Writing:
    """An answer in the making; everything but :meth:`chunk` runs in a worker's thread."""

    asked: Question
    body: ChatRequest
    hits: list[Hit]

    @property
    def _arguments(self) -> dict[str, Any]:
        service, name = self.asked.service, self.asked.collection
        return {
            "question": self.question[0], "hits": self.hits, "collection": self._settings(), "llm": service.writer(name),
            "embedder": service.embedder(name)[1],
        }  # fmt: skip

    @cached_property
    def question(self) -> tuple[str, tuple[str, ...]]:
        """As it may be sent to an LLM and kept, and what is to be said of it."""
        return admit(self.asked.text, self._settings().guardrails)

    def whole(self) -> dict[str, Any]:
        """The reply."""
        try:
            answer = write_answer(**self._arguments)
        except Exception as error:
            raise self.failed(error) from error
        message = {"role": "assistant", "content": answer.text, "refusal": None}
        return {
            **self._head("chat.completion"),
            "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
            "usage": self.usage(answer),
            **self.done(answer),
        }

    def pieces(self) -> Iterator[str]:
        """The chunks of the stream, as JSON."""
        stream: AnswerStream | None = None
        try:
            stream = stream_answer(**self._arguments)
            yield self.chunk({"role": "assistant", "content": ""}, begun=next(pieces := iter(stream), None))
            for piece in pieces:
                yield self.chunk({"content": piece})
            answer = stream.answer
        except GeneratorExit:  # nobody listens any more: nothing here has failed, and there is no answer to keep
            if stream is not None:
                stream.close()
            self.asked.log("ok")
            raise
        except Exception as error:
            raise self.failed(error) from error
        yield self.chunk({}, finish="stop", more=self.done(answer))
        if self.body.stream_options and self.body.stream_options.include_usage:
            yield json.dumps({**self._head("chat.completion.chunk"), "choices": [], "usage": self.usage(answer)})

    def chunk(
        self, delta: dict[str, Any], *, begun: str | None = None, finish: str | None = None, more: dict[str, Any] | None = None
    ) -> str:
        """One chunk of the stream; ``begun`` is the first piece of the answer."""
        delta = {**delta, "content": begun} if begun else delta
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return json.dumps({**self._head("chat.completion.chunk"), "choices": [choice], **(more or {})})

    def done(self, answer: Answer) -> dict[str, Any]:
        """Log the answer; what it rests on, for the reply."""
        asked, answer = self.asked, replace(answer, flags=(*self.question[1], *answer.flags))
        status = "abstained" if answer.abstained else "ok"
        passport = {**asked.passport, **answer.passport, "id": str(asked.id)}
        asked.log(status, answer=answer, passport=passport, seconds=self._seconds())
        return {
            "citations": [asdict(citation) for citation in answer.citations],
            "sources": [
                {"number": number, "document": hit.document, "ordinal": hit.ordinal, "start": hit.start, "end": hit.end,
                 "score": hit.score}
                for number, hit in enumerate(answer.sources, 1)
            ],
            "passport": passport, "abstained": answer.abstained, "extractive": answer.extractive,
            "confidence": answer.confidence, "groundedness": answer.groundedness, "flags": list(answer.flags),
        }  # fmt: skip

    def failed(self, error: Exception) -> Exception:
        """Log that there is no answer; what the caller is told."""
        self.asked.log("failed", seconds=self._seconds())
        return of_llm(error)

    def usage(self, answer: Answer) -> dict[str, int]:
        """Tokens by the tokenizer of the collection's embedder: an estimate, as every model counts otherwise."""
        _, embedder = self.asked.service.embedder(self.asked.collection)
        texts = [self.asked.text, *(hit.text for hit in answer.sources)]
        read, wrote = (sum(len(e.ids) for e in embedder.tokenizer.encode_batch(t)) for t in (texts, [answer.text]))
        return {"prompt_tokens": read, "completion_tokens": wrote, "total_tokens": read + wrote}

    def _settings(self) -> Collection:
        """The collection's, with what the request may change of them."""
        settings = self.asked.service.served(self.asked.collection, "model").settings
        wanted = self.body.max_completion_tokens or self.body.max_tokens or settings.answers.max_tokens
        changed: dict[str, Any] = {"max_tokens": min(wanted, settings.answers.max_tokens)}
        if self.body.temperature is not None:
            changed["temperature"] = self.body.temperature
        settings = as_found(settings, self.asked.passport)
        return settings.model_copy(update={"answers": settings.answers.model_copy(update=changed)})

    def _seconds(self) -> dict[str, float]:
        seconds = self.asked.seconds
        return {"answer": round(2 * seconds["total"] - sum(seconds.values()), 4)}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": f"chatcmpl-{self.asked.id}", "object": kind, "created": int(time.time()), "model": self.body.model}


async def _whole(service: Service, writing: _Writing) -> Response:
    return JSONResponse(await service.answers.run(writing.whole, service.options.answer_timeout))


async def _streamed(service: Service, writing: _Writing) -> Response:
    """The first piece is awaited before the status is sent: a dead LLM still gives 502."""
    pieces = service.answers.stream(writing.pieces, service.options.answer_timeout)
    first = await anext(pieces)
    return StreamingResponse(_events(first, pieces), media_type="text/event-stream", headers=_SSE)


async def _events(first: str, pieces: AsyncIterator[str]) -> AsyncIterator[str]:
    """Server-sent events, ended by [DONE]; an error on the way is an event too, as the status is already sent."""
    yield f"data: {first}\n\n"
    try:
        async for piece in pieces:
            yield f"data: {piece}\n\n"
    except Exception as error:
        refused = refusal(error)
        if refused is None:
            raise
        yield f"data: {json.dumps(refused.body)}\n\n"
        return
    yield "data: [DONE]\n\n"
