"""Sensors for any DAG. They wait in the triggerer: no worker slot is held."""

from ragworks.sensors.waiting import (
    ChampionChangedSensor,
    DriftSensor,
    IndexFreshSensor,
    NewFeedbackSensor,
    QualitySensor,
    SignalSensor,
)

__all__ = [
    "ChampionChangedSensor",
    "DriftSensor",
    "IndexFreshSensor",
    "NewFeedbackSensor",
    "QualitySensor",
    "SignalSensor",
]
