"""Who may use the routes of the plugin: nobody unknown, and no signed-in user without the right."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.api_fastapi.app import create_auth_manager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from fastapi.testclient import TestClient

from include.store.pool import open_pool
from ragworks.operators.weekly import ReportWeekOperator
from ragworks.webhook import app

if TYPE_CHECKING:
    from collections.abc import Callable

    from include.config import Settings

REPORT = {"key": "1", "title": "bad answers", "collection": "handbook"}


@pytest.fixture
def as_role() -> Callable[[str | None], dict[str, str]]:
    """Headers of a user with a role of Airflow's simple auth manager; None: without one."""
    from airflow.models.revoked_token import RevokedToken
    from airflow.settings import engine

    RevokedToken.__table__.create(engine, checkfirst=True)  # all that is read of Airflow's own tables here
    manager: Any = create_auth_manager()

    def headers(role: str | None) -> dict[str, str]:
        return {"Authorization": f"Bearer {manager.generate_jwt(SimpleAuthManagerUser(username='ada', role=role))}"}

    return headers


def test_rights(
    settings: Settings, collection: Callable[..., str], as_role: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in (
        ("DATABASE_URL", settings.database_url),
        ("HOME", tmp_path),
        ("COLLECTIONS_DIR", settings.collections_dir),
    ):
        monkeypatch.setenv(f"RAGWORKS_{name}", str(value))
    monkeypatch.delenv("RAGWORKS_ARTIFACTS", raising=False)
    collection()
    with open_pool(settings) as pool, pool.connection() as connection:
        connection.execute("insert into ragworks.collection (name) values ('handbook')")
    report = ReportWeekOperator(task_id="report", collection="handbook", week="2026-W48")
    [link] = report.operator_extra_links
    assert link.get_link(report, ti_key=None) == ""  # type: ignore[arg-type]
    page = report.execute({})
    path = "/weeks/handbook/2026-W48"
    assert link.get_link(report, ti_key=None).endswith(f"/ragworks{path}")  # type: ignore[arg-type]
    client = TestClient(app)
    for role, post, get in (("op", 200, 200), ("viewer", 403, 200), (None, 403, 403)):
        assert client.post("/alerts/plain", json=REPORT, headers=as_role(role)).status_code == post, role
        assert client.get(path, headers=as_role(role)).status_code == get, role
    assert (client.post("/alerts/plain", json=REPORT).status_code, client.get(path).status_code) == (401, 401)
    shown = client.get(path, headers=as_role("viewer"))
    assert shown.content == Path(page.removeprefix("file://")).read_bytes()
    assert "default-src 'none'" in shown.headers["content-security-policy"]
    assert client.get("/weeks/handbook/2026-W47", headers=as_role("viewer")).status_code == 404
    assert client.get("/weeks/handbook/..%2F2026-W47", headers=as_role("viewer")).status_code in (404, 422)
    assert client.get("/weeks/other/2026-W48", headers=as_role("viewer")).status_code == 422
    for body in (b'{"a": "\\u0000"}', b"[" * 100_000, b'{"a": "\\ud800"}'):
        assert client.post("/alerts/plain", content=body, headers=as_role("op")).status_code == 422
