"""The one place that reads the environment and the collection files; everything below receives frozen models."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from include.errors import BadConfiguration

PROJECT_ROOT = Path(__file__).resolve().parent.parent
Environment = Literal["dev", "staging", "production"]
ENVIRONMENTS = get_args(Environment)
FAMILIES = ("reranker", "embedder", "llm")  # of models that are trained
CHAMPION = "champion"  # the model that was promoted, in place of a name
LLM_SERVER = "http://127.0.0.1:8010/v1"  # where `ragworks serve-llm` listens by default


class Settings(BaseModel):
    """Where things are on this machine.

    :param database_url: Postgres URL; None means the embedded server under ``home``.
    :param home: state of the embedded stack: data folder, logs, secrets.
    :param collections_dir: folder of collection files.
    :param artifacts: fsspec URL for models and reports.
    :param compute: where training commands run.
    :param environment: which champions count: a model is promoted in one environment.
    :param gpu_price_per_hour: of local training, for its cost; profiles of pods name their own.
    :param gpu_profile: the pod profile that this process runs under, for the manifest; None outside of one.
    :param training_crons: (family, cron expression): when the family's DAG runs by itself.
    :param embedding_api_key: bearer token of an OpenAI-compatible embeddings endpoint.
    :param llm_base_url: OpenAI-compatible endpoint that writes answers; None: answers are extracted, and say so.
    :param llm_model: its model.
    :param llm_api_key: its bearer token.
    :param llm_server: where the champions of family llm are served: `ragworks serve-llm`, or vLLM with its manifests.
    :param llm_server_key: its bearer token.
    """

    model_config = ConfigDict(frozen=True)

    database_url: str | None = Field(default=None, repr=False)
    home: Path = PROJECT_ROOT / ".ragworks"
    collections_dir: Path = PROJECT_ROOT / "include" / "collections"
    artifacts: str = ""
    compute: Literal["local", "kubernetes"] = "local"
    environment: Environment = "production"
    gpu_price_per_hour: float | None = None
    gpu_profile: str | None = None
    training_crons: tuple[tuple[str, str], ...] = ()
    embedding_api_key: str | None = Field(default=None, repr=False)
    llm_base_url: str | None = None
    llm_model: str | None = None
    llm_api_key: str | None = Field(default=None, repr=False)
    llm_server: str = LLM_SERVER
    llm_server_key: str | None = Field(default=None, repr=False)

    @classmethod
    def from_environment(cls, database_url: str | None = None) -> Settings:
        """Read ``RAGWORKS_*``; ``database_url`` (the Airflow connection) wins over the environment."""
        home = _absolute(os.environ.get("RAGWORKS_HOME") or ".ragworks")
        compute = os.environ.get("RAGWORKS_COMPUTE") or "local"
        if compute not in ("local", "kubernetes"):
            raise BadConfiguration("RAGWORKS_COMPUTE", f"{compute!r} is not a place to run", "Use local or kubernetes")
        environment = os.environ.get("RAGWORKS_ENV") or "production"
        if environment not in ENVIRONMENTS:
            fix = f"Use one of {', '.join(ENVIRONMENTS)}"
            raise BadConfiguration("RAGWORKS_ENV", f"{environment!r} is not an environment", fix)
        return cls(
            environment=cast("Environment", environment),
            gpu_price_per_hour=_price("RAGWORKS_GPU_PRICE_PER_HOUR"),
            gpu_profile=os.environ.get("RAGWORKS_GPU_PROFILE") or None,
            training_crons=tuple((f, c) for f in FAMILIES if (c := _cron(f"RAGWORKS_TRAIN_{f.upper()}_CRON"))),
            database_url=database_url or os.environ.get("RAGWORKS_DATABASE_URL") or None,
            home=home,
            collections_dir=_absolute(os.environ.get("RAGWORKS_COLLECTIONS_DIR") or "include/collections"),
            artifacts=os.environ.get("RAGWORKS_ARTIFACTS") or (home / "artifacts").as_uri(),
            compute="kubernetes" if compute == "kubernetes" else "local",
            embedding_api_key=os.environ.get("RAGWORKS_EMBEDDING_API_KEY") or None,
            llm_base_url=os.environ.get("RAGWORKS_LLM_BASE_URL") or None,
            llm_model=os.environ.get("RAGWORKS_LLM_MODEL") or None,
            llm_api_key=os.environ.get("RAGWORKS_LLM_API_KEY") or None,
            llm_server=os.environ.get("RAGWORKS_LLM_SERVER") or LLM_SERVER,
            llm_server_key=os.environ.get("RAGWORKS_LLM_SERVER_KEY") or None,
        )


def _price(variable: str) -> float | None:
    value = os.environ.get(variable)
    try:
        price = float(value) if value else None
    except ValueError:
        price = -1.0
    if price is not None and not 0 <= price < float("inf"):
        raise BadConfiguration(variable, f"{value!r} is not a price", "Write a number, for example 2.5")
    return price


def _cron(variable: str) -> str | None:
    from croniter import croniter

    value = os.environ.get(variable) or None
    if value is not None and not croniter.is_valid(value):
        raise BadConfiguration(variable, f"{value!r} is not a cron expression", "An example is '0 3 * * 0'")
    return value


def _absolute(path: str) -> Path:
    """Relative settings are relative to the project, so that a command means the same from any folder."""
    return PROJECT_ROOT / Path(path).expanduser()


def connection_variable(conn_id: str) -> str | None:
    """The variable in which Airflow too looks for a connection first, a URI or JSON: the command line has no other place."""
    return os.environ.get(f"AIRFLOW_CONN_{conn_id.upper()}") or None


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Paths(_Section):
    """What places that hold files have in common."""

    path: str = Field(min_length=1)
    glob: str
    conn_id: str | None = None

    @property
    def shown(self) -> tuple[str, ...]:
        """Where the documents are, for people: without credentials."""
        return re.sub(r"//[^/]*@", "//…@", self.path), self.glob

    @property
    def nothing_found(self) -> tuple[str, str]:
        """Why there may be no documents, and what to do."""
        path, glob = self.shown
        return (
            f"nothing at {path} matches {glob!r}",
            "Check source.path and source.glob; .md .txt .rst .html .pdf .docx are read",
        )


class FilesSource(_Paths):
    """A folder of documents at any fsspec URL; one file is one document, its uri the path below ``path``."""

    type: Literal["files"]
    glob: str = "**/*"


class JsonlSource(_Paths):
    """Rows of {"id", "title", "text", "metadata"} in a file, plain or gzipped, or in a folder's files matching ``glob``."""

    type: Literal["jsonl"]
    glob: str = "**/*.jsonl*"


class SqlSource(_Section):
    """The rows of a query, one document each.

    :param query: any SELECT; its columns are named below.
    :param id: column with the document's uri, unique.
    :param updated_at: column that changes whenever the row does.
    :param text: columns whose values are joined by blank lines.
    :param title: column that is indexed before the text.
    :param metadata: columns kept with the document.
    :param acl: column with the principals who may read it, as a list or JSON list; without it rows are public.
    :param url: SQLAlchemy URL without secrets; a connection is better.
    """

    type: Literal["sql"]
    query: str = Field(min_length=1)
    id: str = "id"
    updated_at: str = "updated_at"
    text: tuple[str, ...] = Field(default=("text",), min_length=1, strict=False)
    title: str | None = None
    metadata: tuple[str, ...] = Field(default=(), strict=False)
    acl: str | None = None
    url: str | None = None
    conn_id: str | None = None

    @model_validator(mode="after")
    def _one_place(self) -> SqlSource:
        if (self.url is None) == (self.conn_id is None):
            raise ValueError("give exactly one of url and conn_id")
        return self

    @property
    def shown(self) -> tuple[str, ...]:
        """Where the documents are, for people: without credentials, which parameters of a URL may hold too."""
        place = (re.sub(r"//.*@", "//…@", self.url).partition("?")[0],) if self.url else ()
        return (*place, " ".join(self.query.split()))

    @property
    def nothing_found(self) -> tuple[str, str]:
        """Why there may be no documents, and what to do."""
        return "the query returns no rows", "Check source.query, and that its user sees the rows"


class Chunking(_Section):
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


class Embedding(_Section):
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


class Index(_Section):
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


class Lexical(_Section):
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


Mode = Literal["hybrid", "dense", "lexical"]


class Retrieval(_Section):
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


class Answers(_Section):
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


class Guardrails(_Section):
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


class QueryLog(_Section):
    """What is kept of queries and answers.

    :param keep_texts_days: after so many days texts and vectors go, counts and passports stay; 0: never stored.
    :param keep_days: after so many days the row goes.
    """

    keep_texts_days: int = Field(default=30, ge=0, le=36_500)
    keep_days: int = Field(default=365, ge=1, le=36_500)


class Validation(_Section):
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


class Generations(_Section):
    """How a new generation takes over, and how long the ones before are kept.

    :param keep: retired generations that `rollback` can go back to.
    :param max_quality_loss: a new generation whose nDCG@10 is lower by more than this, and surely lower, stays out.
    """

    keep: int = Field(default=1, ge=0, le=20)
    max_quality_loss: float = Field(default=0.02, ge=0, le=1)


class NearDuplicates(_Section):
    """Copies that differ in little.

    :param threshold: estimated Jaccard similarity of two documents from which they count as copies; null: not looked for.
    """

    threshold: float | None = Field(default=0.8, ge=0.5, le=1)


class Privacy(_Section):
    """What is taken out of documents before they are stored.

    :param scrub: kinds of personal data, replaced by <KIND>; docs/privacy.md lists them.
    """

    scrub: tuple[str, ...] = Field(default=(), strict=False)


class Training(_Section):
    """When a trained model takes the place of the one that serves.

    :param promotion: a model that won goes live by itself (`auto`), after a person's click (`approve`), or only by
        `ragworks promote` (`never`).
    :param min_queries: golden queries below which nothing is decided.
    :param min_effect: smallest gain of nDCG@10 that is worth a change.
    :param max_slice_loss: most that any slice of the golden queries may lose, when it surely loses.
    :param answer_budget_ms: what 95 of 100 answers of a trained language model must be written within where it is judged.
    :param clients: questions asked at once when latency is measured; 95 of 100 must stay within `retrieval.latency_budget_ms`.
    :param latency_device: where the models of searches run when latency is measured: on what they run when users ask.
    :param approval_hours: how long a decision waits for a person; then it is a no.
    :param alternatives: other embedders to score beside a trained one, each as a section `embedding`.
    :param llm_base: language model whose adapters are trained: a folder, or a name on the hub; empty: none is named.
    :param arguments: by family, how it is trained where nobody says otherwise: by events, by cron, and on the command line.
    """

    promotion: Literal["auto", "approve", "never"] = "approve"
    min_queries: int = Field(default=50, ge=20)
    min_effect: float = Field(default=0.005, ge=0, le=1)
    max_slice_loss: float = Field(default=0.05, ge=0, le=1)
    answer_budget_ms: float = Field(default=60_000, gt=0)
    clients: int = Field(default=4, ge=1, le=64)
    latency_device: Literal["cpu", "cuda"] = "cpu"
    approval_hours: float = Field(default=72, gt=0, le=24 * 90)
    alternatives: tuple[Embedding, ...] = Field(default=(), strict=False)
    llm_base: str = Field(default="", max_length=1000)
    arguments: dict[str, dict[str, Any]] = Field(default_factory=dict)

    @field_validator("arguments")
    @classmethod
    def _arguments_are_possible(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        from include.training.arguments import arguments_of

        for family, given in value.items():
            try:
                arguments_of(family, given)
            except BadConfiguration as error:
                raise ValueError(f"{family}: {error.why}") from None
        return value


Policy = Literal["auto", "approve", "notify"]


class Policies(_Section):
    """What may be done about a breach: by itself (`auto`), after a person's click (`approve`), or only said (`notify`)."""

    reindex: Policy = "auto"
    refresh_golden: Policy = "notify"
    reranker: Policy = "approve"
    embedder: Policy = "approve"
    llm: Policy = "notify"
    rollback: Policy = "approve"


class Monitoring(_Section):
    """What is watched, when it counts as a breach, and what may be done about it.

    :param schedule: cron expression, in UTC; null: by hand and by events alone.
    :param window_hours: length of a window; windows lie on a grid from Monday, 2024-01-01 00:00 UTC.
    :param reference_days: how much of the log, from its first question on, is taken as usual.
    :param minimum_sample: questions, answers or thumbs below which a signal says nothing; its window is joined to the next.
    :param false_alarms: breaches a week, of all signals together, that chance alone may make.
    :param cool_down_days: a signal whose breach ended makes no new one for so long.
    :param training_cool_down_days: nothing is trained for so long after a training that monitoring asked for.
    :param minimum_labels: judged questions, new since the last training, below which nothing is trained.
    :param gpu_hours_a_month: of all trainings of the collection in the last 30 days; beyond it nothing is trained by itself.
    :param freshness_hours: age of the last complete index run that is too old; null: not watched.
    :param golden: ask the golden queries, when there are any.
    :param shadow: share of live questions that a challenger answers too, unseen, after the reply.
    :param policy: what may be done, by action.
    """

    schedule: str | None = "30 5 * * *"
    window_hours: float = Field(default=24, ge=0.01, le=24 * 31)
    reference_days: float = Field(default=7, gt=0, le=365)
    minimum_sample: int = Field(default=100, ge=20, le=100_000)
    false_alarms: float = Field(default=0.05, gt=0, le=0.5)
    cool_down_days: float = Field(default=3, ge=0, le=365)
    training_cool_down_days: float = Field(default=7, ge=0, le=365)
    minimum_labels: int = Field(default=100, ge=1)
    gpu_hours_a_month: float = Field(default=20, ge=0)
    freshness_hours: float | None = Field(default=None, gt=0)
    golden: bool = True
    shadow: float = Field(default=0, ge=0, le=1)
    policy: Policies = Policies()

    @field_validator("schedule")
    @classmethod
    def _cron_is_valid(cls, value: str | None) -> str | None:
        from croniter import croniter

        if value is not None and not croniter.is_valid(value):
            raise ValueError(f"{value!r} is not a cron expression; an example is '30 5 * * *'")
        return value


class AssetSchedule(_Section):
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


class Collection(_Section):
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


def collection_files(settings: Settings) -> list[Path]:
    """Every collection file, in name order; an absent folder is an empty list."""
    return sorted(p for p in settings.collections_dir.glob("*.y*ml") if p.suffix in (".yaml", ".yml"))


def collection_names(settings: Settings) -> list[str]:
    """The names that the collection files declare, sorted; a file without one counts by its own name."""
    return sorted({_declared_name(path) or path.stem for path in collection_files(settings)})


def load_collection(settings: Settings, name: str) -> Collection:
    """The collection called ``name``.

    :raises BadConfiguration: no file defines it, or the file is refused.
    """
    names = {path: _declared_name(path) or path.stem for path in collection_files(settings)}
    for path in sorted(names, key=lambda p: p.stem != name):  # the file of that name first
        if names[path] == name:
            return read_collection(path)
    for path in names:
        if path.stem == name:
            declared = read_collection(path).name  # first of all its mistakes, of which the name may be one
            raise BadConfiguration(f"{path}: name", f"it is {declared!r}, not {name!r}", f"Run it by the name {declared}")
    known = ", ".join(names.values()) or "none"
    close = difflib.get_close_matches(name, list(names.values()), n=1)
    hint = f"Did you mean {close[0]}?" if close else f"Add {settings.collections_dir}/{name}.yaml"
    raise BadConfiguration(f"unknown collection {name!r}", f"{settings.collections_dir} has: {known}", hint)


def read_collection(path: Path) -> Collection:
    """Parse and check one collection file.

    :raises BadConfiguration: with file, key, what is wrong and what would be right.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:  # ValueError: an impossible date, an invalid byte
        raise BadConfiguration(str(path), f"not readable as YAML ({_one_line(error)})", "Fix the file") from error
    if not isinstance(raw, dict):
        raise BadConfiguration(str(path), "not a mapping of settings", "Start it with 'name: …' and 'source: …'")
    try:
        return Collection.model_validate(raw)
    except ValidationError as error:
        problems = "; ".join(_explain(dict(e)) for e in error.errors())
        raise BadConfiguration(str(path), problems, "See docs/collections.md for every key") from None


def _declared_name(path: Path) -> str | None:
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    name = raw.get("name") if isinstance(raw, dict) else None
    return name if isinstance(name, str) else None


_SECTIONS: dict[str, type[BaseModel]] = {
    "": Collection, "chunking": Chunking, "embedding": Embedding, "index": Index, "validation": Validation,
    "lexical": Lexical, "retrieval": Retrieval, "answers": Answers, "guardrails": Guardrails, "query_log": QueryLog,
    "generations": Generations, "near_duplicates": NearDuplicates, "privacy": Privacy,
    "training": Training, "alternatives": Embedding, "monitoring": Monitoring, "policy": Policies,
    "files": FilesSource, "jsonl": JsonlSource, "sql": SqlSource, "AssetSchedule": AssetSchedule,
}  # fmt: skip


def _explain(error: dict[str, Any]) -> str:
    """One pydantic error as 'key: what is wrong, what would be right'."""
    location = [str(part) for part in error["loc"]]
    shown = [p for i, p in enumerate(location) if not (i == 1 and location[0] in ("source", "schedule"))]
    key = ".".join(shown) or "file"
    if error["type"] == "extra_forbidden":
        section = _SECTIONS.get(location[-2] if len(location) > 1 else "", Collection)
        known = list(section.model_fields)
        close = difflib.get_close_matches(location[-1], known, n=1)
        return f"{key}: unknown key, " + (f"perhaps {close[0]} is meant" if close else f"known keys are {', '.join(known)}")
    if error["type"] == "missing":
        return f"{key}: missing, it is required"
    got = error.get("input")
    value = f" (got {got!r})" if isinstance(got, str | int | float | bool | type(None)) else ""
    return f"{key}: {error['msg'].removeprefix('Value error, ')}{value}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
