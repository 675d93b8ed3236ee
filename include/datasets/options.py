"""What a dataset can be told: checked once, kept with it, shown as the form of the DAGs and the options of the commands.

DAG files import this: nothing heavy may come in here.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Source = Literal["qrels", "feedback", "llm", "headings", "file"]
Style = Literal["keyword", "question", "paraphrase", "problem"]
STYLES: tuple[Style, ...] = ("keyword", "question", "paraphrase", "problem")


class DatasetOptions(BaseModel):
    """How a dataset is made. The same options over the same index and the same files give the same rows, LLM apart."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str = Field(default="training", pattern=r"^[a-z][a-z0-9_-]{0,47}$", description="Of the dataset; versions count.")
    sources: tuple[Source, ...] = Field(
        default=(),
        strict=False,
        description="Where questions come from: qrels, file, feedback, llm, headings. Empty: qrels or file where they are"
        " given, else questions made of passages (llm where one is set, else headings); and accepted feedback.",
    )
    queries: str | None = Field(default=None, description='File of lines {"id", "text"}; together with qrels.')
    qrels: str | None = Field(default=None, description="File of query-id, corpus-id, score, separated by tabs.")
    file: str | None = Field(default=None, description='File of lines {"query", "document"}, as an export has them.')
    max_rows: int = Field(default=5000, ge=1, le=200_000, description="Most pairs; of more, some, always the same ones.")
    made_rows: int = Field(default=2000, ge=1, le=100_000, description="Most questions made of passages.")
    styles: tuple[Style, ...] = Field(
        default=STYLES, min_length=1, strict=False, description="How an LLM is to ask: keyword, question, paraphrase, problem."
    )
    llm_clients: int = Field(default=4, ge=1, le=64, description="Requests to the LLM at once.")
    temperature: float = Field(default=0.7, ge=0, le=2, description="Of the LLM.")
    round_trip: int = Field(
        default=20, ge=1, le=200, description="A made question must find its document among so many passages of the live index."
    )
    golden: Literal["documents", "questions"] = Field(
        default="documents",
        description="What of the golden queries is kept out: their documents with all near-duplicates, or the questions alone,"
        " as BEIR's own splits do; the gate then judges by documents that were seen.",
    )
    dev_share: float = Field(default=0.1, ge=0.01, le=0.5, description="Share of the pairs that pick among checkpoints.")
    seed: int = Field(default=0, ge=0, lt=2**31, description="Of the split and of all that is drawn.")
    negatives: int = Field(default=4, ge=0, le=50, description="Most hard negatives of a pair; 0: none are looked for.")
    mining: Literal["hybrid", "dense"] = Field(default="hybrid", description="How the live index is asked for negatives.")
    depth: int = Field(default=50, ge=1, le=1000, description="Passages among which negatives are looked for.")
    margin: float = Field(
        default=0.95,
        gt=0,
        le=1,
        description="A negative's similarity to the question is below this share of the right passage's: what is nearer may"
        " well be right too.",
    )
    min_train: int = Field(default=50, ge=1, le=200_000, description="Fewer training pairs are refused.")
    min_dev: int = Field(default=20, ge=1, le=100_000, description="Fewer development pairs are refused.")
    max_style_share: float = Field(
        default=0.9, gt=0, le=1, description="Largest share that one style may have of what an LLM asked in several."
    )

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
    def _together(self) -> DatasetOptions:
        if (self.queries is None) != (self.qrels is None):
            raise ValueError("queries and qrels belong together: give both files or none")
        if "qrels" in self.sources and self.qrels is None:
            raise ValueError("the source qrels needs the files queries and qrels")
        if "file" in self.sources and self.file is None:
            raise ValueError("the source file needs a file")
        return self
