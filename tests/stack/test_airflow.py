"""The whole local stack, really started: up, used over REST, up again, hurt, down."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from typing import TYPE_CHECKING, Any

import psutil
import psycopg
import pytest

from include.config import Settings
from include.errors import ServiceUnavailable
from include.stack import airflow, environment, processes
from include.store import embedded
from tests.conftest import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DAG = """
from airflow.sdk import dag, task
@dag(dag_id="new_dag", schedule=None)
def new_dag():
    @task
    def write():
        open({path!r}, "w").write("done")
    write()
new_dag()
"""


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    found = Settings(home=tmp_path / "home", artifacts=(tmp_path / "artifacts").as_uri())
    yield found
    airflow.down(found)


@pytest.fixture
def dags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DAG folder of this test in the place of the project's."""
    folder = tmp_path / "dags"
    folder.mkdir()
    project = environment._options
    monkeypatch.setattr(environment, "_options", lambda home, port: project(home, port) | {"CORE__DAGS_FOLDER": str(folder)})
    return folder


def call(url: str, token: str = "", body: dict[str, Any] | None = None) -> dict[str, Any]:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    request = urllib.request.Request(url, headers=headers, data=None if body is None else json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=10) as reply:
        return dict(json.load(reply))


def sign_in(status: airflow.StackStatus) -> str:
    password = json.loads(status.password_file.read_text())[status.user]
    return str(call(f"{status.url}/auth/token", body={"username": status.user, "password": password})["access_token"])


def eventually(check: Any, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.3)


def parsed(url: str, token: str, dag_id: str) -> bool:
    return dag_id in [d["dag_id"] for d in call(f"{url}/api/v2/dags", token)["dags"]]


def listening(status: airflow.StackStatus) -> set[str]:
    """Addresses on which the stack's processes listen."""
    family = [p for process in processes_of(status) for p in (process, *process.children(recursive=True))]
    return {c.laddr.ip for p in family for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN}


def processes_of(status: airflow.StackStatus) -> list[psutil.Process]:
    home = status.logs.parent
    return [found for name in airflow.COMPONENTS if (found := processes.find(home, name)) is not None]


@pytest.mark.slow
def test_up_runs_a_new_dag_and_down_leaves_nothing(settings: Settings, dags: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    status = airflow.up(settings, port=free_port(), progress=lines.append)
    assert status.running
    assert status.components == tuple(airflow.COMPONENTS)
    assert not status.already
    assert any("scheduler" in line for line in lines)
    assert listening(status) == {"127.0.0.1"}
    assert status.password_file.stat().st_mode & 0o777 == 0o600

    token = sign_in(status)
    pools = {p["name"]: p for p in call(f"{status.url}/api/v2/pools", token)["pools"]}
    assert (pools["gpu"]["slots"], pools["gpu"]["include_deferred"]) == (1, True)
    connection = call(f"{status.url}/api/v2/connections/ragworks_postgres", token)
    assert f":{connection['port']}/" in embedded.url(settings.home)

    written = tmp_path / "written"
    (dags / "new.py").write_text(DAG.format(path=str(written)))
    eventually(lambda: parsed(status.url, token, "new_dag"), 180)
    call(f"{status.url}/api/v2/dags/new_dag/dagRuns", token, {"logical_date": None})
    eventually(written.exists, 180)

    began = time.monotonic()
    again = airflow.up(settings)
    assert time.monotonic() - began < 10  # a fraction of a second on an idle machine; a start takes ten
    assert again.already
    assert (again.url, again.running) == (status.url, True)

    family = processes_of(status)
    assert set(airflow.down(settings)) == {*airflow.COMPONENTS, "postgres"}
    assert not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in family)
    assert not airflow.status(settings).running
    assert airflow.down(settings) == ()


@pytest.mark.slow
def test_up_heals_what_was_killed_and_takes_the_next_port(settings: Settings, dags: Path) -> None:
    with socket.socket() as taken:
        port = free_port()
        taken.bind(("127.0.0.1", port))
        taken.listen()
        starts = [threading.Thread(target=airflow.up, args=(settings,), kwargs={"port": port}) for _ in range(2)]
        for start in starts:
            start.start()
        for start in starts:
            start.join()
        status = airflow.status(settings)
        assert status.running
        assert status.url != f"http://127.0.0.1:{port}"
    for name in ("scheduler", "triggerer"):
        found = processes.find(settings.home, name)
        assert found is not None
        os.kill(found.pid, signal.SIGKILL)
        found.wait()
    kept = processes.find(settings.home, "api-server")
    assert not airflow.status(settings).running
    healed = airflow.up(settings)
    assert healed.running
    assert healed.url == status.url
    assert processes.find(settings.home, "api-server") == kept


@pytest.mark.slow
def test_a_component_that_ends_is_named_and_nothing_stays(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(airflow.COMPONENTS, "triggerer", ("airflow", "triggerer", "--capacity", "many"))
    with pytest.raises(ServiceUnavailable, match=r"triggerer did not start: it ended: .*invalid.*many.*See .*triggerer.log"):
        airflow.up(settings, port=free_port())
    status = airflow.status(settings)
    assert status.components == ()
    assert not status.database


def test_the_environment_holds_no_secret_and_airflow_reads_them(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "of another deployment")
    monkeypatch.setenv("NO_PROXY", "example.org")
    found = environment.airflow_environment(settings)
    folder = settings.home / "airflow/secrets"
    assert folder.stat().st_mode & 0o777 == 0o700
    for path in folder.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.read_text() not in " ".join(found.values())
    environ = environment.process_environment(settings)
    assert environ["NO_PROXY"] == "example.org,127.0.0.1,localhost"
    code = (
        "from airflow.configuration import conf\n"
        "for o in ('core fernet_key', 'api_auth jwt_secret', 'database sql_alchemy_conn'): print(conf.get(*o.split()))"
    )
    printed = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True).stdout
    assert printed.split() == [(folder / n).read_text() for n in ("fernet_key", "jwt_secret", "database_url")]
    with psycopg.connect(printed.split()[2].replace("+psycopg", "")) as connection:
        assert connection.info.dbname == "airflow"
    assert environment.airflow_environment(settings) == found
