"""`up` and `down`: Airflow with its UI beside the embedded Postgres, on one machine, with one command."""

from __future__ import annotations

import hashlib
import json
import logging
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING

from include.config import PROJECT_ROOT
from include.errors import BadConfiguration, ServiceUnavailable, Terminal
from include.stack import processes
from include.stack.environment import (
    DEFAULT_PORT,
    USER,
    api_port,
    keep_api_port,
    password_file,
    process_environment,
)
from include.stack.settings_file import read_airflow_settings
from include.store import embedded
from include.store.embedded import held
from include.store.embedded_data import write_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from include.config import Settings

logger = logging.getLogger(__name__)

# Only what has no port of its own: local logs are read from the disk, and 8793 and 8794 would listen on every address.
COMPONENTS = {
    "api-server": ("airflow", "api-server"),
    "scheduler": ("airflow", "scheduler", "--skip-serve-logs"),
    "dag-processor": ("airflow", "dag-processor"),
    "triggerer": ("airflow", "triggerer", "--skip-serve-logs"),
}
READY_SECONDS = 120.0
TASK_SECONDS = 20.0  # that `down` gives running tasks; a task killed after that is retried
SETTINGS_FILE = PROJECT_ROOT / "airflow_settings.yaml"


@dataclass(frozen=True)
class StackStatus:
    """The local stack as a person needs it.

    :param password_file: JSON that holds the password of ``user``.
    :param running: all components live and the api-server answers.
    :param components: names of the processes that live.
    :param database: whether the embedded Postgres runs.
    :param already: ``up`` found it running.
    """

    url: str
    user: str
    password_file: Path
    running: bool
    components: tuple[str, ...]
    database: bool
    logs: Path
    already: bool = False


def up(
    settings: Settings, *, port: int = DEFAULT_PORT, progress: Callable[[str], None] = logger.info
) -> StackStatus:  # fmt: skip
    """Start what does not run yet, and return when all of it answers: about 15 s the first time, 10 s later.

    :param port: of the UI and the REST API on 127.0.0.1; the next free one if it is taken.
    :param progress: receives one line a step.
    :raises ServiceUnavailable: a component ends or does not answer; what this call started is stopped again.
    :raises BadConfiguration: ``airflow_settings.yaml`` or the folder is refused.
    """
    home = settings.home.absolute()
    began = time.monotonic()
    with held(home, "stack.lock"):
        found = status(settings)
        if found.running:
            progress(f"Airflow already runs on {found.url}")
            return replace(found, already=True)
        missing = [name for name in COMPONENTS if name not in found.components]
        try:
            progress("starting Postgres")
            embedded.ensure_running(home)
            if "api-server" in missing:
                # The others, if they live, know the old port.
                keep_api_port(home, _free_port(api_port(home) if found.components else port))
            environment = process_environment(settings)
            _prepare(settings, environment, progress)
            started = datetime.now(UTC)
            progress(f"starting {', '.join(missing)}")
            for name in missing:
                processes.start(home, name, COMPONENTS[name], environment)
            _wait(home, dict.fromkeys(missing, started), progress)
        except BaseException:  # also Ctrl-C: no half a stack stays behind
            processes.stop(home, missing)
            if not found.database:
                embedded.stop(home)
            raise
        progress(f"ready in {time.monotonic() - began:.0f} s")
        return status(settings)


def down(settings: Settings, *, progress: Callable[[str], None] = logger.info) -> tuple[str, ...]:
    """Stop Airflow and then the embedded Postgres; a database of ``RAGWORKS_DATABASE_URL`` is left alone.

    :returns: the names of what was running; nothing when nothing was.
    """
    home = settings.home.absolute()
    if not home.is_dir():
        return ()
    with held(home, "stack.lock"):
        progress("stopping Airflow")
        stopped = processes.stop(home, ["dag-processor", "triggerer"])
        stopped += processes.stop(home, ["scheduler"], patience=TASK_SECONDS)
        stopped += processes.stop(home, ["api-server"])  # last, as tasks that end report to it
        progress("stopping Postgres")
        if embedded.stop(home):
            stopped.append("postgres")
        return tuple(stopped)


def status(settings: Settings) -> StackStatus:
    """What runs at this moment; starts nothing."""
    home = settings.home.absolute()
    port = api_port(home)
    living = tuple(name for name in COMPONENTS if processes.find(home, name) is not None)
    database = embedded.running(home)
    healthy = len(living) == len(COMPONENTS) and database and not _unhealthy(port, {})
    return StackStatus(
        url=f"http://127.0.0.1:{port}",
        user=USER,
        password_file=password_file(home),
        running=healthy,
        components=living,
        database=database,
        logs=home / "logs",
    )


def _prepare(settings: Settings, environment: dict[str, str], progress: Callable[[str], None]) -> None:
    """Migrate and load ``airflow_settings.yaml``, when the version, the file or an address has changed.

    The mark stands beside the data folder: who moves that away begins anew. A pool changed in the UI stays changed.
    """
    home = settings.home.absolute()
    read_airflow_settings(SETTINGS_FILE)  # its mistakes as an error of this process, before anything starts
    mark = home / "postgres" / "airflow-prepared"
    airflow = version("apache-airflow-core")
    address = settings.database_url or embedded.url(home)
    wanted = hashlib.sha256(SETTINGS_FILE.read_bytes() + address.encode()).hexdigest()
    done = mark.read_text().split() if mark.exists() else []
    if done == [airflow, wanted]:
        return
    migrate = ["--migrate"] if done[:1] != [airflow] else []
    progress("preparing Airflow's database" if migrate else "loading airflow_settings.yaml")
    command = [sys.executable, "-m", "ragworks.load_settings", *migrate, str(SETTINGS_FILE)]
    log = processes.log_file(home, "prepare")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output:
        code = subprocess.run(
            command, cwd=PROJECT_ROOT, env=environment, check=False,
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        ).returncode  # fmt: skip
    if code != 0:
        what, why = "Airflow's database cannot be prepared", processes.last_line(log)
        kind = BadConfiguration if code == Terminal.exit_code else ServiceUnavailable
        raise kind(what, why, f"See {log}")
    write_file(mark, f"{airflow} {wanted}\n", 0o600)


def _wait(home: Path, since: dict[str, datetime], progress: Callable[[str], None]) -> None:
    began = time.monotonic()
    told: list[str] = []
    while waiting := _unhealthy(api_port(home), since):
        for name in COMPONENTS:
            if processes.find(home, name) is None:
                raise _failure(home, name, "it ended")
        if time.monotonic() - began > READY_SECONDS:
            raise _failure(home, waiting[0], f"not healthy after {READY_SECONDS:.0f} s")
        if waiting != told:
            progress(f"waiting for {', '.join(waiting)}")
            told = waiting
        time.sleep(0.2)


def _failure(home: Path, name: str, why: str) -> ServiceUnavailable:
    log = processes.log_file(home, name)
    return ServiceUnavailable(f"Airflow's {name} did not start", f"{why}: {processes.last_line(log)}", f"See {log}")


def _unhealthy(port: int, since: dict[str, datetime]) -> list[str]:
    """The components that do not answer.

    :param since: when each was started; an older heartbeat is of an earlier process, which may have been killed.
    """
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy leads to this machine
    try:
        with opener.open(f"http://127.0.0.1:{port}/api/v2/monitor/health", timeout=2) as reply:
            health = json.load(reply)
    except (OSError, ValueError):
        return ["api-server"]
    return [
        name
        for name in ("scheduler", "dag-processor", "triggerer")
        if not _beats(health.get(name.replace("-", "_")) or {}, name.replace("-", "_"), since.get(name))
    ]


def _beats(entry: dict[str, str], key: str, since: datetime | None) -> bool:
    if entry.get("status") != "healthy":
        return False
    beat = entry.get(f"latest_{key}_heartbeat")
    return since is None or (beat is not None and datetime.fromisoformat(beat) >= since)


def _free_port(wanted: int) -> int:
    for port in range(wanted, min(wanted + 100, 65536)):
        if embedded.port_is_free(port):
            return port
    raise ServiceUnavailable(f"ports {wanted} to {wanted + 99}", "all are taken", "Give another one with --port")
