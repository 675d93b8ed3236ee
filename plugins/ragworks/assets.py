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


def feedback_asset(collection: str, minimum: int = 20, hours: float = 24) -> Asset:
    """Updated when people have judged answers from a collection and a window is over; ``extra`` has the count.

    :param minimum: judgements since the last measurement, which Airflow's triggerer counts.
    :param hours: length of a window.
    """
    from ragworks.triggers.news import FeedbackTrigger

    name = f"ragworks.{collection}.feedback"
    return Asset(name, watchers=[AssetWatcher(name=name, trigger=FeedbackTrigger(collection, minimum, hours))])


def alert_asset(collection: str) -> Asset:
    """Updated when another system has reported something about a collection; ``extra`` has the count."""
    from ragworks.triggers.news import AlertTrigger

    name = f"ragworks.{collection}.alert"
    return Asset(name, watchers=[AssetWatcher(name=name, trigger=AlertTrigger(collection))])


def champion_asset(family: str) -> Asset:
    """Updated when another model of a family went live.

    :param family: ``reranker``, ``embedder`` or ``llm``.
    """
    return Asset(f"ragworks.{family}.champion")


def retrain_asset(family: str) -> Asset:
    """Updated when monitoring, or anybody through REST, asks for a training of a family.

    Airflow's triggerer claims approved decisions and updates it within seconds; ``extra`` has their ids.

    :param family: ``reranker``, ``embedder`` or ``llm``.
    """
    from ragworks.triggers.retrain import RetrainTrigger

    name = f"ragworks.{family}.retrain"
    return Asset(name, watchers=[AssetWatcher(name=name, trigger=RetrainTrigger(family))])
