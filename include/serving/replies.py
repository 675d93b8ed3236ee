"""What is answered: the shapes for OpenAPI, and how hits and answers become JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

if TYPE_CHECKING:
    from include.store.search import Hit


class Error(BaseModel):
    """What went wrong."""

    message: str
    type: str
    code: str
    param: str | None


class ErrorReply(BaseModel):
    """Every error, in OpenAI's shape."""

    error: Error


class Place(BaseModel):
    """Where else a passage stands."""

    document: str
    ordinal: int
    start: int
    end: int
    score: float


class Result(BaseModel):
    """A passage: the characters ``start`` to ``end`` of a document."""

    document: str
    ordinal: int
    start: int
    end: int
    text: str
    score: float
    metadata: dict[str, Any]
    scores: dict[str, float] | None = None
    duplicates: list[Place] | None = None


class SearchReply(BaseModel):
    """Passages, best first, and what found them; feedback names ``id``."""

    id: str
    results: list[Result]
    passport: dict[str, Any]
    seconds: dict[str, float]


class Reranked(BaseModel):
    """A document by its place in the request; ``relevance_score`` is on the model's own scale, higher is better."""

    index: int
    relevance_score: float
    document: dict[str, str] | None = None


class RerankReply(BaseModel):
    """The documents, best first; ``meta.scored_by`` says what scored them, ``meta.warnings`` when that was no reranker."""

    id: str
    model: str
    results: list[Reranked]
    meta: dict[str, Any]
    usage: dict[str, int]


class EmbeddingRow(BaseModel):
    """One vector, of unit length: numbers, or little-endian 32-bit floats in base64."""

    object: str
    index: int
    embedding: list[float] | str


class EmbeddingsReply(BaseModel):
    """The vectors, in the order of the texts."""

    object: str
    data: list[EmbeddingRow]
    model: str
    usage: dict[str, int]


class ChatReply(BaseModel):
    """An answer in OpenAI's shape, with what it rests on."""

    id: str
    object: str
    created: int
    model: str
    choices: list[dict[str, Any]]
    usage: dict[str, int]
    citations: list[dict[str, Any]]
    sources: list[dict[str, Any]]
    passport: dict[str, Any]
    abstained: bool
    extractive: bool
    confidence: float | None
    groundedness: float | None
    flags: list[str]


class Model(BaseModel):
    """A collection, where OpenAI has a model."""

    id: str
    object: str
    created: int
    owned_by: str


class ModelsReply(BaseModel):
    """The collections that the key may ask."""

    object: str
    data: list[Model]


class FeedbackReply(BaseModel):
    """The id of what was kept."""

    id: str


class AnswerReply(BaseModel):
    """An answer as it was given, with the passages it rests on."""

    id: str
    model_config = {"extra": "allow"}


class HealthReply(BaseModel):
    """One word."""

    status: str


def as_result(hit: Hit) -> dict[str, Any]:
    """A hit as :class:`Result` has it; what there is nothing of is left out."""
    result: dict[str, Any] = {
        "document": hit.document, "ordinal": hit.ordinal, "start": hit.start, "end": hit.end, "text": hit.text,
        "score": hit.score, "metadata": hit.metadata,
    }  # fmt: skip
    if hit.scores:
        result["scores"] = dict(hit.scores)
    if hit.duplicates:
        result["duplicates"] = [asdict(place) for place in hit.duplicates]
    return result


def as_logged(hit: Hit) -> dict[str, Any]:
    """A hit as the query log keeps it: where it stands, not what it says."""
    return {"document": hit.document, "ordinal": hit.ordinal, "start": hit.start, "end": hit.end, "score": hit.score}
