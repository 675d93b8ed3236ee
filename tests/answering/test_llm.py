"""The client against a server that speaks the real protocol."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from include.answering.llm import LLM, open_llm
from include.config import Settings
from include.errors import BadConfiguration, RagworksError, ServiceUnavailable, Transient

if TYPE_CHECKING:
    from tests.answering.llm_server import FakeLLM

ASKED = [{"role": "user", "content": "Hi"}]


def test_complete(fake: FakeLLM) -> None:
    llm = open_llm(Settings(llm_base_url=fake.url, llm_model="tiny", llm_api_key="secret"))
    assert llm
    done = llm.complete(ASKED, 9, 0.0)
    assert (done.text, done.model, done.usage["total_tokens"], done.truncated) == ("Hello.", "tiny-1", 10, False)
    assert fake.keys == ["Bearer secret"]
    assert fake.requests[0] == {"messages": ASKED, "model": "tiny", "max_tokens": 9, "temperature": 0.0, "stream": False}
    fake.finish = "length"
    assert llm.complete(ASKED, 9, 0.0).truncated


def test_stream_and_closing_it(fake: FakeLLM) -> None:
    llm = LLM(fake.url, "tiny")
    assert "".join(llm.stream(ASKED, 9, 0.0)) == "Hello."
    pieces = llm.stream(ASKED, 9, 0.0)
    assert next(pieces) == "Hel"
    pieces.close()


def test_newer_models_are_asked_as_they_want(fake: FakeLLM) -> None:
    fake.refuses = "max_tokens"
    llm = LLM(fake.url, "tiny")
    assert llm.complete(ASKED, 9, 0.0).text == "Hello."
    assert llm.complete(ASKED, 9, 0.0).text == "Hello."
    assert [r.get("max_completion_tokens") for r in fake.requests] == [None, 9, 9]  # refused once, remembered


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (401, BadConfiguration, "RAGWORKS_LLM_API_KEY"),
        (404, BadConfiguration, "RAGWORKS_LLM_MODEL"),
        (400, BadConfiguration, "RAGWORKS_LLM_MODEL"),
        (429, Transient, "rate limited"),
        (503, ServiceUnavailable, "does not answer"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_errors_say_what_to_do(status: int, error: type[RagworksError], message: str, streamed: bool, fake: FakeLLM) -> None:
    fake.status = status
    llm = LLM(fake.url, "tiny", retries=0)
    with pytest.raises(error, match=message):
        list(llm.stream(ASKED, 9, 0.0)) if streamed else llm.complete(ASKED, 9, 0.0)


def test_a_dead_one_and_one_that_dies(fake: FakeLLM) -> None:
    fake.breaks = True
    pieces = LLM(fake.url, "tiny", retries=0).stream(ASKED, 9, 0.0)
    fake.reply = "A longer reply."
    with pytest.raises(Transient, match="broke off"):
        list(pieces)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://me:secret@127.0.0.1:{free.getsockname()[1]}/v1"
        with pytest.raises(ServiceUnavailable, match="does not answer") as error:
            LLM(url, "tiny", retries=0).complete(ASKED, 9, 0.0)
    assert "secret" not in str(error.value)


def test_settings() -> None:
    assert open_llm(Settings()) is None
    with pytest.raises(BadConfiguration, match="RAGWORKS_LLM_MODEL"):
        open_llm(Settings(llm_base_url="http://localhost/v1"))
    with pytest.raises(BadConfiguration, match="not an http address"):
        open_llm(Settings(llm_base_url="localhost", llm_model="tiny"))
