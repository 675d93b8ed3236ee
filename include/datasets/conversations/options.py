"""What a set of conversations can be told: checked once, kept with it, shown as the DAG's form and the command's options.

DAG files import this: nothing heavy may come in here.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from include.datasets.options import STYLES, Style

Source = Literal["grounded", "feedback", "file"]
Kind = Literal["conversations", "preferences"]


class LlmDataOptions(BaseModel):
    """How conversations are made. The same options over the same index and the same files give the same rows, LLM apart."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str = Field(
        default="",
        pattern=r"^[a-z][a-z0-9_-]{0,47}$|^$",
        description="Of the dataset; versions count. Empty: as its kind.",
    )
    kind: Kind = Field(
        default="conversations",
        description="conversations: an answer to learn (method sft). preferences: with a worse one beside it (method dpo).",
    )
    sources: tuple[Source, ...] = Field(
        default=(),
        strict=False,
        description="Where conversations come from: grounded (made of the collection's passages), feedback (reviewed), file."
        " Empty: file where it is given, else grounded; and reviewed feedback. Preferences: file and feedback.",
    )
    file: str | None = Field(
        default=None, description='File of lines {"messages": [{"role", "content"}]}, for preferences with chosen and rejected.'
    )
    questions: Literal["auto", "qrels", "llm", "headings"] = Field(
        default="auto",
        description="Where the questions of grounded ones come from; auto: qrels where they are given, llm where one is set,"
        " else headings.",
    )
    queries: str | None = Field(default=None, description='File of lines {"id", "text"}; together with qrels.')
    qrels: str | None = Field(default=None, description="File of query-id, corpus-id, score, separated by tabs.")
    max_rows: int = Field(default=5000, ge=1, le=500_000, description="Most conversations; of more, some, always the same.")
    made_rows: int = Field(default=1000, ge=1, le=100_000, description="Most questions made of passages.")
    passages: int = Field(
        default=4, ge=1, le=20, description="Most passages shown with a question: the right one among others, in any order."
    )
    unanswerable_share: float = Field(
        default=0.2, ge=0, le=0.8, description="Share of the grounded ones whose passages do not hold the answer."
    )
    styles: tuple[Style, ...] = Field(
        default=STYLES, min_length=1, strict=False, description="How an LLM is to ask: keyword, question, paraphrase, problem."
    )
    llm_clients: int = Field(default=4, ge=1, le=64, description="Requests to the LLM at once.")
    temperature: float = Field(default=0.7, ge=0, le=2, description="Of the LLM when it asks; it answers at 0.")
    round_trip: int = Field(
        default=20, ge=1, le=200, description="A made question must find its document among so many passages of the live index."
    )
    min_groundedness: float = Field(
        default=0.8, ge=0, le=1, description="An LLM's answer is taken when so much of it is borne out by what it cites."
    )
    golden: Literal["documents", "questions"] = Field(
        default="documents",
        description="What of the golden queries is kept out: their documents with all near-duplicates, or the questions alone.",
    )
    near_duplicate: float = Field(
        default=0.8, ge=0.3, le=1, description="Share of word triples in common from which two questions are the same."
    )
    dev_share: float = Field(default=0.1, ge=0.01, le=0.5, description="Share that picks among checkpoints and merges.")
    test_share: float = Field(default=0.1, ge=0, le=0.5, description="Share that the gate asks champion and challenger.")
    seed: int = Field(default=0, ge=0, lt=2**31, description="Of the split and of all that is drawn.")
    min_train: int = Field(default=50, ge=1, le=200_000, description="Fewer conversations to learn from are refused.")
    min_dev: int = Field(default=20, ge=1, le=100_000, description="Fewer conversations of development are refused.")
    min_test: int = Field(default=0, ge=0, le=100_000, description="Fewer conversations of the test split are refused.")

    @model_validator(mode="before")
    @classmethod
    def _named(cls, values: Any) -> Any:
        if isinstance(values, dict) and not values.get("name"):
            return {**values, "name": values.get("kind", "conversations")}
        return values

    @field_validator("sources", "styles", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        """A word or several with commas, as a command line has them."""
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("sources", "styles")
    @classmethod
    def _once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(value))

    @model_validator(mode="after")
    def _together(self) -> LlmDataOptions:
        if (self.queries is None) != (self.qrels is None):
            raise ValueError("queries and qrels belong together: give both files or none")
        if self.questions == "qrels" and self.qrels is None:
            raise ValueError("questions of qrels need the files queries and qrels")
        if "file" in self.sources and self.file is None:
            raise ValueError("the source file needs a file")
        if self.kind == "preferences" and "grounded" in self.sources:
            raise ValueError("preferences come of feedback and file: a made answer has no worse one beside it")
        return self
