"""Serves drift-clinc150 (searches) and drift-squad-a (questions that are answered), and logs them as a server does.

The corpus of drift-squad-a is squad-a. drift-clinc150 has none: it gets a page an intent, made of the words of the intent's
name and of its topic, and never of a query. Texts are embedded once, in this process.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from include.answering.ask import ask
from include.collection_file import load_collection
from include.embedding.local import LocalEmbedder
from include.indexing.context import open_context
from include.indexing.pipeline import index_collection
from include.retrieval.query import Query
from include.retrieval.searcher import Searcher
from include.store.pool import open_pool
from include.store.query_log import LoggedQuery

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from include.answering.answer import Answer
    from include.config import Settings
    from include.retrieval.query import Found

MODEL = "all-MiniLM-L6-v2"
STREAMS = {"clinc": "drift-clinc150", "squad": "drift-squad-a"}


class Remembering:
    """The packaged encoder; a text is embedded once."""

    def __init__(self) -> None:
        self.real = LocalEmbedder(MODEL)
        self.fingerprint, self.dimension = self.real.fingerprint, self.real.dimension
        self.max_tokens = self.real.max_tokens
        self.held: dict[str, NDArray[np.float32]] = {}

    @property
    def tokenizer(self) -> Any:
        """Of the encoder."""
        return self.real.tokenizer

    def embed_documents(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> NDArray[np.float32]:
        """Shape (len(texts), dimension)."""
        new = sorted({text for text in texts if text not in self.held}, key=len)
        if new:
            self.held.update(zip(new, self.real.embed_documents(new), strict=True))
        return np.stack([self.held[text] for text in texts])

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Shape (dimension,)."""
        return self.embed_documents([text])[0]

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Shape (len(texts), dimension)."""
        return self.embed_documents(texts)


@dataclass(frozen=True, slots=True)
class Served:
    """One question of a stream, as it was answered."""

    row: Mapping[str, Any]
    found: Found
    answer: Answer | None
    seconds: Mapping[str, float]

    @property
    def time(self) -> datetime:
        """When it was asked."""
        return datetime.fromisoformat(str(self.row["timestamp"]))


def lines(path: Path) -> list[dict[str, Any]]:
    """Rows of gzipped JSON lines."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def corpus(data: Path, stream: str) -> list[dict[str, Any]]:
    """Documents of a stream's collection."""
    if stream == "squad":
        return lines(data / "squad-a" / "corpus.jsonl.gz")
    named = sorted(
        {(r["metadata"]["domain"], r["metadata"]["intent"]) for r in lines(data / STREAMS[stream] / "stream.jsonl.gz")}
    )
    known = [(domain.replace("_", " "), intent) for domain, intent in named if domain != "out_of_scope"]
    return [
        {"id": intent, "title": intent.replace("_", " "), "text": f"{intent.replace('_', ' ')}: {domain}", "metadata": {}}
        for domain, intent in known
    ]


def prepare(settings: Settings, data: Path, stream: str, monitoring: Mapping[str, Any], embedder: Remembering) -> None:
    """Write the collection file and index the corpus."""
    path = settings.home / f"{stream}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in corpus(data, stream)))
    kept = {"keep_texts_days": 36_500, "keep_days": 36_500}  # the streams are of 2024
    content = {
        "name": stream,
        "source": {"type": "jsonl", "path": str(path)},
        "query_log": kept,
        "monitoring": dict(monitoring),
    }
    settings.collections_dir.mkdir(parents=True, exist_ok=True)
    (settings.collections_dir / f"{stream}.yaml").write_text(yaml.safe_dump(content))
    with open_context(settings, stream, embedder=embedder) as context:
        index_collection(context)


def serve(settings: Settings, data: Path, stream: str, embedder: Remembering) -> list[Served]:
    """Ask every question of a stream; nothing is logged yet."""
    rows = lines(data / STREAMS[stream] / "stream.jsonl.gz")
    embedder.embed_queries([row["text"] for row in rows])
    collection = load_collection(settings, stream)
    served = []
    with open_pool(settings) as pool:
        searcher = Searcher(settings, pool, stream, embedder=embedder)
        for row in rows:
            query = Query(row["text"])
            if stream == "squad":
                asked = ask(searcher, settings, collection, query, None, embedder=embedder)
                served.append(Served(row, asked.found, asked.answer, asked.seconds))
            else:
                found = searcher.find(query)
                served.append(Served(row, found, None, found.seconds))
    return served


def logged(collection: int, one: Served) -> LoggedQuery:
    """The row that serving writes."""
    found, abstained = one.found, one.answer is not None and one.answer.abstained
    return LoggedQuery(
        collection_id=collection, generation_id=found.passport["generation"], kind="chat" if one.answer else "search",
        query=str(one.row["text"]),
        embedding=found.vector, passport=found.passport,
        results=[
            {"document": h.document, "ordinal": h.ordinal, "start": h.start, "end": h.end, "score": h.score}
            for h in found.hits
        ],
        status="abstained" if abstained and found.hits else "ok" if found.hits else "empty",
        seconds=one.seconds, created_at=one.time,
    )  # fmt: skip
