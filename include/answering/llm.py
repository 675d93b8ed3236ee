"""Any OpenAI-compatible /chat/completions endpoint, through the openai client (retries and back-off are its own)."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from include.errors import BadConfiguration, ServiceUnavailable, Transient, reply_codes

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from include.config import Settings

logger = logging.getLogger(__name__)

TIMEOUT = 60.0  # seconds without a byte
RETRIES = 2
# What newer models refuse, and what they take instead (https://platform.openai.com/docs/api-reference/chat/create).
_INSTEAD: dict[str, str] = {"max_tokens": "max_completion_tokens", "temperature": ""}


@dataclass(frozen=True, slots=True)
class Completion:
    """What an LLM wrote.

    :param model: as the endpoint names it.
    :param usage: prompt_tokens, completion_tokens, total_tokens; empty when the endpoint does not say.
    :param truncated: it stopped at the limit of tokens.
    """

    text: str
    model: str
    usage: dict[str, int] = field(default_factory=dict)
    truncated: bool = False


def open_llm(settings: Settings) -> LLM | None:
    """The LLM that the environment names; None when it names none. Nothing is asked of it yet.

    :raises BadConfiguration: an address without a model.
    """
    if not settings.llm_base_url:
        return None
    if not settings.llm_model:
        raise BadConfiguration(
            "RAGWORKS_LLM_MODEL", "it is not set, and RAGWORKS_LLM_BASE_URL is", "Name a model that the endpoint has"
        )
    if urlsplit(settings.llm_base_url).scheme not in ("http", "https"):
        raise BadConfiguration("RAGWORKS_LLM_BASE_URL", "it is not an http address", "Write https://host/v1")
    return LLM(settings.llm_base_url, settings.llm_model, settings.llm_api_key)


class LLM:
    """One model behind one endpoint; safe to share between threads."""

    _fixes = (  # when nothing answers, the key is refused, the request is refused
        "Check RAGWORKS_LLM_BASE_URL, try again", "Set RAGWORKS_LLM_API_KEY",
        "Check RAGWORKS_LLM_MODEL and the answers section of the collection",
    )  # fmt: skip

    def __init__(
        self, base_url: str, model: str, api_key: str | None = None, *, timeout: float = TIMEOUT, retries: int = RETRIES
    ) -> None:
        self.model, self._url, self._key = model, base_url, api_key
        self._timeout, self._retries = timeout, retries
        self._refused: frozenset[str] = frozenset()

    @property
    def base_url(self) -> str:
        """Without the credentials that it may hold."""
        parts = urlsplit(self._url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()

    @property
    def facts(self) -> dict[str, Any]:
        """What an answer's passport says of it."""
        return {"model": self.model, "base_url": self.base_url}

    def complete(self, messages: Sequence[dict[str, str]], max_tokens: int, temperature: float) -> Completion:
        """The whole answer.

        :param messages: of OpenAI's shape: role and content.
        :raises ServiceUnavailable: nothing answers.
        :raises Transient: too many requests.
        :raises BadConfiguration: it refuses the key, the model or the request.
        """
        with self._errors():
            reply = self._create(messages, max_tokens, temperature, stream=False)
        self._check(reply)
        choices = getattr(reply, "choices", None)
        if not choices:
            raise Transient(f"{self.base_url} answered without an answer", "no choices in its reply", "Try again later")
        usage = reply.usage.model_dump(exclude_none=True) if reply.usage else {}
        counts = {key: value for key, value in usage.items() if isinstance(value, int)}
        text, stopped = choices[0].message.content or "", choices[0].finish_reason
        return Completion(text, reply.model or self.model, counts, stopped == "length")

    def stream(self, messages: Sequence[dict[str, str]], max_tokens: int, temperature: float) -> Generator[str]:
        """The answer piece by piece; the same errors, also in the middle.

        Closing the iterator closes the connection, so that nothing is generated for nobody.
        """
        with self._errors():
            reply = self._create(messages, max_tokens, temperature, stream=True)
            try:
                for chunk in reply:
                    self._check(chunk)
                    piece = chunk.choices[0].delta.content if chunk.choices else None
                    if piece:
                        yield piece
            finally:
                reply.close()

    def _check(self, reply: Any) -> None:
        """Look at who answered; any model of the endpoint will do."""

    def _create(self, messages: Sequence[dict[str, str]], max_tokens: int, temperature: float, *, stream: bool) -> Any:
        import openai

        wanted = {"max_tokens": max_tokens, "temperature": temperature}
        while True:
            named = {_INSTEAD[key] if key in self._refused else key: value for key, value in wanted.items()}
            arguments = {key: value for key, value in named.items() if key}
            try:
                return self._client.chat.completions.create(
                    model=self.model, messages=list(messages), stream=stream, **arguments
                )
            except openai.BadRequestError as error:
                if error.param not in _INSTEAD or error.param in self._refused:
                    raise
                logger.warning("%s refuses %s: it is asked without", self.model, error.param)
                self._refused |= {error.param}

    @cached_property
    def _client(self) -> Any:
        import openai

        return openai.OpenAI(base_url=self._url, api_key=self._key or "none", timeout=self._timeout, max_retries=self._retries)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """The client's many errors as our few."""
        import httpx2
        import openai

        try:
            yield
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise BadConfiguration(f"{self.base_url} refuses the key", f"status {error.status_code}", self._fixes[1]) from error
        except openai.RateLimitError as error:
            raise Transient(f"{self.base_url} is rate limited", reply_codes(error), "Try again later") from error
        except (openai.APIConnectionError, openai.InternalServerError, httpx2.HTTPError) as error:
            why = reply_codes(error) if isinstance(error, openai.APIStatusError) else _first_line(error)
            raise ServiceUnavailable(f"the LLM at {self.base_url} does not answer", why, self._fixes[0]) from error
        except openai.APIStatusError as error:
            raise BadConfiguration(
                f"{self.base_url} refuses the request to {self.model}", reply_codes(error), self._fixes[2]
            ) from error
        except openai.APIError as error:  # an error event in the middle of a stream
            raise Transient(f"{self.base_url} broke off", reply_codes(error), "Try again later") from error


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0][:300] if lines else type(error).__name__
