"""The sections that say how questions are searched for and answered, and what is kept of them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from include.collection_file.section import Section

CHAMPION = "champion"  # the model that was promoted, in place of a name


Mode = Literal["hybrid", "dense", "lexical"]


class Retrieval(Section):
    """How queries are answered; changes take effect at once, without indexing.

    :param mode: hybrid: meaning and words together; dense: meaning alone; lexical: words alone.
    :param dense_weight: share of the dense score in the hybrid one; `ragworks fit` finds it from golden queries.
    :param candidates: chunks that each of the two finds before their scores are joined.
    :param reranker: second stage: `champion` (the one that was promoted, if there is one), a folder or a hub name; null: none.
    :param rerank_weight: share of the reranker's score in the final one, the rest is the first stage's; null: what was
        fitted when it was trained, 0.5 for others.
    :param rerank_candidates: most chunks that it reads; fewer where more would not fit the latency budget.
    :param latency_budget_ms: what 95 of 100 searches should stay within, in milliseconds.
    :param neighbours: chunks before and after each one found that are shown with it.
    """

    mode: Mode = "hybrid"
    dense_weight: float = Field(default=0.55, ge=0, le=1)  # the middle of the best: bench/retrieval.py
    candidates: int = Field(default=100, ge=10, le=1000)
    reranker: str | None = CHAMPION
    rerank_weight: float | None = Field(default=None, ge=0, le=1)
    rerank_candidates: int = Field(default=50, ge=1, le=1000)
    latency_budget_ms: int = Field(default=500, ge=10, le=60_000)
    neighbours: int = Field(default=0, ge=0, le=5)


class Answers(Section):
    """How questions are answered in words.

    :param llm: who writes: `champion`, the language model that was promoted, and until there is one the endpoint of
        RAGWORKS_LLM_BASE_URL; `endpoint`: always that.
    :param prompt: a file of include/prompts without its ending.
    :param passages: chunks that the answer may rest on.
    :param max_tokens: longest answer of the LLM.
    :param temperature: of the LLM; 0 repeats itself best.
    :param abstain_below: confidence, 0 to 1, below which it says that the documents do not hold the answer.
    """

    llm: Literal["champion", "endpoint"] = "champion"
    prompt: str = Field(default="grounded", pattern=r"^[a-z][a-z0-9_-]*$")
    passages: int = Field(default=5, ge=1, le=50)
    max_tokens: int = Field(default=600, ge=1, le=32_000)
    temperature: float = Field(default=0.0, ge=0, le=2)
    abstain_below: float = Field(default=0.5, ge=0, le=1)


class Guardrails(Section):
    """What goes in and out of answers.

    :param injection: passages that give instructions to a model: `flag` them in the answer, `drop` them, or `ignore`.
    :param scrub_queries: kinds of personal data taken out of questions before they are logged or sent to an LLM.
    :param scrub_answers: kinds taken out of answers and of the passages shown with them.
    :param min_groundedness: share of an answer's sentences that their citations must bear out; fewer is flagged.
    :param max_query_characters: longer questions are refused.
    """

    injection: Literal["flag", "drop", "ignore"] = "flag"
    scrub_queries: tuple[str, ...] = Field(default=(), strict=False)
    scrub_answers: tuple[str, ...] = Field(default=(), strict=False)
    min_groundedness: float = Field(default=0.5, ge=0, le=1)
    max_query_characters: int = Field(default=4000, ge=1, le=1_000_000)


class QueryLog(Section):
    """What is kept of queries and answers.

    :param keep_texts_days: after so many days texts and vectors go, counts and passports stay; 0: never stored.
    :param keep_days: after so many days the row goes.
    """

    keep_texts_days: int = Field(default=30, ge=0, le=36_500)
    keep_days: int = Field(default=365, ge=1, le=36_500)
