"""Asks a few questions after a promotion, as users do: what does not answer well is taken back by itself."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from include.collection_file import load_collection
from include.embedding.embedder import CANARY_TOLERANCE, open_recorded, recorded_embedding
from include.errors import BadData, RagworksError, Transient
from include.evaluation.headings import sanity_queries
from include.evaluation.latency import percentiles
from include.evaluation.relevance import gains, ndcg
from include.registry.champions import reranker_champion
from include.registry.rollback import roll_back_model
from include.retrieval.query import ALL_PRINCIPALS, Query
from include.retrieval.searcher import Searcher
from include.store import collections, comparable, deployed_embedders, deployments, generations, model_runs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from include.config import Settings
    from include.store.deployments import Deployment
    from include.store.generations import Generation
    from include.store.golden import GoldenQuery
    from include.store.model_runs import ModelRun
    from include.store.pool import Pool

logger = logging.getLogger(__name__)

QUESTIONS, PLACES = 50, 10
DOCUMENTS, CHARACTERS = 50, 20_000  # that headings are taken from where there are no golden queries
VECTORS = 5
TIMES_BUDGET = 2  # the 95th percentile may take; the gate measured it under concurrency, this is one question at a time
COLLAPSE = 0.5  # of the nDCG@10 that the gate saw: a sample scatters, a broken model falls far below
LEAST = 10  # questions below which nDCG says nothing


@dataclass(frozen=True, slots=True)
class Smoke:
    """What the questions gave.

    :param origin: golden or headings; none: nothing could be asked.
    :param ndcg: mean nDCG@10; ``expected`` that of the gate, or of the first stage alone where no gate measured.
    :param p95_ms: of a whole search; ``limit_ms`` what it may take.
    :param empty: questions without a result.
    :param strange: fingerprints in passports that are not the promoted one's, in words.
    :param cut: questions of which a promoted reranker read less than half of ``retrieval.rerank_candidates``, for want of time.
    :param distance: largest cosine distance between a stored vector and one made now by the model that questions are embedded
        with.
    """

    origin: str
    questions: int
    ndcg: float
    expected: float | None
    p95_ms: float
    limit_ms: float
    empty: int = 0
    strange: tuple[str, ...] = ()
    cut: int = 0
    distance: float = 0.0
    passport: dict[str, Any] = field(default_factory=dict)


def problems(smoke: Smoke) -> list[str]:
    """What speaks against it; nothing when it may stay."""
    found = []
    if not smoke.questions:
        found.append("no question could be asked: the index has no golden query and no heading that can be")
    if smoke.empty:
        found.append(f"{smoke.empty} of {smoke.questions} questions found nothing")
    found += smoke.strange
    if 2 * smoke.cut > smoke.questions:
        found.append(
            f"in {smoke.cut} of {smoke.questions} searches the latency budget left the reranker less than half of the"
            " candidates, and the gate judged it on all"
        )
    if smoke.distance > CANARY_TOLERANCE:
        found.append(
            f"the vectors of the index are not of the model that embeds questions: cosine distance {smoke.distance:.4f}"
        )
    if smoke.questions and smoke.p95_ms > smoke.limit_ms:
        found.append(f"95 of 100 searches took up to {smoke.p95_ms:.0f} ms, more than {smoke.limit_ms:.0f}")
    if smoke.expected is not None and smoke.questions >= LEAST and smoke.ndcg < COLLAPSE * smoke.expected:
        found.append(f"nDCG@10 is {smoke.ndcg:.3f} on {smoke.questions} questions, {smoke.expected:.3f} was expected")
    return found


def verify(settings: Settings, pool: Pool, family: str, collection: str, *, run: int | None = None) -> dict[str, Any]:
    """Ask, keep what came of it with the deployment, and go back when it failed.

    :param run: id of the training whose model is to be verified, and no other; None: whatever serves.
    :return: what :class:`Smoke` has, of an llm what :func:`include.registry.llm_verification.smoke_llm` tells; and version,
        deployment, ok and problems.
    :raises BadData: nothing was promoted; it failed, and what served before serves again; or it was taken back already.
    :raises Transient: it could not be asked.
    """
    with pool.connection() as connection:
        collection_id = collections.collection_id(connection, collection)
        deployed_embedders.follow_index(connection, collection_id)
        live = deployments.deployed(connection, settings.environment, family, collection_id)
        if run is not None and (live is None or live.model_run_id != run):
            history = deployments.history(connection, settings.environment, family, collection_id)
            raise _no_longer_serves(next((one for one in history if one.model_run_id == run), None), family, collection)
        if live is None or live.model_run_id is None:
            raise BadData(f"no {family} of {collection} is promoted in {settings.environment}", "there is nothing to verify")
        trained = model_runs.by_id(connection, live.model_run_id)
    found = _examined(settings, pool, collection, live, trained)
    with pool.connection() as connection:
        deployments.save_verification(connection, live.id, found)
    if found["problems"]:
        _take_back(settings, pool, live, collection, "; ".join(found["problems"]))
    logger.info("%s %s of %s: verified on %s questions", family, live.version, collection, found.get("questions"))
    return found


def _no_longer_serves(ended: Deployment | None, family: str, collection: str) -> BadData:
    """The error for a model that is not what serves: a retry after a rollback must not pass by the one before."""
    if ended is None:
        return BadData(f"this {family} of {collection} cannot be verified", "it was never promoted", "Promote it first")
    found = "; ".join((ended.verification or {}).get("problems", ())) or "another was promoted, or it was rolled back"
    what = f"{family} {ended.version} of {collection} does not serve: it is {ended.state}"
    return BadData(what, found, f"See: ragworks models {family}")


def _examined(settings: Settings, pool: Pool, name: str, live: Deployment, run: ModelRun) -> dict[str, Any]:
    smoke: dict[str, Any] = {}
    try:
        if live.family == "reranker":
            reranker_champion(settings, name).refresh(pool)
        if live.family == "llm":
            from include.registry.llm_verification import smoke_llm

            smoke, wrong = smoke_llm(settings, pool, name, live, run)
        else:
            asked = _ask(settings, pool, name, live, run)
            smoke = {key: getattr(asked, key) for key in Smoke.__slots__}
            wrong = problems(asked)
    except Transient:
        raise
    except RagworksError as error:
        wrong = [str(error)]
    except (OSError, ValueError, KeyError, RuntimeError) as error:  # a library, for a file that is not what it was
        wrong = [f"the model does not work: {type(error).__name__}: {error}"]
    told = {"version": live.version, "deployment": live.id, "ok": not wrong, "problems": wrong}
    return {**told, **smoke, "at": datetime.now(UTC).isoformat(timespec="seconds")}


def _ask(settings: Settings, pool: Pool, name: str, live: Deployment, run: ModelRun) -> Smoke:
    with pool.connection() as connection:
        index = generations.require_live(connection, live.collection_id, name)
    origin, questions = _questions(pool, live.collection_id, index)
    searcher = Searcher(settings, pool, name)
    retrieval = load_collection(settings, name).retrieval
    limit, candidates = TIMES_BUDGET * retrieval.latency_budget_ms, retrieval.rerank_candidates
    found = _Found()
    if questions:
        searcher.find(_query(questions[0]))  # what comes first loads what is not yet loaded
        found = _round(searcher, questions, live, candidates)
        if percentiles(found.milliseconds)["p95_ms"] > limit:  # a passing load hits one round, not two
            found.milliseconds = min(
                found.milliseconds, _round(searcher, questions, live, candidates).milliseconds, key=np.mean
            )
    distance = round(_distance(settings, pool, index), 6) if live.family == "embedder" else 0.0
    expected = figure(run.evaluation) if origin == "golden" else None
    if expected is None and live.family == "reranker" and questions:
        expected = _round(searcher, questions, None).mean
    return Smoke(
        origin, len(questions), round(found.mean, 4), expected,
        percentiles(found.milliseconds)["p95_ms"] if questions else 0.0, float(limit),
        found.empty, tuple(sorted(found.strange)), found.cut, distance, found.passport,
    )  # fmt: skip


@dataclass(slots=True)
class _Found:
    scores: list[float] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)
    empty: int = 0
    cut: int = 0
    strange: set[str] = field(default_factory=set)
    passport: dict[str, Any] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        return sum(self.scores) / len(self.scores) if self.scores else 0.0


def _round(searcher: Searcher, questions: Sequence[GoldenQuery], live: Deployment | None, candidates: int = 0) -> _Found:
    """Every question once.

    :param live: whose fingerprint passports must name; None: the first stage alone is asked.
    :param candidates: ``retrieval.rerank_candidates``.
    """
    found = _Found()
    for question in questions:
        started = time.monotonic()
        answer = searcher.find(_query(question, rerank=None if live else False))
        found.milliseconds.append((time.monotonic() - started) * 1000)
        found.scores.append(ndcg(gains(answer.hits, question, PLACES), question, PLACES))
        found.empty += not answer.hits
        found.passport = answer.passport
        found.cut += live is not None and live.family == "reranker" and is_cut(answer.passport, candidates)
        if live is not None and (said := _strange(answer.passport, live)):
            found.strange.add(said)
    return found


def is_cut(passport: Mapping[str, Any], candidates: int) -> bool:
    """Whether the latency budget left a reranker less than half of what it was judged on. Pure.

    :param candidates: ``retrieval.rerank_candidates``; a search that finds fewer has no such reason in its passport.
    """
    part = passport.get("reranker") or {}
    return str(part.get("reason", "")).startswith("latency budget") and 2 * part.get("candidates", 0) < candidates


def _query(question: GoldenQuery, rerank: bool | None = None) -> Query:
    return Query(question.query, top_k=3 * PLACES, principals=ALL_PRINCIPALS, rerank=rerank, copies=True)


def _strange(passport: dict[str, Any], live: Deployment) -> str:
    """What is wrong with a passport; "" when nothing is."""
    key = "fingerprint" if live.family == "reranker" else "embedder"
    part, wanted = passport.get(live.family), live.settings.get(key)
    if live.family == "embedder" and part is None:  # by words alone
        return ""
    named = part.get("fingerprint") if isinstance(part, dict) else None
    return "" if named == wanted else f"answers are by the {live.family} {named}, not by the promoted {wanted}"


def _questions(pool: Pool, collection: int, index: Generation) -> tuple[str, list[GoldenQuery]]:
    """Always the same ones: golden queries that can be asked, else headings."""
    with pool.connection() as connection:
        asked = comparable.usable_queries(connection, collection, index.id, None, limit=20 * QUESTIONS)
        usable = [query for query in asked if query.spans][:QUESTIONS]
        if usable:
            return "golden", usable
        texts = comparable.sample_documents(
            connection, collection, index.id, index.id, limit=DOCUMENTS, characters=CHARACTERS
        )  # fmt: skip
    made = sanity_queries(texts)
    return ("headings" if made else "none"), made


def _distance(settings: Settings, pool: Pool, index: Generation) -> float:
    """How far stored vectors are from what the model of questions makes of the same texts."""
    with pool.connection() as connection:
        stored = comparable.some_vectors(connection, index, limit=VECTORS)
    if not stored:
        return 0.0
    embedder = open_recorded(index.embedder, recorded_embedding(index.spec), settings)
    made = embedder.embed_documents([text for text, _ in stored])
    vectors = np.array([vector / np.linalg.norm(vector) for _, vector in stored])
    return float(np.max(1.0 - np.sum(made * vectors, axis=1)))


def figure(evaluation: Mapping[str, Any] | None, side: str = "challenger") -> float | None:
    """The nDCG@10 that an evaluation measured of a side; None when it measured none."""
    facts = (evaluation or {}).get(side)
    measures = facts.get("measures") if isinstance(facts, dict) else None
    value = measures.get("ndcg@10") if isinstance(measures, dict) else None
    value = value.get("value") if isinstance(value, dict) else value
    return float(value) if isinstance(value, int | float) else None


def _take_back(settings: Settings, pool: Pool, live: Deployment, collection: str, reason: str) -> None:
    """:raises BadData: always, with what was found and what serves now."""
    what = f"{live.family} {live.version} of {collection} failed after its promotion"
    try:
        back = roll_back_model(
            settings, pool, live.family, collection=collection, actor="verification", reason=reason, ended="failed"
        )  # fmt: skip
    except BadData as error:
        raise BadData(what, reason, f"It still serves, for there is no way back by itself: {error}") from error
    now = f"version {back['version']}" if back["version"] is not None else "what served before any was trained"
    raise BadData(what, reason, f"It was taken back: {now} serves again")
