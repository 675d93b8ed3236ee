"""Scores a generation on judged questions: the command line and the index DAG both come here."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg

from include.collection_file import Retrieval
from include.errors import BadData, Transient
from include.evaluation import report
from include.evaluation.asking import ask
from include.evaluation.cases import Cases, file_cases, golden_cases, slices
from include.evaluation.configuration import Configuration, describe, open_side, override
from include.evaluation.latency import describe_latency
from include.retrieval.current import CurrentCollection
from include.store import collections, evaluations, generations, runs

if TYPE_CHECKING:
    from include.collection_file import Mode
    from include.config import Settings
    from include.embedding.embedder import Embedder
    from include.evaluation.asking import Asked
    from include.progress import Progress
    from include.store.pool import Connection, Pool

logger = logging.getLogger(__name__)


class NothingToAsk(BadData):
    """No golden query of the collection can be asked."""


@dataclass(frozen=True, slots=True)
class Options:
    """What to evaluate.

    :param queries: file of queries; with ``qrels`` instead of the golden queries.
    :param mode: None, and ``rerank`` None: as the collection file says.
    :param slices: metadata keys; none: those that have few values.
    :param against: settings of a challenger, ``key=value``; None: nothing is compared.
    :param clients: questions asked at once.
    :param answers: also answer in words, and score that.
    :param repeats: how often an LLM judges each answer.
    :param run_key: of the index run after which this happens.
    """

    queries: str | None = None
    qrels: str | None = None
    mode: Mode | None = None
    rerank: bool | None = None
    top_k: int = 10
    slices: tuple[str, ...] = ()
    against: tuple[str, ...] | None = None
    clients: int = 1
    answers: bool = False
    repeats: int = 3
    run_key: str | None = None


def evaluate(
    settings: Settings, pool: Pool, name: str, options: Options, *, progress: Progress, embedder: Embedder | None = None
) -> evaluations.Evaluation:
    """Ask, score, and keep the report.

    :param embedder: instead of the one that made the generation's vectors.
    :raises NothingToAsk: no golden query can be asked.
    :raises Transient: another run dropped the generation meanwhile.
    """
    judged = file_cases(options.queries, options.qrels) if options.queries and options.qrels else None
    with pool.connection() as connection:
        collection = collections.collection_id(connection, name)
        live = generations.require_live(connection, collection, name).id
        cases = judged or _golden(connection, collection, live, name, options)
        run = _run(connection, collection, options.run_key)
    base = base_configuration(settings, name, live, options.mode, options.rerank)
    configured: dict[str, Any] = base.as_dict()
    challenger = None
    if options.against is not None:
        challenger = override(base, options.against)
        configured["against"] = {"settings": list(options.against), **challenger.as_dict()}
    try:
        found = _evaluate(settings, pool, name, collection, cases, base, challenger, options, progress, embedder)
    except psycopg.errors.UndefinedTable as error:
        raise Transient(f"{name} was not evaluated", "another run dropped the generation meanwhile", "Run again") from error
    label = base.mode + (f" against {describe(options.against)}" if options.against is not None else "")
    with pool.connection() as connection:
        key = evaluations.save(
            connection, collection, generation=live, run=run, name=label, configuration=configured, report=found
        )
    logger.info("%s, generation %d: %s", name, live, summary(found))
    return evaluations.Evaluation(key, collection, live, run, label, configured, found, datetime.now(UTC))


def summary(found: dict[str, Any]) -> str:
    """One line for a log."""
    scores = ", ".join(f"{name} {value['value']:.4f}" for name, value in found["measures"].items())
    compared = f"; {found['comparison']['summary']}" if "comparison" in found else ""
    return f"{found['questions']['queries']} queries: {scores}{compared}"


def base_configuration(settings: Settings, name: str, live: int, mode: Mode | None, rerank: bool | None) -> Configuration:
    """The collection's settings as its file has them now, with what the command line says."""
    known = CurrentCollection(settings, name).get()
    retrieval = known.retrieval if known else Retrieval()
    return Configuration(live, mode or retrieval.mode, rerank, retrieval)


def _run(connection: Connection, collection: int, key: str | None) -> int | None:
    """The index run's id; a rollback is none and leaves no row."""
    try:
        return runs.run_by_key(connection, collection, key).id if key else None
    except BadData:
        return None


def _golden(connection: Connection, collection: int, live: int, name: str, options: Options) -> Cases:
    cases = golden_cases(connection, collection, live)
    if not cases.queries and not (options.answers and cases.unanswerable):
        why = (
            f"none of its {cases.left_out} golden queries is answered by a passage of the index"
            if cases.left_out
            else "it has no golden queries"
        )
        raise NothingToAsk(
            f"{name} cannot be evaluated", why, f"Import some with: ragworks golden {name}, or give --queries and --qrels"
        )
    return cases


def _evaluate(
    settings: Settings,
    pool: Pool,
    name: str,
    collection: int,
    cases: Cases,
    base: Configuration,
    challenger: Configuration | None,
    options: Options,
    progress: Progress,
    embedder: Embedder | None,
) -> dict[str, Any]:
    by_metadata = slices(cases.queries, options.slices)
    started = time.monotonic()
    side = open_side(settings, pool, name, base, collection, embedder=embedder)
    everything = [*cases.queries, *cases.unanswerable]
    passport = side.find(everything[0].query, options.top_k).passport
    cold_ms = (time.monotonic() - started) * 1000
    found: dict[str, Any] = {
        "questions": {
            "origin": cases.origin, "queries": len(cases.queries), "left_out": cases.left_out,
            "unanswerable": len(cases.unanswerable),
        },
        "top_k": options.top_k,
        "passport": passport,
    }  # fmt: skip
    if cases.queries:
        sides = [side]
        if challenger is not None:
            sides += [open_side(settings, pool, name, challenger, collection, embedder=embedder), side]
        started = time.monotonic()
        asked = ask(sides, cases.queries, top_k=options.top_k, clients=options.clients, progress=progress)
        found |= _ranked(cases, asked, by_metadata, options, seconds=time.monotonic() - started, cold_ms=cold_ms)
    else:
        found |= {"measures": {}, "slices": {}, "latency": {"cold_ms": round(cold_ms, 1)}, "worst": []}
    if options.answers:
        from include.evaluation.answering import evaluate_answers

        found["answers"] = evaluate_answers(
            settings, pool, name, side, cases, repeats=options.repeats, progress=progress, embedder=embedder
        )
    return found


def _ranked(
    cases: Cases,
    asked: list[list[Asked]],
    by_metadata: dict[str, dict[str, list[int]]],
    options: Options,
    *,
    seconds: float,
    cold_ms: float,
) -> dict[str, Any]:
    first, top_k = asked[0], options.top_k
    alone = seconds if len(asked) == 1 else 0.0
    found: dict[str, Any] = {
        "measures": report.measures(first, top_k),
        "slices": report.slice_tables(first, by_metadata, top_k),
        "latency": describe_latency(first, clients=options.clients, seconds=alone, cold_ms=cold_ms),
        "worst": report.worst(first, cases.queries, top_k),
        "scores": report.scores_of_queries(cases, first, top_k),
    }
    if len(asked) > 1:
        found["comparison"] = report.comparison(first, asked[1], by_metadata, top_k)
        found["comparison"]["latency"] = describe_latency(asked[1], clients=options.clients, seconds=0.0, cold_ms=None)
        found["a_a"] = report.control(first, asked[2], top_k)
    return found
