"""A library of which a known share may be seen: by a filter on metadata, or by who asks.

Each document of the judged collections is marked `p50` in half of the cases, `p5` in one of twenty, and so on; with access
lists, the same words are principals. Which documents is drawn from a hash of their ids, so it is the same everywhere.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from psycopg import sql

from bench.workload.library import TOGETHER
from include.evaluation.judgements import read_qrels, read_queries
from include.indexing.context import open_context
from include.indexing.pipeline import index_collection
from include.store import generations
from include.store.pool import open_pool

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from include.config import Settings
    from include.store.generations import Generation
    from include.store.pool import Pool

SHARES = {"p50": 0.5, "p25": 0.25, "p5": 0.05, "p1": 0.01, "p01": 0.001}
EVERYBODY = "everybody"


def write_source(data: Path, home: Path, names: Sequence[str], *, acl: bool, texts: dict[str, str] | None = None) -> None:
    """The collections' documents as one source, each with its marks.

    :param acl: with access lists, so that nothing is seen without a principal.
    :param texts: id → what is put before the document's text.
    """
    folder = home / "sources"
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        with gzip.open(data / name / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
            rows = [_marked(json.loads(line), name, acl=acl, texts=texts or {}) for line in lines]
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        (folder / f"{name}.jsonl.gz").write_bytes(gzip.compress(content, compresslevel=1, mtime=0))


def _marked(row: dict[str, Any], part: str, *, acl: bool, texts: dict[str, str]) -> dict[str, Any]:
    uri = f"{part}/{row['id']}"
    marks = [mark for mark, share in SHARES.items() if _draw(f"{mark}:{uri}") < share]
    made = {
        "id": uri,
        "title": row.get("title") or "",
        "text": texts.get(uri, "") + row["text"],
        "metadata": {**(row.get("metadata") or {}), "part": part, **dict.fromkeys(marks, True)},
    }
    return {**made, "acl": [EVERYBODY, *marks]} if acl else made


def _draw(key: str) -> float:
    """From 0 to 1, always the same for a key."""
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big") / 2**64


def index(settings: Settings, **sections: Any) -> dict[str, Any]:
    """Write the collection's file with these sections, and bring the index up to date with the source."""
    write_collection(settings, **sections)
    with open_context(settings, TOGETHER) as context:
        return index_collection(context)


def write_collection(settings: Settings, **sections: Any) -> None:
    """The collection's file."""
    content = {
        "name": TOGETHER,
        "source": {"type": "jsonl", "path": str(settings.home / "sources"), "glob": "*.jsonl.gz"},
        "near_duplicates": {"threshold": None},
        **sections,
    }
    (settings.collections_dir / f"{TOGETHER}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


def questions(data: Path, names: Sequence[str], each: int, seed: int = 0) -> dict[str, dict[str, str]]:
    """Collection → id → text of some of its judged questions, drawn without favour."""
    drawn = {}
    for name in names:
        judged = read_qrels(str(data / name / "qrels.tsv"))
        known = {key: text for key, text in read_queries(str(data / name / "queries.jsonl.gz")).items() if key in judged}
        keys = np.random.default_rng(seed).permutation(sorted(known))[:each]
        drawn[name] = {str(key): known[str(key)] for key in keys}
    return drawn


@dataclass(frozen=True)
class Held:
    """What a generation holds, for exact search.

    :param places: of each chunk, (document, ordinal).
    :param vectors: of unit length, shape (chunks, dimension).
    :param metadata: of each chunk's document.
    """

    places: list[tuple[str, int]]
    vectors: NDArray[np.float32]
    metadata: list[dict[str, Any]]


def live(pool: Pool) -> Generation:
    """The generation that answers."""
    with pool.connection() as connection:
        return generations.live_of(connection, TOGETHER)


def held(settings: Settings) -> Held:
    """All chunks of the live generation."""
    with open_pool(settings) as pool, pool.connection() as connection:
        generation = generations.live_of(connection, TOGETHER)
        statement = sql.SQL(
            "select d.uri, s.ordinal, c.embedding, d.id from {chunks} c join {spans} s using (document_id, seq)"
            " join ragworks.document d on d.id = c.document_id order by d.uri, s.ordinal"
        ).format(chunks=generation.chunks, spans=generation.spans)
        rows = connection.execute(statement).fetchall()
        found = connection.execute("select id, metadata from ragworks.document").fetchall()
    metadata = dict(found)
    vectors = np.array([row[2].to_numpy() for row in rows], dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Held([(row[0], row[1]) for row in rows], vectors, [metadata[row[3]] for row in rows])
