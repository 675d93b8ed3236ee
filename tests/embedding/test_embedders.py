"""The real small model, and an endpoint that speaks the OpenAI protocol."""

from __future__ import annotations

import json
import shutil
import threading
from http.server import HTTPServer
from typing import TYPE_CHECKING

import numpy as np
import pytest

from include.collection_file import Embedding
from include.config import Settings
from include.embedding import models
from include.embedding.endpoint import EndpointEmbedder
from include.embedding.local import LocalEmbedder, _load
from include.errors import BadConfiguration, ServiceUnavailable
from tests.json_handler import JsonHandler
from tests.support import HashEmbedder, export, index, query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def test_packaged_model() -> None:
    embedder = LocalEmbedder("all-MiniLM-L6-v2")
    assert (embedder.dimension, embedder.max_tokens) == (384, 254)
    texts = ["a short one", "a much longer text " * 30, "the middle one, of some words"]
    vectors = embedder.embed_documents(texts)
    assert vectors.shape == (3, 384)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    for text, vector in zip(texts, vectors, strict=True):  # in the order of the texts, though embedded by length
        assert float(vector @ embedder.embed_query(text)) == pytest.approx(1, abs=1e-5)


def test_fingerprint_follows_every_file_that_changes_a_vector(tmp_path: Path) -> None:
    source = models.find_model("all-MiniLM-L6-v2")
    copies = [tmp_path / name for name in ("same", "pooling", "weights", "readme")]
    for copy in copies:
        shutil.copytree(source, copy)
    pooling = copies[1] / "1_Pooling" / "config.json"
    pooling.write_text(pooling.read_text().replace('"pooling_mode_mean_tokens": true', '"pooling_mode_mean_tokens": false'))
    with (copies[2] / "model.safetensors").open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\x01\x02\x03\x04")
    (copies[3] / "README.md").write_text("other words")
    original = LocalEmbedder("all-MiniLM-L6-v2").fingerprint
    same = [LocalEmbedder(str(copy)).fingerprint == original for copy in copies]
    assert same == [True, False, False, True]


def test_half_precision_files_are_read_in_full_precision(tmp_path: Path) -> None:
    """As the fingerprint says: sums in half precision would be other vectors, by machine."""
    import torch
    from sentence_transformers import SentenceTransformer

    SentenceTransformer(str(models.find_model("all-MiniLM-L6-v2")), device="cpu").half().save(str(tmp_path / "half"))
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == "float16"
    half, full = LocalEmbedder(str(tmp_path / "half")), LocalEmbedder("all-MiniLM-L6-v2")
    assert half.fingerprint != full.fingerprint
    assert {one.dtype for one in _load(half._folder).parameters()} == {torch.float32}
    assert float(half.embed_query("a text") @ full.embed_query("a text")) == pytest.approx(1, abs=1e-4)


def test_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match="does not exist"):
        LocalEmbedder(str(tmp_path / "nowhere"))
    with pytest.raises(ServiceUnavailable, match="hub cannot be reached"):
        LocalEmbedder("nobody/nothing")


class _Endpoint(JsonHandler):
    """POST /v1/embeddings: vectors from a hash of the text, shuffled, as the protocol allows; the first call is refused."""

    failures = 0
    keys: list[str] = []  # noqa: RUF012

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).keys.append(self.headers.get("Authorization", ""))
        if type(self).failures:
            type(self).failures -= 1
            self._answer(503, {"error": {"message": "warming up"}})
        elif self.headers.get("Authorization") != "Bearer secret":
            self._answer(401, {"error": {"message": "no"}})
        elif refused := [text for text in body["input"] if "too much" in text]:
            said = {"message": f"cannot take {refused}", "type": "BadRequestError", "param": refused[0], "code": 400}
            self._answer(400, {"error": said})
        else:
            vectors = HashEmbedder().embed_documents(body["input"]) * 3
            data = [{"object": "embedding", "index": i, "embedding": v.tolist()} for i, v in enumerate(vectors)]
            self._answer(
                200,
                {
                    "object": "list",
                    "data": data[::-1],
                    "model": body["model"],
                    "usage": {"prompt_tokens": 1, "total_tokens": 1},
                },
            )


@pytest.fixture
def endpoint() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Endpoint)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


def test_endpoint(endpoint: str, settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    """A collection on an OpenAI-compatible endpoint; a passing failure is retried by the client."""
    for number in range(30):
        (documents / f"{number}.md").write_text(f"Page {number}.")
    collection(embedding={"model": "some-model", "backend": "openai", "base_url": endpoint})
    _Endpoint.failures = 1
    result = index(settings.model_copy(update={"embedding_api_key": "secret"}), "handbook")
    assert result["chunks"]["embedded"] == 30
    rows = export(settings, "handbook")
    expected = HashEmbedder().embed_documents([row["text"] for row in rows])
    similarities = np.sum(expected * np.array([row["embedding"] for row in rows]), axis=1)
    assert np.all(similarities > 0.999)


def test_endpoint_refuses_the_key(endpoint: str) -> None:
    embedding = Embedding(model="m", backend="openai", base_url=endpoint)
    with pytest.raises(BadConfiguration, match="refuses the key") as caught:
        EndpointEmbedder(embedding, Settings(embedding_api_key="hunter2")).embed_query("x")
    assert "hunter2" not in str(caught.value)


def test_what_an_endpoint_says_is_not_repeated(
    endpoint: str, settings: Settings, documents: Path, collection: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may quote what it was sent, and the error is kept with the run."""
    monkeypatch.setattr("include.embedding.endpoint.RETRIES", 0)
    (documents / "a.md").write_text("This is too much of Kowalczyk.")
    (documents / "b.md").write_text("Fine.")
    name = collection(
        embedding={"model": "some-model", "backend": "openai", "base_url": endpoint}, validation={"max_rejected": 1.0}
    )
    paid = settings.model_copy(update={"embedding_api_key": "secret"})
    assert index(paid, name)["chunks"]["total"] == 1
    ((expectation, kept),) = query(settings, "select expectation, detail from ragworks.quarantine")
    assert (expectation, "status 400" in kept, "type BadRequestError" in kept) == ("embeddable", True, True)
    assert "Kowalczyk" not in kept
    monkeypatch.setattr(_Endpoint, "_answer", _unavailable)
    (documents / "c.md").write_text("More of Kowalczyk.")
    with pytest.raises(ServiceUnavailable, match=r"status 503.*its log has the words") as caught:
        index(paid, name)
    assert "Kowalczyk" not in str(caught.value)


def _unavailable(self: _Endpoint, status: int, body: object) -> None:
    self.send_response(503)
    content = json.dumps({"error": {"message": f"no room for Kowalczyk {body}"}}).encode()
    self.send_header("Content-Type", "application/json")
    self.send_header("Content-Length", str(len(content)))
    self.end_headers()
    self.wfile.write(content)


def test_endpoint_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("include.embedding.endpoint.RETRIES", 0)
    embedding = Embedding(model="m", backend="openai", base_url="http://127.0.0.1:9/v1")
    with pytest.raises(ServiceUnavailable, match="does not answer"):
        EndpointEmbedder(embedding, Settings()).embed_query("x")


def test_endpoint_needs_an_address() -> None:
    with pytest.raises(BadConfiguration, match="base_url"):
        EndpointEmbedder(Embedding(backend="openai"), Settings())
