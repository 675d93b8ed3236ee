"""A collection file: its sections as frozen models, and how it is read; nothing below reads YAML."""

from include.collection_file.collection import AssetSchedule, Collection
from include.collection_file.indexing import (
    LANGUAGES,
    Chunking,
    Embedding,
    Generations,
    Index,
    Lexical,
    NearDuplicates,
    Privacy,
    Validation,
)
from include.collection_file.load import collection_files, collection_names, load_collection, read_collection
from include.collection_file.monitoring import Monitoring, Policies, Policy
from include.collection_file.questions import CHAMPION, Answers, Guardrails, Mode, QueryLog, Retrieval
from include.collection_file.sources import FilesSource, JsonlSource, SqlSource
from include.collection_file.training import Training

__all__ = [
    "CHAMPION",
    "LANGUAGES",
    "Answers",
    "AssetSchedule",
    "Chunking",
    "Collection",
    "Embedding",
    "FilesSource",
    "Generations",
    "Guardrails",
    "Index",
    "JsonlSource",
    "Lexical",
    "Mode",
    "Monitoring",
    "NearDuplicates",
    "Policies",
    "Policy",
    "Privacy",
    "QueryLog",
    "Retrieval",
    "SqlSource",
    "Training",
    "Validation",
    "collection_files",
    "collection_names",
    "load_collection",
    "read_collection",
]
