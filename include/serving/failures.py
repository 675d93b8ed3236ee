"""What goes wrong, as HTTP says it: a status, and a body in the shape that OpenAI's clients read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import psycopg_pool

from include.errors import BadConfiguration, BadData, RagworksError, ServiceUnavailable, Transient
from include.store.errors import translate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
CANCELLED = "57014"  # SQLSTATE of a statement beyond statement_timeout
AGAIN_SECONDS = 5  # before a service that was down is asked again


@dataclass
class Refusal(Exception):
    """A request that gets no result.

    :param code: one word for programs.
    :param message: what happened, why, and what to do.
    :param param: the field that is wrong.
    :param retry_after: seconds.
    """

    status: int
    code: str
    message: str
    param: str | None = None
    retry_after: int | None = None

    @property
    def body(self) -> dict[str, Any]:
        """As https://platform.openai.com/docs/guides/error-codes has it; what is no UTF-8 is replaced."""
        kind = _TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        clean = self.message.encode("utf-8", "replace").decode()
        return {"error": {"message": clean, "type": kind, "code": self.code, "param": self.param}}

    @property
    def headers(self) -> dict[str, str]:
        """``Retry-After`` where it makes sense, and which login is meant."""
        headers = {"WWW-Authenticate": "Bearer"} if self.status == 401 else {}
        return headers if self.retry_after is None else {**headers, "Retry-After": str(self.retry_after)}


def bad_request(message: str, param: str | None = None, code: str = "invalid_value") -> Refusal:
    """400."""
    return Refusal(400, code, message, param)


def refusal(error: Exception) -> Refusal | None:
    """What an error of the layers below means for the caller; None when it is a defect.

    Configuration is not the caller's to see or to change: it is told that the server has a fault, the log has the reason.
    """
    if isinstance(error, Refusal):
        return error
    if isinstance(error, psycopg.Error):
        return _of_postgres(error)
    if isinstance(error, BadData):
        return Refusal(404, "collection_not_indexed", str(error), "collection")
    if isinstance(error, BadConfiguration):
        return Refusal(503, "server_misconfigured", "The server is misconfigured for this request; its log has the reason")
    if isinstance(error, Transient):
        return Refusal(503, "unavailable", str(error), retry_after=AGAIN_SECONDS)
    return Refusal(500, "failed", str(error)) if isinstance(error, RagworksError) else None


def of_llm(error: Exception) -> Exception:
    """What a failure of the language model is to the caller: the question was right, somebody behind us was not."""
    if isinstance(error, ServiceUnavailable):
        return Refusal(502, "llm_unavailable", str(error), retry_after=AGAIN_SECONDS)
    return refusal(error) or error


def _of_postgres(error: psycopg.Error) -> Refusal | None:
    if isinstance(error, psycopg_pool.PoolTimeout):
        return Refusal(503, "database_unavailable", "The database does not answer. Try again", retry_after=AGAIN_SECONDS)
    if error.sqlstate == CANCELLED:
        return timed_out()
    known = translate(error)
    if known is None:
        return None
    return Refusal(503, "database_unavailable", f"{known.what}. Try again", retry_after=AGAIN_SECONDS)


def timed_out() -> Refusal:
    """504."""
    return Refusal(504, "timeout", "The request took longer than the server allows. Ask for less, or try again")


def of_validation(errors: Sequence[Mapping[str, Any]]) -> Refusal:
    """Of pydantic's errors, as one line that names each field; input is not repeated."""
    if any(error["type"] == "json_invalid" for error in errors):
        return Refusal(400, "invalid_json", f"The body is not valid JSON: {errors[0].get('ctx', {}).get('error', '')}")
    lines = [f"{_place(error)}: {str(error['msg']).removeprefix('Value error, ')}" for error in errors[:5]]
    return bad_request("; ".join(lines), _place(errors[0]))


def _place(error: Mapping[str, Any]) -> str:
    where = error["loc"][1:] if error["loc"] and error["loc"][0] in ("body", "query", "path") else error["loc"]
    return ".".join(str(part) for part in where)[:200].encode("utf-8", "replace").decode() or "body"
