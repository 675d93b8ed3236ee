"""Filtered search on 100,000 chunks: what share of the right ten is found, and how long it takes, beside its alternatives.

    python -m bench.filtered --data ../shared/data --home /tmp/library100k --out docs/benchmarks/filtered

Four judged collections are indexed as one by the pipeline with the real model, in chunks of 24 tokens so that they are more
than 100,000 (once; again nothing is embedded). For each share of the chunks that a filter leaves, the same questions are
asked of the search as served (its whole first stage, the question's embedding excluded) and of bare statements: HNSW with the
filter as it is, its iterative scan in strict and in relaxed order, and an exact scan. Recall@10 is against a matrix product of
the same vectors under the same filter; equal similarities count as equally right. Then access lists in place of filters, and
lexical and hybrid search with each collection's own questions. Writes OUT.json, OUT.md and OUT.svg.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from psycopg import sql

from bench import filtered_report
from bench.workload import shares
from bench.workload.library import settings_of
from include.collection_file import Retrieval
from include.embedding.local import LocalEmbedder
from include.retrieval.candidates import Asked, prepare
from include.retrieval.first_stage import passages
from include.store import search
from include.store.pool import open_pool, snapshot
from include.store.scope import ALL_PRINCIPALS, open_scope

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from include.collection_file import Mode
    from include.store.generations import Generation
    from include.store.pool import Connection, Pool
    from include.store.scope import AllPrincipals, Scope

    Find = Callable[[Connection, "Question"], Sequence[tuple[str, int]]]

NAMES = ("zenml-docs-qa", "so-airflow", "squad-a", "scifact")
PLACES, TIE = 10, 1e-6
WARM = 10  # questions asked before those that count
WAYS = {"plain": "off", "strict": "strict_order", "relaxed": "relaxed_order"}
FAR = {"part": ["zenml-docs-qa", "so-airflow", "squad-a"]}  # asked with claims of scifact, whose neighbours are all elsewhere


@dataclass(frozen=True)
class Case:
    """A part of the library that a question may see.

    :param served_only: the alternatives are not measured once more.
    """

    name: str
    filters: dict[str, Any]
    principals: tuple[str, ...] | AllPrincipals = ALL_PRINCIPALS
    served_only: bool = False
    asked_by: tuple[str, ...] = NAMES

    def sees(self, metadata: dict[str, Any]) -> bool:
        """Whether a document is in it."""
        marks = [] if self.principals is ALL_PRINCIPALS else [p for p in self.principals if p != shares.EVERYBODY]
        return all(metadata.get(mark) for mark in marks) and all(
            metadata.get(key) in (value if isinstance(value, list) else [value]) for key, value in self.filters.items()
        )


FILTERS = (
    Case("none", {}),
    *(Case(mark, {mark: True}) for mark in shares.SHARES),
    Case("far", FAR, asked_by=("scifact",)),
)
ACCESS = tuple(Case(f"acl {p}", {}, (p,), served_only=True) for p in (shares.EVERYBODY, *shares.SHARES))


@dataclass(frozen=True)
class Question:
    """One question, embedded."""

    part: str
    text: str
    vector: NDArray[np.float32]


class Timed:
    """Seconds of calls."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, call: Callable[[], Any]) -> Any:
        """What it returns."""
        started = time.perf_counter()
        found = call()
        self.seconds.append(time.perf_counter() - started)
        return found

    @property
    def figures(self) -> dict[str, float]:
        """Milliseconds."""
        p50, p95 = np.percentile(self.seconds, [50, 95]) * 1000
        return {"p50_ms": round(float(p50), 1), "p95_ms": round(float(p95), 1), "asked": len(self.seconds)}


def main() -> None:
    """Build what is missing, measure, write."""
    args = _arguments()
    logging.basicConfig(level=logging.INFO)
    settings = settings_of(args.home)
    chunking = {"max_tokens": args.max_tokens}
    shares.write_source(args.data, args.home, args.names, acl=False)
    shares.index(settings, chunking=chunking)
    asked = _questions(args.data, args.names, args.questions)
    held = shares.held(settings)
    report: dict[str, Any] = {
        "command": f"python -m bench.filtered --questions {args.questions} --max-tokens {args.max_tokens}",
        "chunks": len(held.places), "documents": len({uri for uri, _ in held.places}), "questions": len(asked),
        "cpus": os.cpu_count(), "load_before": os.getloadavg()[0],
    }  # fmt: skip
    with open_pool(settings) as pool:
        report["rows"] = [_measure(pool, held, asked, case) for case in FILTERS]
        report["modes"] = [_mode(pool, asked, mode, part) for mode in ("lexical", "hybrid") for part in args.names]
        shares.write_source(args.data, args.home, args.names, acl=True)
        shares.index(settings, chunking=chunking)
        report["rows"] += [_measure(pool, held, asked, case) for case in ACCESS]
    shares.write_source(args.data, args.home, args.names, acl=False)
    shares.index(settings, chunking=chunking)
    report["load_after"] = os.getloadavg()[0]
    args.out.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    filtered_report.write(args.out)
    print(filtered_report.table(report))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--home", type=Path, required=True, help="kept, and used again")
    parser.add_argument("--out", type=Path, required=True, help="path without its ending")
    parser.add_argument("--questions", type=int, default=60, help="of each collection (60)")
    parser.add_argument("--max-tokens", type=int, default=24, help="of a chunk (24)")
    parser.add_argument("--names", nargs="+", default=NAMES)
    return parser.parse_args()


def _questions(data: Path, names: Sequence[str], each: int) -> list[Question]:
    drawn = [(part, text) for part, rows in shares.questions(data, names, each).items() for text in rows.values()]
    vectors = LocalEmbedder("all-MiniLM-L6-v2").embed_queries([text for _, text in drawn])
    return [Question(part, text, vector) for (part, text), vector in zip(drawn, vectors, strict=True)]


def _measure(pool: Pool, held: shares.Held, asked: Sequence[Question], case: Case) -> dict[str, Any]:
    """Recall and seconds of each way on one part of the library."""
    seen = np.array([case.sees(metadata) for metadata in held.metadata])
    asked = [question for question in asked if question.part in case.asked_by] or asked
    live = shares.live(pool)
    number = {place: i for i, place in enumerate(held.places)}
    figures = {}
    with pool.connection() as connection:
        connection.autocommit = True
        scope = open_scope(connection, live, case.filters, case.principals)
        ways: dict[str, Find] = {"served": partial(_served, live, case)}
        if not case.served_only:
            ways |= {way: partial(_bare, live, scope, scan) for way, scan in (*WAYS.items(), ("exact", None))}
        for way, find in ways.items():
            _set_scan(connection, WAYS.get(way))
            timed, found = Timed(), list[float]()
            for question in asked[:WARM]:
                find(connection, question)
            for question in asked:
                places = timed(partial(find, connection, question))
                found.append(_recall(held, seen, question, [number[place] for place in places]))
            figures[way] = {"recall@10": round(float(np.mean(found)), 4), "worst": round(min(found), 2), **timed.figures}
            logging.info("%s %s: %s", case.name, way, figures[way])
        connection.autocommit = False
    return {"case": case.name, "chunks": int(seen.sum()), "share": round(float(seen.mean()), 5), "ways": figures}


def _recall(held: shares.Held, seen: NDArray[np.bool_], question: Question, found: Sequence[int]) -> float:
    """Share of the ten best that was found; equal similarities are equally good, what may not be seen is wrong."""
    similarity = held.vectors @ question.vector.astype(np.float16).astype(np.float32)
    possible = min(PLACES, int(seen.sum()))
    if not possible:
        return float(not found)
    bar = np.partition(similarity[seen], -possible)[-possible] - TIE
    return sum(bool(seen[i] and similarity[i] >= bar) for i in set(found)) / possible


def _served(live: Generation, case: Case, connection: Connection, question: Question) -> list[tuple[str, int]]:
    asked = Asked("dense", question.vector, None, None, 1.0, Retrieval().candidates)
    with snapshot(connection):
        scope = open_scope(connection, live, case.filters, case.principals)
        hits = passages(connection, live, asked, scope, wanted=PLACES, fold=None)
    return [(hit.document, hit.ordinal) for hit in hits]


def _bare(live: Generation, scope: Scope, iterative: str | None, connection: Connection, question: Question) -> list[Any]:
    """One statement, as one writes it without this project.

    :param iterative: pgvector's `hnsw.iterative_scan`; None: no index.
    """
    statement = sql.SQL(
        "with best as materialized (select c.document_id, c.seq from {chunks} c{joined} where true{allowed}"
        " order by {order} limit 10) select d.uri, s.ordinal from best join {spans} s using (document_id, seq)"
        " join ragworks.document d on d.id = document_id"
    ).format(
        chunks=live.chunks, spans=live.spans, joined=scope.joined, allowed=scope.allowed,
        order=sql.SQL("c.embedding <=> %(query)s" if iterative else "(c.embedding <=> %(query)s) + 0"),
    )  # fmt: skip
    parameters = {"query": search.as_vector(live, question.vector), **scope.values}
    return connection.execute(statement, parameters).fetchall()


def _set_scan(connection: Connection, iterative: str | None) -> None:
    """For the bare statements; the search as served sets its own.

    :param iterative: None: it is another way, and the planner is free; else it is kept from sorting, so that it takes HNSW.
    """
    connection.execute(
        "select set_config('hnsw.ef_search', %s, false), set_config('hnsw.iterative_scan', %s, false),"
        " set_config('enable_sort', %s, false)",
        (str(search.EF_SEARCH), iterative or "off", "off" if iterative else "on"),
    )


def _mode(pool: Pool, asked: Sequence[Question], mode: Mode, part: str) -> dict[str, Any]:
    """Seconds of lexical or hybrid search with a collection's own questions, over the whole library."""
    live, timed = shares.live(pool), Timed()
    with pool.connection() as connection:
        own = [question for question in asked if question.part == part]
        for number, question in enumerate([*own[:WARM], *own]):
            ready = prepare(question.text, live, Retrieval(), partial(_embedded, question), mode=mode)
            search_once = partial(_first_stage, connection, live, ready)
            if number < WARM:
                search_once()
            else:
                timed(search_once)
    logging.info("%s %s: %s", mode, part, timed.figures)
    return {"mode": mode, "part": part, **timed.figures}


def _embedded(question: Question, _: str) -> NDArray[np.float32]:
    return question.vector


def _first_stage(connection: Connection, live: Generation, ready: Asked) -> None:
    with snapshot(connection):
        passages(connection, live, ready, open_scope(connection, live, {}, ALL_PRINCIPALS), wanted=PLACES, fold=None)


if __name__ == "__main__":
    main()
