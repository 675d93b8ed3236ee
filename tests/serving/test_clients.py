"""Clients as they are: the openai package unchanged, and requests in Cohere's shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import openai  # noqa: TID253 - what is tested is the client
import pytest

from tests.serving.conftest import SAID, FakeLLM, make_key, running
from tests.support import HashEmbedder

if TYPE_CHECKING:
    from include.config import Settings
    from tests.serving.conftest import Client

QUESTION = [
    {"role": "user", "content": "How fast is light?"},
    {"role": "assistant", "content": "Very."},
    {"role": "user", "content": [{"type": "text", "text": "Where do kangaroos carry their young?"}]},
]


@pytest.fixture
def theirs(url: str, keys: dict[str, str]) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=keys["user"], max_retries=0)


def test_embeddings(theirs: openai.OpenAI) -> None:
    """The client asks for base64 by default and decodes it."""
    texts = [f"text {n}" for n in range(40)]
    exact = HashEmbedder().embed_queries(texts)
    for encoding in ({}, {"encoding_format": "float"}):
        reply = theirs.embeddings.create(model="handbook", input=texts, **encoding)
        assert np.allclose([row.embedding for row in reply.data], exact, atol=1e-6)
        assert [row.index for row in reply.data] == list(range(40))
        assert reply.usage.total_tokens == 80
    one = theirs.embeddings.create(model="handbook", input="text 7", dimensions=64)
    assert np.allclose(one.data[0].embedding, exact[7], atol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"input": [1, 2, 3]}, "token arrays"),
        ({"input": [[1, 2], [3]]}, "token arrays"),
        ({"input": "x", "dimensions": 32}, "64 dimensions"),
        ({"input": []}, "1 to 256"),
        ({"input": ["a", ""]}, "empty"),
    ],
)
def test_embeddings_that_are_refused(wrong: dict[str, Any], says: str, theirs: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match=says):
        theirs.embeddings.create(model="handbook", **wrong)


def test_chat(theirs: openai.OpenAI) -> None:
    FakeLLM.asked.clear()
    reply = theirs.chat.completions.create(model="handbook", messages=QUESTION, temperature=0.5, max_tokens=50)  # type: ignore[call-overload]
    (choice,) = reply.choices
    assert (choice.message.content, choice.message.role, choice.finish_reason) == (SAID, "assistant", "stop")
    (citation,) = reply.citations
    assert reply.sources[citation["number"] - 1]["document"] == citation["document"]
    assert reply.passport["llm"]["model"] == "fake"
    assert reply.id == f"chatcmpl-{reply.passport['id']}"
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens > 0
    (asked,) = FakeLLM.asked
    assert (asked["temperature"], asked["max_tokens"]) == (0.5, 50)
    told = str(asked["messages"])
    assert "Where do kangaroos carry their young?" in told
    assert "How fast is light?" not in told  # earlier turns are not read
    assert "salaries" not in told
    assert "ninety thousand" not in told


def test_streaming(theirs: openai.OpenAI) -> None:
    chunks = list(
        theirs.chat.completions.create(
            model="handbook",
            messages=QUESTION,
            stream=True,
            stream_options={"include_usage": True},  # type: ignore[call-overload]
        )
    )
    *pieces, last, usage = chunks
    assert "".join(c.choices[0].delta.content or "" for c in pieces) == SAID
    assert len(pieces) > 3
    assert pieces[0].choices[0].delta.role == "assistant"
    assert last.choices[0].finish_reason == "stop"
    assert last.citations[0]["quote"]
    assert last.passport["llm"]["model"] == "fake"
    assert (usage.choices, usage.usage.total_tokens > 0) == ([], True)
    assert len({c.id for c in chunks}) == 1


def test_a_stream_as_it_is_sent(client: Client) -> None:
    text = client.chat("kangaroo", stream=True).text
    assert text.endswith("data: [DONE]\n\n")
    assert all(line.startswith("data: ") for line in text.split("\n\n") if line)


def test_chat_sees_what_the_key_may_see(client: Client) -> None:
    question = "What is the kangaroo budget?"
    assert "salaries" not in {s["document"] for s in client.chat(question).json()["sources"]}
    assert "salaries" in {s["document"] for s in client.chat(question, key="hr").json()["sources"]}
    assert client.chat(question, principals=["hr"]).status_code == 403


def test_errors_are_what_the_client_knows(theirs: openai.OpenAI, url: str, keys: dict[str, str]) -> None:
    with pytest.raises(openai.NotFoundError, match="no such collection"):
        theirs.chat.completions.create(model="nowhere", messages=QUESTION)  # type: ignore[arg-type]
    with pytest.raises(openai.BadRequestError, match="user message"):
        theirs.chat.completions.create(model="handbook", messages=[{"role": "system", "content": "x"}])
    with pytest.raises(openai.BadRequestError, match="tools"):
        theirs.chat.completions.create(model="handbook", messages=QUESTION, tools=[{"type": "function"}])  # type: ignore[call-overload]
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{url}/v1", api_key="rw_wrong", max_retries=0).models.list()
    with pytest.raises(openai.PermissionDeniedError):
        openai.OpenAI(base_url=f"{url}/v1", api_key=keys["metrics"], max_retries=0).embeddings.create(
            model="handbook", input="x"
        )
    assert [model.id for model in theirs.models.list()] == ["handbook", "other"]


@pytest.mark.parametrize("stream", [False, True])
def test_dead_llm(stream: bool, served: Settings) -> None:
    dead = served.model_copy(update={"llm_base_url": "http://127.0.0.1:9/v1"})
    key = make_key(served, f"dead {stream}")
    with running(dead) as (url, _):
        body = {"model": "handbook", "messages": QUESTION, "stream": stream}
        reply = httpx.post(f"{url}/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {key}"}, timeout=60)
    assert (reply.status_code, reply.json()["error"]["code"]) == (502, "llm_unavailable")


def test_rerank_in_coheres_shape(client: Client) -> None:
    """Without a reranker: cosine by the embedder, and it says so. Documents come back only when asked for."""
    documents = ["Light is fast.", {"text": "pouch"}, "Something else."]
    body = {"model": "handbook", "query": "pouch", "documents": documents, "top_n": 2}
    reply = client.post("/v1/rerank", {**body, "return_documents": True}).json()
    assert reply["results"][0]["index"] == 1
    assert reply["results"][0]["relevance_score"] == pytest.approx(1.0, abs=1e-5)
    assert reply["results"][0]["document"] == {"text": "pouch"}
    assert len(reply["results"]) == 2
    assert reply["meta"]["scored_by"]["kind"] == "embedder"
    assert "no reranker" in reply["meta"]["warnings"][0]
    assert {"id", "model", "results", "meta", "usage"} <= set(reply)
    assert "document" not in client.post("/v1/rerank", body).json()["results"][0]
    scores = [r["relevance_score"] for r in reply["results"]]
    assert scores == sorted(scores, reverse=True)
    assert client.post("/v1/rerank", body | {"model": "nowhere"}).status_code == 404
    assert client.post("/v1/rerank", body, key="other").status_code == 403
    assert client.post("/v1/rerank", body | {"documents": []}).status_code == 400
