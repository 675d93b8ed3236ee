"""What may be asked of a language model, in OpenAI's shape, and how its replies look."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from include.serving.requests import Message, Name, StreamOptions, Text

if TYPE_CHECKING:
    from include.serving.llm.roster import Ready

_Stop = Annotated[Text, Field(min_length=1, max_length=200)]


class CompletionRequest(BaseModel):
    """A conversation that a model goes on with; what would change the answer and is not understood is refused."""

    model_config = ConfigDict(extra="ignore", strict=True)

    model: Annotated[Name, Field(description="ragworks-COLLECTION: its champion; ragworks-COLLECTION@VERSION: that one")]
    messages: Annotated[list[Message], Field(min_length=1, max_length=1000)]
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: Literal[1] | None = None
    temperature: Annotated[float | None, Field(ge=0, le=2)] = None
    top_p: Annotated[float | None, Field(gt=0, le=1)] = None
    max_tokens: Annotated[int | None, Field(ge=1)] = None
    max_completion_tokens: Annotated[int | None, Field(ge=1)] = None
    seed: Annotated[int | None, Field(ge=-(2**63), lt=2**63)] = None
    stop: _Stop | Annotated[list[_Stop], Field(max_length=4)] | None = None
    tools: Annotated[list[Any] | None, Field(max_length=0, description="not understood")] = None
    response_format: Annotated[None, Field(description="not understood")] = None
    logprobs: Literal[False] | None = None

    @property
    def conversation(self) -> list[dict[str, str]]:
        """As chat templates read it; OpenAI's ``developer`` is what they call ``system``."""
        return [{"role": "system" if m.role == "developer" else m.role, "content": m.text} for m in self.messages]

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts at which the answer ends."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class Reply:
    """The replies to one request: each names the version that writes it, and base and adapter by their fingerprints."""

    def __init__(self, key: str, ready: Ready, prompt_tokens: int) -> None:
        self._head = {
            "id": f"chatcmpl-{key}", "created": int(time.time()), "model": ready.name, "system_fingerprint": ready.fingerprint
        }  # fmt: skip
        self._prompt = prompt_tokens

    def whole(self, text: str, reason: str, tokens: int) -> dict[str, Any]:
        """The answer at once."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": reason, "logprobs": None}
        return {**self._head, "object": "chat.completion", "choices": [choice], "usage": self._usage(tokens)}

    def chunk(self, delta: dict[str, str], reason: str | None = None) -> str:
        """A piece of it."""
        choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
        return json.dumps({**self._head, "object": "chat.completion.chunk", "choices": [choice]})

    def usage(self, tokens: int) -> str:
        """The chunk that counts."""
        return json.dumps({**self._head, "object": "chat.completion.chunk", "choices": [], "usage": self._usage(tokens)})

    def _usage(self, tokens: int) -> dict[str, int]:
        return {"prompt_tokens": self._prompt, "completion_tokens": tokens, "total_tokens": self._prompt + tokens}
