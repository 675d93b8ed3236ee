"""Events of assets, for the tests that listen to them under a running Airflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from include.stack.api import AirflowApi


def send_event(api: AirflowApi, asset: str, extra: Mapping[str, Any]) -> None:
    """Update an asset, as a webhook does."""
    found = api._json(api._client.get("/api/v2/assets", params={"name_pattern": asset}))["assets"]
    known = [one["id"] for one in found if one["name"] == asset]
    assert known, f"no DAG writes the asset {asset} or waits for it"
    api._json(api._client.post("/api/v2/assets/events", json={"asset_id": known[0], "extra": dict(extra)}))
