"""A generation swap while questions are answered: none fails, and no answer mixes two generations."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import httpx

from include.errors import Transient
from include.serving.options import Options
from tests.serving.conftest import make_key, running, write_collection, write_documents
from tests.support import HashEmbedder, export, index, query

if TYPE_CHECKING:
    from pathlib import Path

    from include.config import Settings

TEXT = "Paragraph {n} of page {page} is about whales and their long songs under water. "


def test_swap_while_questions_are_answered(settings: Settings, tmp_path: Path) -> None:
    pages = [(f"p{page}", "".join(TEXT.format(n=n, page=page) for n in range(12)), None) for page in range(20)]
    write_documents(tmp_path / "documents.db", pages)
    built: dict[int, set[tuple[Any, ...]]] = {}

    def build(tokens: int) -> None:
        sections = {"chunking": {"max_tokens": tokens}, "generations": {"keep": 0}}
        write_collection(settings, "handbook", tmp_path / "documents.db", **sections)
        try:
            index(settings, "handbook", embedder=HashEmbedder())
        except Transient:  # the run that drops the old tables may lose too: it is run again
            index(settings, "handbook", embedder=HashEmbedder())
        ((live,),) = query(settings, "select id from ragworks.generation where state = 'live'")
        built[live] = {(r["document"], r["ordinal"], r["start"], r["end"]) for r in export(settings, "handbook")}

    build(40)
    key, answers, stop = make_key(settings, "user"), [], threading.Event()

    def ask(url: str) -> None:
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=30) as http:
            while not stop.is_set():
                body = {"collection": "handbook", "query": "songs of whales", "top_k": 20, "copies": True}
                answers.append(http.post("/v1/search", json=body))

    with running(settings, Options(port=0, threads=4)) as (url, _):
        clients = [threading.Thread(target=ask, args=(url,)) for _ in range(4)]
        for client in clients:
            client.start()
        try:
            for tokens in (60, 90):
                build(tokens)
        finally:
            stop.set()
            for client in clients:
                client.join()
    assert {answer.status_code for answer in answers} == {200}
    assert len(built) == 3
    seen = set()
    for body in (answer.json() for answer in answers):
        generation = body["passport"]["generation"]
        seen.add(generation)
        places = {(h["document"], h["ordinal"], h["start"], h["end"]) for h in body["results"]}
        assert places
        assert places <= built[generation]
    assert len(seen) >= 2
