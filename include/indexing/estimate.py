"""What a run is going to cost: texts, tokens, seconds and money, from the queue and this machine's last rate."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from include.indexing.hashing import text_hash
from include.indexing.reuse import reusable
from include.store import chunks, documents, rates, work_items

if TYPE_CHECKING:
    from uuid import UUID

    from include.indexing.context import IndexContext
    from include.store.generations import Generation
    from include.store.pool import Connection

SAMPLE = 1_000_000  # characters cut to estimate a run; about half a second
EXACT = 20_000_000  # characters cut when only a plan is asked for
PAGE = 500  # texts held at a time


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the plan expects.

    :param documents: to be chunked.
    :param texts: different chunk texts to be embedded.
    :param reused: chunk texts whose vectors are there already.
    :param tokens: of the texts to be embedded.
    :param seconds: of embedding with one worker; None while this machine has not used the model.
    :param cost: in the currency of ``embedding.price_per_million_tokens``; None when that is not set.
    :param exact: False: scaled up from a part of the documents.
    """

    documents: int = 0
    texts: int = 0
    reused: int = 0
    tokens: int = 0
    seconds: float | None = None
    cost: float | None = None
    exact: bool = True

    def as_dict(self) -> dict[str, Any]:
        """As it is stored and printed."""
        return asdict(self)


def host() -> str:
    """The name that this machine's rates are kept under."""
    return platform.node() or "unknown"


def estimate(
    context: IndexContext, connection: Connection, target: Generation, *, rebuild: bool = False, characters: int = SAMPLE
) -> Estimate:
    """Cut what waits in the queue of ``target``, or a part of it, and count.

    :param rebuild: vectors of other generations are not used.
    :param characters: how much is cut at most.
    """
    queued, size = work_items.queued_size(connection, target.id)
    if not queued:
        return _priced(context, connection, Estimate())
    sources = reusable(connection, target, rebuild=rebuild).sources
    sampled = work_items.sample(connection, target.id, characters)
    cut = new = reused = tokens = 0
    seen: set[UUID] = set()
    for first in range(0, len(sampled), PAGE):
        texts = documents.texts(connection, target.collection_id, [content for content, _ in sampled[first : first + PAGE]])
        cut += sum(map(len, texts.values()))
        pieces = context.cutter.cut(texts, context.embedder.tokenizer, context.collection.chunking, keep=characters <= SAMPLE)
        found = {text_hash(piece.text): piece.tokens for own in pieces.values() for piece in own}
        fresh = {name: count for name, count in found.items() if name not in seen}
        held = chunks.held_hashes(connection, sources, list(fresh))
        reused += len(held)
        new += len(fresh) - len(held)
        tokens += sum(count for name, count in fresh.items() if name not in held)
        seen |= fresh.keys()
    exact = cut >= size
    scale = 1.0 if exact else size / max(cut, 1)
    counted = Estimate(queued, round(new * scale), round(reused * scale), round(tokens * scale), exact=exact)
    return _priced(context, connection, counted)


def _priced(context: IndexContext, connection: Connection, counted: Estimate) -> Estimate:
    rate = rates.tokens_per_second(connection, host(), context.embedder.fingerprint)
    price = context.collection.embedding.price_per_million_tokens
    seconds = 0.0 if not counted.tokens else round(counted.tokens / rate, 1) if rate else None
    cost = None if price is None else round(counted.tokens * price / 1e6, 6)
    return replace(counted, seconds=seconds, cost=cost)


def describe_estimate(expected: dict[str, Any]) -> str:
    """An estimate for a person."""
    if not expected.get("documents"):
        return "nothing to embed"
    seconds, cost = expected.get("seconds"), expected.get("cost")
    parts = [
        f"{'' if expected['exact'] else 'about '}{expected['texts']:,} texts to embed, {expected['tokens']:,} tokens",
        f"{expected['reused']:,} reused",
        "unknown time: this machine has not used the model yet" if seconds is None else f"{seconds:,.0f} s on one worker",
    ]
    if cost is not None:
        parts.append(f"cost {cost:,.4f}")
    return ", ".join(parts)
