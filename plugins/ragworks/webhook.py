"""What Ragworks answers inside Airflow's API server: reports of other systems, and the pages of weeks.

``POST /ragworks/alerts/{source}`` receives reports, ``GET /ragworks/weeks/{collection}/{week}`` shows a page that was written.

Airflow leaves the routes of plugins open to anyone, so every route here asks for a signed-in user, who may create asset events
or see the collection's monitor: 401 without a token, 403 without the right. A delivery is kept in Postgres and nothing else is
done here; the triggerer announces what it finds there, so a delivery that comes twice, late, or just before the server dies
changes nothing.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagDetails
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_asset
from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response

from include.errors import RagworksError, Terminal
from include.monitoring.alerts import PARSERS, Alert, parse

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST = 1_000_000  # bytes of a delivery
# A page needs no script and no network; whatever a name in it might be, the browser runs nothing.
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:",
    "X-Content-Type-Options": "nosniff",
}  # fmt: skip
Name = Annotated[str, Query(max_length=48)]

# No pages of its own: they would be open to anyone.
app = FastAPI(title="Ragworks", docs_url=None, redoc_url=None, openapi_url=None)


async def _body(request: Request, user: GetUserDep) -> Any:
    """The parsed body of a signed-in user; nobody else's is read.

    It is read as it comes and stopped at the limit, because its length may not be told beforehand.
    """
    del user
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > LARGEST:
            raise HTTPException(413, f"A delivery has at most {LARGEST:,} bytes")
    try:
        return json.loads(bytes(data))
    except (ValueError, RecursionError) as error:  # also an encoding that is none, and ten thousand brackets
        raise HTTPException(422, f"The body is not JSON: {error}") from None


@app.post("/alerts/{source}", dependencies=[Depends(requires_access_asset(method="POST"))])
def receive(
    source: str, user: GetUserDep, payload: Annotated[Any, Depends(_body)], collection: Name = "", family: Name = ""
) -> dict[str, int]:
    """Keep the reports of a delivery.

    :return: how many it had, and how many of them were new.
    """
    del user
    if source not in PARSERS:
        raise HTTPException(404, f"No source {source!r}: use one of {', '.join(PARSERS)}")
    with _answered():
        found = parse(source, payload, collection=collection, family=family)
        return {"reports": len(found), "new": _keep(found)}


@app.get("/weeks/{collection}/{week}")
def week_page(collection: str, week: str, user: GetUserDep) -> Response:
    """The page of a week, as the newest run has written it, for who may see ``monitor_<collection>``."""
    manager = get_auth_manager()
    if not manager.is_authorized_dag(method="GET", details=DagDetails(id=f"monitor_{collection}"), user=user):
        raise HTTPException(403, "Forbidden")
    with _answered():
        page = _page(collection, week)
    if page is None:
        raise HTTPException(404, f"No page of {week} was written; ragworks report {collection} --week {week} writes it")
    return Response(page, media_type="text/html; charset=utf-8", headers=PAGE_HEADERS)


def _page(collection: str, week: str) -> bytes | None:
    from include.collection_file import load_collection
    from include.monitoring.weekly import folder
    from include.monitoring.weeks import bounds
    from include.registry.stores import open_store
    from ragworks.hooks.ragworks import settings_from_airflow

    settings = settings_from_airflow()
    load_collection(settings, collection)
    bounds(week)
    return open_store(settings).read(f"{folder(collection)}/{week}.html")


def _keep(found: list[Alert]) -> int:
    from include.collection_file import load_collection
    from include.store import alerts, collections
    from include.store.pool import open_pool
    from ragworks.hooks.ragworks import settings_from_airflow

    settings = settings_from_airflow()
    names = sorted({one.collection for one in found})
    for name in names:
        load_collection(settings, name)
    with open_pool(settings, max_size=1) as pool, pool.connection() as connection:
        known = {name: collections.collection_id(connection, name) for name in names}
        return alerts.save(connection, settings.environment, known, found)


@contextmanager
def _answered() -> Iterator[None]:
    """What is wrong with a delivery is told to who sent it; when the database is away, it may be sent again."""
    try:
        yield
    except Terminal as error:
        raise HTTPException(422, str(error)) from error
    except RagworksError as error:
        raise HTTPException(503, str(error), headers={"Retry-After": "30"}) from error
