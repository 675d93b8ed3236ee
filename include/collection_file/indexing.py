"""The sections that say how documents become an index."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from include.collection_file.section import Section


class Chunking(Section):
    """How documents are cut.

    :param max_tokens: most tokens in a chunk, counted by the embedder's tokenizer without its special tokens.
    :param overlap: tokens repeated from the end of the chunk before.
    :param markdown: cut along Markdown structure (headings, lists, fences); off: paragraphs and sentences only.
    """

    max_tokens: int = Field(default=200, ge=8, le=100_000)
    overlap: int = Field(default=0, ge=0)
    markdown: bool = True

    @field_validator("overlap")
    @classmethod
    def _less_than_half(cls, value: int, info: Any) -> int:
        if value * 2 > info.data.get("max_tokens", value * 2):
            raise ValueError("overlap must be at most half of max_tokens")
        return value


class Embedding(Section):
    """Which model turns a chunk into a vector.

    :param model: packaged name, folder, hub name, the endpoint's model name, or `champion`: the embedder that was promoted.
    :param base: the model until one is promoted, and the one that training starts from.
    :param backend: ``torch`` runs it here; ``openai`` calls ``base_url`` + ``/embeddings``.
    :param storage: ``halfvec`` takes half the space at the same recall (docs/decisions/0003).
    :param tokenizer: model whose tokenizer counts tokens for an ``openai`` backend.
    :param price_per_million_tokens: what the endpoint costs, in your currency; plans then show the cost.
    """

    model: str = Field(default="all-MiniLM-L6-v2", min_length=1)
    base: str = Field(default="all-MiniLM-L6-v2", min_length=1)
    backend: Literal["torch", "openai"] = "torch"
    storage: Literal["halfvec", "vector"] = "halfvec"
    base_url: str | None = None
    tokenizer: str = "all-MiniLM-L6-v2"
    price_per_million_tokens: float | None = Field(default=None, ge=0)


class Index(Section):
    """HNSW build parameters (pgvector's names)."""

    m: int = Field(default=16, ge=2, le=100)
    ef_construction: int = Field(default=64, ge=4, le=1000)

    @model_validator(mode="after")
    def _wide_enough(self) -> Index:
        if self.ef_construction < 2 * self.m:
            raise ValueError(f"ef_construction must be at least twice m, that is {2 * self.m}")
        return self


LANGUAGES = (
    "arabic", "armenian", "basque", "catalan", "danish", "dutch", "english", "esperanto", "estonian", "finnish", "french",
    "german", "greek", "hindi", "hungarian", "indonesian", "irish", "italian", "lithuanian", "nepali", "norwegian",
    "portuguese", "romanian", "russian", "serbian", "spanish", "swedish", "tamil", "turkish", "yiddish",
)  # fmt: skip


class Lexical(Section):
    """How words are found and weighted: BM25 (Robertson and Zaragoza 2009), without which exact names are missed.

    :param language: whose word endings are cut off (Snowball); null: words count as they are written.
    :param k1: how soon more of the same word adds nothing.
    :param b: how much longer chunks are held back, 0 to 1.
    :param average_terms: words in a chunk of average length; null: 0.25 of max_tokens. Fixed, and not measured, so that the
        weights of a chunk depend on it alone and an edit elsewhere changes none.
    """

    language: str | None = "english"
    k1: float = Field(default=0.9, ge=0, le=10)
    b: float = Field(default=0.4, ge=0, le=1)
    average_terms: int | None = Field(default=None, ge=1)

    @field_validator("language")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None and value not in LANGUAGES:
            raise ValueError(f"{value!r} has no stemmer; write null or one of {', '.join(LANGUAGES)}")
        return value


class Validation(Section):
    """Limits beyond which rows are quarantined or a run stops.

    :param max_rejected: largest share of a batch that may be rejected; one document alone never fails a run unless 0.
    :param max_deleted: largest share of the live documents that a run may remove without being told so.
    :param max_bytes: largest source file or row, in bytes.
    :param required_metadata: keys every document must carry.
    """

    max_rejected: float = Field(default=0.05, ge=0, le=1)
    max_deleted: float = Field(default=0.2, ge=0, le=1)
    max_bytes: int = Field(default=20_000_000, ge=1)
    required_metadata: tuple[str, ...] = Field(default=(), strict=False)


class Generations(Section):
    """How a new generation takes over, and how long the ones before are kept.

    :param keep: retired generations that `rollback` can go back to.
    :param max_quality_loss: a new generation whose nDCG@10 is lower by more than this, and surely lower, stays out.
    """

    keep: int = Field(default=1, ge=0, le=20)
    max_quality_loss: float = Field(default=0.02, ge=0, le=1)


class NearDuplicates(Section):
    """Copies that differ in little.

    :param threshold: estimated Jaccard similarity of two documents from which they count as copies; null: not looked for.
    """

    threshold: float | None = Field(default=0.8, ge=0.5, le=1)


class Privacy(Section):
    """What is taken out of documents before they are stored.

    :param scrub: kinds of personal data, replaced by <KIND>; docs/privacy.md lists them.
    """

    scrub: tuple[str, ...] = Field(default=(), strict=False)
