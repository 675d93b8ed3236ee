"""What a run is going to cost: texts, tokens, seconds and money, from the queues and the last rate of a machine."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from include.errors import Terminal
from include.hashing import text_hash
from include.indexing.reuse import reusable
from include.store import chunks, documents, rates, work_items

if TYPE_CHECKING:
    from collections.abc import Collection

    from include.indexing.context import IndexContext
    from include.store.generations import Generation
    from include.store.pool import Connection

SAMPLE = 1_000_000  # characters cut to estimate a run; about half a second
EXACT = 20_000_000  # characters cut when only a plan is asked for
PAGE = 500  # texts held at a time


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the plan expects.

    :param documents: to be chunked, once for each generation that takes them.
    :param texts: different chunk texts to be embedded.
    :param reused: chunk texts whose vectors are there already.
    :param tokens: of the texts to be embedded.
    :param seconds: of embedding with one worker; None while no machine has used the model.
    :param cost: in the currency of ``embedding.price_per_million_tokens``; None when that is not set.
    :param price: that setting at the time of the plan: what was done is paid by it too.
    :param exact: False: scaled up from a part of the documents.
    """

    documents: int = 0
    texts: int = 0
    reused: int = 0
    tokens: int = 0
    seconds: float | None = 0.0
    cost: float | None = None
    price: float | None = None
    exact: bool = True

    def as_dict(self) -> dict[str, Any]:
        """As it is stored and printed."""
        return asdict(self)


def host() -> str:
    """The name that this machine's rates are kept under."""
    return platform.node() or "unknown"


def estimate(
    context: IndexContext,
    connection: Connection,
    target: Generation,
    *,
    run_id: int,
    live: Generation | None = None,
    rebuild: bool = False,
    characters: int = SAMPLE,
) -> Estimate:
    """Cut what waits in the queue of ``target``, or a part of it, and count.

    :param run_id: the run that is planned.
    :param live: serves while ``target`` is filled: what the source changed is embedded for it too, and first.
    :param rebuild: vectors of other generations are not used.
    :param characters: how much is cut at most.
    """
    total, met = Estimate(), set[UUID]()
    if live is not None and live.id != target.id and target.state == "building":
        total, made = _of_serving(context, connection, live, run_id, characters)
        if not rebuild and any(g.id == live.id for g in reusable(connection, target, rebuild=False).sources):
            met = made
    own = context.for_generation(target)
    return _sum(total, _priced(own, connection, _count(own, connection, target, rebuild, characters, met)[0]))


def _of_serving(
    context: IndexContext, connection: Connection, live: Generation, run_id: int, characters: int
) -> tuple[Estimate, set[UUID]]:
    """What bringing the generation that serves in step takes, and the hashes of the texts that are embedded for it."""
    with connection.transaction(force_rollback=True):  # the run queues them when it comes to it
        if not work_items.enqueue_pending(connection, live.collection_id, live.id, run_id):
            return Estimate(), set()
        try:
            own = context.for_generation(live)
            counted, made = _count(own, connection, live, False, characters, set())
            return _priced(own, connection, counted), made
        except Terminal:  # its model or its chunker is not to be had: it serves as it is
            return Estimate(), set()


def _count(
    context: IndexContext, connection: Connection, target: Generation, rebuild: bool, characters: int, met: Collection[UUID]
) -> tuple[Estimate, set[UUID]]:
    """What the queue of a generation takes, and the hashes of its new texts.

    :param met: hashes of texts that are embedded before it is their turn here.
    """
    queued, size = work_items.queued_size(connection, target.id)
    if not queued:
        return Estimate(), set()
    sources = reusable(connection, target, rebuild=rebuild).sources
    sampled = work_items.sample(connection, target.id, characters)
    cut = reused = tokens = 0
    new: set[UUID] = set()
    seen: set[UUID] = set()
    for first in range(0, len(sampled), PAGE):
        texts = documents.texts(connection, target.collection_id, [content for content, _ in sampled[first : first + PAGE]])
        cut += sum(map(len, texts.values()))
        pieces = context.cutter.cut(texts, context.embedder.tokenizer, context.collection.chunking, keep=characters <= SAMPLE)
        found = {text_hash(piece.text): piece.tokens for own in pieces.values() for piece in own}
        fresh = {name: count for name, count in found.items() if name not in seen}
        held = chunks.held_hashes(connection, sources, list(fresh)) | (fresh.keys() & met)
        reused += len(held)
        new |= fresh.keys() - held
        tokens += sum(count for name, count in fresh.items() if name not in held)
        seen |= fresh.keys()
    exact = cut >= size
    scale = 1.0 if exact else size / max(cut, 1)
    return Estimate(queued, round(len(new) * scale), round(reused * scale), round(tokens * scale), exact=exact), new


def _sum(one: Estimate, other: Estimate) -> Estimate:
    """Of two generations; unknown where one of them is."""
    seconds = None if one.seconds is None or other.seconds is None else round(one.seconds + other.seconds, 1)
    cost = None if other.cost is None else round((one.cost or 0.0) + other.cost, 6)
    return Estimate(
        one.documents + other.documents, one.texts + other.texts, one.reused + other.reused, one.tokens + other.tokens,
        seconds, cost, other.price, one.exact and other.exact,
    )  # fmt: skip


def _priced(context: IndexContext, connection: Connection, counted: Estimate) -> Estimate:
    rate = rates.tokens_per_second(connection, host(), context.embedder.fingerprint)
    price = context.collection.embedding.price_per_million_tokens
    seconds = 0.0 if not counted.tokens else round(counted.tokens / rate, 1) if rate else None
    return replace(counted, seconds=seconds, cost=cost_of(counted.tokens, price), price=price)


def cost_of(tokens: int, price: float | None) -> float | None:
    """What embedding so many tokens costs, None where no price is known."""
    return None if price is None else round(tokens * price / 1e6, 6)


def describe_estimate(expected: dict[str, Any]) -> str:
    """An estimate for a person."""
    if not expected.get("documents"):
        return "nothing to embed"
    seconds, cost = expected.get("seconds"), expected.get("cost")
    parts = [
        f"{'' if expected['exact'] else 'about '}{expected['texts']:,} texts to embed, {expected['tokens']:,} tokens",
        f"{expected['reused']:,} reused",
        "unknown time: no machine has used the model yet" if seconds is None else f"{seconds:,.0f} s on one worker",
    ]
    if cost is not None:
        parts.append(f"cost {cost:,.4f}")
    return ", ".join(parts)
