"""All assets, so that who writes one and who waits for it cannot spell it differently."""

from __future__ import annotations

from airflow.sdk import Asset, AssetWatcher


def index_asset(collection: str) -> Asset:
    """Updated when a collection's live index has changed; ``extra`` of its events has the run and its counts."""
    return Asset(f"ragworks.{collection}.index")


def source_asset(collection: str, seconds: float) -> Asset:
    """Updated when a collection's source is seen to differ from what the database knows; ``extra`` has counts.

    :param seconds: between two looks, which Airflow's triggerer takes.
    """
    from ragworks.triggers.source_changes import SourceChangeTrigger

    name = f"ragworks.{collection}.source"
    return Asset(name, watchers=[AssetWatcher(name=name, trigger=SourceChangeTrigger(collection, seconds))])


def feedback_asset(collection: str) -> Asset:
    """Updated when people have judged answers from a collection."""
    return Asset(f"ragworks.{collection}.feedback")


def champion_asset(family: str) -> Asset:
    """Updated when another model of a family went live.

    :param family: ``reranker``, ``embedder`` or ``llm``.
    """
    return Asset(f"ragworks.{family}.champion")


def retrain_asset(family: str) -> Asset:
    """Updated when monitoring asks for a training of a family.

    :param family: ``reranker``, ``embedder`` or ``llm``.
    """
    return Asset(f"ragworks.{family}.retrain")
