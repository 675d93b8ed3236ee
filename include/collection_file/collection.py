"""A whole collection file, its sections together."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from include.collection_file.indexing import (
    Chunking,
    Embedding,
    Generations,
    Index,
    Lexical,
    NearDuplicates,
    Privacy,
    Validation,
)
from include.collection_file.monitoring import Monitoring
from include.collection_file.questions import Answers, Guardrails, QueryLog, Retrieval
from include.collection_file.section import Section
from include.collection_file.sources import FilesSource, JsonlSource, SqlSource  # noqa: TC001 - pydantic reads them
from include.collection_file.training import Training


class AssetSchedule(Section):
    """Run when one of these Airflow assets is updated, by ``cron``, and when the source is seen to change.

    :param watch: seconds between two looks at the source.
    """

    assets: tuple[str, ...] = Field(default=(), strict=False)
    cron: str | None = None
    watch: float | None = Field(default=None, ge=1, le=86_400)

    @model_validator(mode="after")
    def _something(self) -> AssetSchedule:
        if not self.assets and self.watch is None:
            raise ValueError("name at least one asset, or set watch to a number of seconds")
        return self


class Collection(Section):
    """One file of ``include/collections``: what to index and how."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,47}$")
    description: str = ""
    schedule: str | AssetSchedule | None = None
    source: Annotated[FilesSource | JsonlSource | SqlSource, Field(discriminator="type")]
    chunking: Chunking = Chunking()
    embedding: Embedding = Embedding()
    index: Index = Index()
    lexical: Lexical = Lexical()
    retrieval: Retrieval = Retrieval()
    answers: Answers = Answers()
    guardrails: Guardrails = Guardrails()
    query_log: QueryLog = QueryLog()
    validation: Validation = Validation()
    generations: Generations = Generations()
    near_duplicates: NearDuplicates = NearDuplicates()
    privacy: Privacy = Privacy()
    training: Training = Training()
    monitoring: Monitoring = Monitoring()

    @field_validator("schedule")
    @classmethod
    def _cron_is_valid(cls, value: str | AssetSchedule | None) -> str | AssetSchedule | None:
        from croniter import croniter

        cron = value.cron if isinstance(value, AssetSchedule) else value
        if cron is not None and not croniter.is_valid(cron):
            raise ValueError(f"{cron!r} is not a cron expression; an example is '*/15 * * * *'")
        return value
