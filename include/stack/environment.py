"""Airflow's settings for the local stack: one place for what `up`, the tests and `make` hand to its processes."""

from __future__ import annotations

import base64
import json
import os
import secrets
import shlex
from typing import TYPE_CHECKING

from include.config import PROJECT_ROOT
from include.store import embedded
from include.store.embedded_data import write_file

if TYPE_CHECKING:
    from pathlib import Path

    from include.config import Settings

USER = "admin"
DEFAULT_PORT = 8080
_LOOPBACK = "127.0.0.1,localhost"


def airflow_environment(settings: Settings) -> dict[str, str]:
    """The variables under which Airflow runs here; starts the embedded server, whose database ``airflow`` it uses.

    Secrets are not in it: Airflow reads them from files of mode 0600 by its ``_CMD`` variants, in each process anew, so
    that neither a process list nor a task's environment shows them. The exception is a database URL that the user set.
    """
    home = settings.home.absolute()
    folder = _secrets(home)
    port = api_port(home)
    values = {
        "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW_CONFIG": str(home / "airflow" / "airflow.cfg"),
        "PYTHONPATH": os.pathsep.join([str(PROJECT_ROOT), str(PROJECT_ROOT / "plugins")]),
        "RAGWORKS_HOME": str(home),
        "RAGWORKS_COLLECTIONS_DIR": str(settings.collections_dir.absolute()),
        "RAGWORKS_COMPUTE": settings.compute,
        "NO_PROXY": _LOOPBACK,  # tasks talk to the api-server here, which no proxy can reach
        "no_proxy": _LOOPBACK,
        "OBJC_DISABLE_INITIALIZE_FORK_SAFETY": "YES",  # macOS kills the forked task processes without it
    }
    if settings.artifacts:
        values["RAGWORKS_ARTIFACTS"] = settings.artifacts
    if settings.database_url:
        values["RAGWORKS_DATABASE_URL"] = settings.database_url
    options = _options(home, port) | {
        f"{option}_CMD": f"cat {shlex.quote(str(folder / name))}"
        for option, name in (
            ("DATABASE__SQL_ALCHEMY_CONN", "database_url"),
            ("DATABASE__SQL_ALCHEMY_CONN_ASYNC", "database_url"),
            ("CORE__FERNET_KEY", "fernet_key"),
            ("API__SECRET_KEY", "api_secret_key"),
            ("API_AUTH__JWT_SECRET", "jwt_secret"),
        )
    }
    return values | {f"AIRFLOW__{option}": value for option, value in options.items()}


def process_environment(settings: Settings) -> dict[str, str]:
    """Lay :func:`airflow_environment` over the own environment, less the plain variables that win over ``_CMD``."""
    ours = airflow_environment(settings)
    inherited = {key: value for key, value in os.environ.items() if f"{key}_CMD" not in ours}
    for name in ("NO_PROXY", "no_proxy"):
        ours[name] = ",".join(filter(None, [inherited.get(name), _LOOPBACK]))
    ours["PYTHONPATH"] = os.pathsep.join(filter(None, [ours["PYTHONPATH"], inherited.get("PYTHONPATH")]))
    return inherited | ours


def _options(home: Path, port: int) -> dict[str, str]:
    return {
        "CORE__DAGS_FOLDER": str(PROJECT_ROOT / "dags"),
        "CORE__PLUGINS_FOLDER": str(PROJECT_ROOT / "plugins"),
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": "4",
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",  # the sample runs from its form with no toggle to look for
        "CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "CORE__AUTH_MANAGER": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
        "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(password_file(home)),
        "DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
        "API__HOST": "127.0.0.1",
        "API__PORT": str(port),
        "API__BASE_URL": f"http://127.0.0.1:{port}",
        "API__WORKERS": "1",
        "LOGGING__BASE_LOG_FOLDER": str(home / "logs" / "tasks"),
        "DAG_PROCESSOR__REFRESH_INTERVAL": "10",  # seconds until a new DAG file is seen; 300 by default
        "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "20",  # until a changed collection file is; DAG files at once
        "DAG_PROCESSOR__PARSING_PROCESSES": "1",
        "DAG_PROCESSOR__PRINT_STATS_INTERVAL": "0",
    }


def password_file(home: Path) -> Path:
    """Where the password of ``admin`` stands, as {"admin": "…"}."""
    return home / "airflow" / "simple_auth_manager_passwords.json.generated"


def api_port(home: Path) -> int:
    """The port that the api-server has, or had last."""
    kept = home / "run" / "api-server.port"
    text = kept.read_text().strip() if kept.exists() else ""
    return int(text) if text.isdigit() else DEFAULT_PORT


def keep_api_port(home: Path, port: int) -> None:
    """Note the api-server's port for later commands."""
    (home / "run").mkdir(parents=True, exist_ok=True)
    write_file(home / "run" / "api-server.port", f"{port}\n", 0o644)


def _secrets(home: Path) -> Path:
    """The folder of Airflow's secrets, each generated once; the database address anew, as its port may move."""
    embedded.ensure_running(home)
    folder = home / "airflow" / "secrets"
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    for name in ("jwt_secret", "api_secret_key"):
        _once(folder / name, secrets.token_urlsafe(48))
    _once(folder / "fernet_key", base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())
    # Written before Airflow would, which prints the password into its log.
    _once(password_file(home), json.dumps({USER: secrets.token_urlsafe(12)}) + "\n")
    address = embedded.url(home, "airflow").replace("postgresql://", "postgresql+psycopg://", 1)
    write_file(folder / "database_url", address, 0o600)
    return folder


def _once(path: Path, text: str) -> None:
    if not path.exists():
        write_file(path, text, 0o600)
