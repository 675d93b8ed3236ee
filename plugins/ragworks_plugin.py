"""The one Airflow plugin of the project: what Airflow must be told about stands here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.plugins_manager import AirflowPlugin

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping


async def webhook(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
) -> None:
    """The receiver of reports; every process of Airflow loads this file, and only the API server needs what it imports."""
    from ragworks.webhook import app

    await app(scope, receive, send)


class RagworksPlugin(AirflowPlugin):
    """Ragworks inside Airflow."""

    name = "ragworks"
    fastapi_apps = [{"app": webhook, "url_prefix": "/ragworks", "name": "Ragworks reports"}]  # noqa: RUF012 - Airflow's shape
