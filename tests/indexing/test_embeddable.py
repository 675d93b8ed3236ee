"""A text that the model refuses is quarantined with its document, and stops nothing else; a model that refuses all stops."""

from __future__ import annotations

import json
import threading
from http.server import ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from include.embedding.embedder import CANARY_TEXTS
from include.errors import BadConfiguration, BadData, ServiceUnavailable
from include.indexing.embeddable import SLICE, embed_texts
from tests.json_handler import JsonHandler
from tests.support import HashEmbedder, export, index, query, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from include.config import Settings

OPEN = "select uri, stage, expectation, detail from ragworks.quarantine where resolved_at is null order by uri"


class Refusing(HashEmbedder):
    """Fails over some texts, as a tokenizer or a pooling layer does."""

    def __init__(self, *words: str) -> None:
        super().__init__()
        self._words = words

    def embed_documents(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> NDArray[np.float32]:
        if any(word in text for word in self._words for text in texts):
            raise ValueError(f"cannot take {texts}")
        return super().embed_documents(texts)


def _pages(documents: Path, count: int = 40) -> None:
    for number in range(count):
        (documents / f"{number:02}.md").write_text(f"# Page {number}\n\nText number {number}.")
    settle(documents)


def _documents(settings: Settings) -> set[str]:
    return {row["document"] for row in export(settings, "handbook")}


def test_one_text_that_a_model_refuses_is_quarantined(
    settings: Settings, documents: Path, collection: Callable[..., str]
) -> None:
    collection()
    _pages(documents)
    (documents / "bad.md").write_text("# Bad\n\nA poison for Kowalczyk.")
    (documents / "copy.md").write_text("# Bad\n\nA poison for Kowalczyk.")
    settle(documents)
    embedder = Refusing("poison")
    done = index(settings, "handbook", embedder=embedder)
    assert (done["quarantined"], done["chunks"]["embedded"], done["chunks"]["total"]) == (2, 40, 40)
    rows = query(settings, OPEN)
    assert [row[:3] for row in rows] == [("bad.md", "chunk", "embeddable"), ("copy.md", "chunk", "embeddable")]
    assert all("refused by the embedding model: ValueError" in row[3] and "Kowalczyk" not in row[3] for row in rows)
    assert query(settings, "select count(*) from ragworks.work_item") == [(0,)]
    again = index(settings, "handbook", embedder=embedder)
    assert (again["chunks"]["embedded"], again["quarantined"]) == (0, 2)
    query(settings, "update ragworks.quarantine set retry_at = now() - interval '1 second' returning id")
    sound = index(settings, "handbook", embedder=HashEmbedder())  # its time has come, and the model is mended
    assert (sound["quarantined"], {"bad.md", "copy.md"} <= _documents(settings)) == (0, True)


def test_a_document_whose_new_text_is_refused_keeps_the_old_one(
    settings: Settings, documents: Path, collection: Callable[..., str]
) -> None:
    collection()
    _pages(documents, 3)
    index(settings, "handbook", embedder=Refusing("poison"))
    (documents / "01.md").write_text("# Page 1\n\nNow a poison.")
    settle(documents)
    done = index(settings, "handbook", embedder=Refusing("poison"))  # alone in its batch
    assert (done["quarantined"], done["chunks"]["embedded"]) == (1, 0)
    assert any("Text number 1." in row["text"] for row in export(settings, "handbook"))


def test_many_refusals_stop_the_run(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    collection()
    _pages(documents)
    with pytest.raises(BadData, match="40 of 40 new or changed documents were rejected"):
        index(settings, "handbook", embedder=Refusing("Text"))
    assert query(settings, "select count(*) from ragworks.generation where state = 'live'") == [(0,)]


def test_a_model_that_refuses_everything_stops_the_run(
    settings: Settings, documents: Path, collection: Callable[..., str]
) -> None:
    collection()
    _pages(documents)
    with pytest.raises(BadConfiguration, match="refuses every text: ValueError"):
        index(settings, "handbook", embedder=Refusing("Text", CANARY_TEXTS[1]))
    assert query(settings, OPEN) == []


def test_the_refused_are_found_with_few_texts_embedded_again() -> None:
    texts = [f"text {n}" for n in range(10 * SLICE)]
    for bad in (3, 5 * SLICE + 77):
        texts[bad] = f"poison {bad}"
    embedder = Refusing("poison")
    signs: list[int] = []
    vectors, refused = embed_texts(embedder, texts, signs.append)
    assert refused == {3: "ValueError", 5 * SLICE + 77: "ValueError"}
    assert set(vectors) == set(range(len(texts))) - set(refused)
    expected = HashEmbedder().embed_documents(texts)
    assert all((vectors[i] == expected[i]).all() for i in vectors)
    assert len(embedder.texts) <= len(texts) + 3  # the canary; what a failing call was sent is not counted here
    assert len(signs) > 10


class _Endpoint(JsonHandler):
    """An OpenAI-compatible endpoint that refuses what holds a word, and quotes it."""

    refuses = ("poison",)
    status = 400

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        bad = [text for text in body["input"] if any(word in text for word in self.refuses)]
        if bad:
            error = {"message": f"refused: {bad}", "type": "invalid_request_error", "param": None, "code": "content_filter"}
            self._answer(self.status, {"error": error})
            return
        data = [{"object": "embedding", "index": i, "embedding": v.tolist()}
                for i, v in enumerate(HashEmbedder().embed_documents(body["input"]))]  # fmt: skip
        self._answer(200, {"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 1, "total_tokens": 1}})


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The section `embedding` for an endpoint of this test."""
    monkeypatch.setattr("include.embedding.endpoint.RETRIES", 0)
    monkeypatch.setattr(_Endpoint, "refuses", ("poison",))
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Endpoint)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield {"model": "some-model", "backend": "openai", "base_url": f"http://127.0.0.1:{server.server_port}/v1"}
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("status", [400, 413, 422])
def test_one_text_that_an_endpoint_refuses_is_quarantined(
    status: int, endpoint: dict[str, str], settings: Settings, documents: Path, collection: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(_Endpoint, "status", status)
    collection(embedding=endpoint)
    _pages(documents)
    (documents / "bad.md").write_text("# Bad\n\nA poison for Kowalczyk.")
    settle(documents)
    done = index(settings, "handbook")
    assert (done["quarantined"], done["chunks"]["total"]) == (1, 40)
    ((_, _, expectation, detail),) = query(settings, OPEN)
    assert expectation == "embeddable"
    assert f"status {status}, type invalid_request_error, code content_filter" in detail
    assert "Kowalczyk" not in detail


def test_an_endpoint_that_refuses_everything_stops_the_run(
    endpoint: dict[str, str],
    settings: Settings,
    documents: Path,
    collection: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_Endpoint, "refuses", ("Text", *CANARY_TEXTS))
    collection(embedding=endpoint)
    _pages(documents)
    with pytest.raises(BadConfiguration, match="refuses the request: status 400"):
        index(settings, "handbook")
    assert query(settings, OPEN) == []


def test_an_endpoint_that_is_away_quarantines_nothing(
    endpoint: dict[str, str],
    settings: Settings,
    documents: Path,
    collection: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_Endpoint, "status", 503)
    collection(embedding=endpoint)
    _pages(documents)
    (documents / "bad.md").write_text("# Bad\n\nA poison.")
    settle(documents)
    with pytest.raises(ServiceUnavailable):
        index(settings, "handbook")
    assert query(settings, OPEN) == []
